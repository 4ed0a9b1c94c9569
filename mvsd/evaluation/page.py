"""A static site of an evaluation: scenes with every sound, and a listening test. It needs no server and no network."""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from mvsd.acoustics import energy_decay_db, fit_response
from mvsd.audio import save_audio
from mvsd.errors import DataError, NotMeasurable, OutputExistsError
from mvsd.evaluation.clips import Clip, Waveform
from mvsd.evaluation.evaluate import estimates, require_apart
from mvsd.evaluation.metrics import Metric, Scores, Task, versions
from mvsd.evaluation.parallel import computed
from mvsd.evaluation.results import Results
from mvsd.evaluation.settings import Settings, load_clip, open_examples
from mvsd.evaluation.systems import WRONG, GroundTruth
from mvsd.evaluation.table import Grid
from mvsd.evaluation.votes import ListeningTest, Row, make_test, our_row
from mvsd.responses import describe_response
from mvsd.scene import Scene
from mvsd.whole_file import stop_signals_raise

Draw = Callable[[Mapping[Path, Waveform], int], None]

LISTENING = "listening-test"  # subfolder, complete in itself: it can be handed out without the page
_PARTS = {"index.html", "page.css", "page.js", "scenes", LISTENING, ".DS_Store"}
_LEVELLED = "levelled"  # subfolder with all sounds at one level, while the site is made
QUESTIONS: dict[Task, str] = {
    "reverberation": "Which one sounds as if recorded in this room?",
    "dereverberation": "Which one sounds more as if recorded close to the mouth, without a room?",
}
_TEMPLATES = Path(__file__).parent / "templates"
_PEAK = 0.9
_CHART = (260, 96, 24, 14)  # width, height, left and bottom margin of a decay curve, in pixels of the drawing
_DECAY_DB, _DECAY_POINTS = 60.0, 120
_IS_OURS = '<meta name="generator" content="mvsd evaluate">'


@dataclass(frozen=True)
class Sound:
    """One row of a scene: its file and decay curve, or the reason why there is none."""

    row: Row
    reason: str
    decay: tuple[tuple[float, float], ...]
    measures: str


@dataclass(frozen=True)
class SceneBlock:
    """All sounds of one clip, which lie in `scenes/FOLDER`."""

    folder: str
    clip: str
    title: str
    seconds: float
    highest_khz: float
    has_photo: bool
    has_wrong_photo: bool
    sounds: tuple[Sound, ...]
    wanted: Row | None


def write_page(
    results: Results,
    folder: str | Path,
    draw: Draw,
    *,
    num_scenes: int = 8,
    jobs: int = 0,
    progress: Callable[[float, float | None], None] | None = None,
) -> ListeningTest:
    """Write the site into a folder, whole or not at all; a site of ours that is there is replaced.

    `draw` writes bare spectrograms on one scale (`mvsd.figures.spectrogram_images`). The scenes are spread evenly over
    the data set. The sounds of a scene share a gain, except in the listening test, where all have the same RMS.
    Returns the listening test, whose key belongs beside the results, not into the site.

    Raises:
        OutputExistsError: the folder holds something else.
        DataError: it lies in what was evaluated, or cannot be written.
    """
    require_apart(results.settings, folder, is_page=True)
    folder = Path(folder).resolve()  # a link keeps pointing to its folder
    require_place_for_page(folder)
    num_clips = len(open_examples(results.settings))
    indices = sorted({int(i) for i in np.linspace(0, num_clips - 1, min(num_scenes, num_clips)).round()})
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with stop_signals_raise():
        try:
            (part / LISTENING / "sounds").mkdir(parents=True)
            (part / LISTENING / "photos").mkdir()
            blocks = dict[int, SceneBlock | None]()
            arguments = (results.settings, part, draw)
            for index, block in computed(_render_scene, indices, arguments, jobs):
                blocks[index] = block
                if progress is not None:
                    progress(len(blocks), len(indices))
            ordered = [block for index in indices if (block := blocks[index]) is not None]
            levelled = _levelled(part, results.settings, ordered)
            test = _listening_test(results.settings, levelled)
            _write_main(part, results, ordered)
            _write_listening(part / LISTENING, results.settings, test, ordered, levelled)
            shutil.rmtree(part / _LEVELLED, ignore_errors=True)
            _put(part, folder)
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return test


def _put(part: Path, folder: Path) -> None:
    """Move a finished site to its place; one that was there is deleted only then."""
    before = part.with_suffix(".before")
    if folder.exists():
        folder.rename(before)
    try:
        part.rename(folder)
    except OSError:
        if before.exists():
            before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def require_place_for_page(folder: Path) -> None:
    """Raise OutputExistsError where a page would replace something else."""
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{folder} is a file; give a folder for the page")
    if folder.exists() and any(folder.iterdir()) and not _is_ours(folder):
        raise OutputExistsError(f"{folder} holds something other than a page; choose another folder")
    if folder.exists() and (others := sorted({path.name for path in folder.iterdir()} - _PARTS)):
        raise OutputExistsError(f"{folder} holds {others[0]}, which is no part of a page; move it first")


# ---------------------------------------------------------------------------------------- one scene


def _render_scene(index: int, settings: Settings, part: Path, draw: Draw) -> SceneBlock | None:
    """Sounds, spectrograms and photos of a clip, into the site's folder; None if it cannot be loaded."""
    try:
        clip = load_clip(settings, index)
    except DataError:
        return None  # the table says so
    made = [
        (system, (system.name, condition), sound) for system, condition, sound in estimates(settings, clip)
    ]
    waveforms = {row: sound for _, row, sound in made if not isinstance(sound, str)}
    folder = part / "scenes" / f"{index:06d}"
    folder.mkdir(parents=True)
    files = {row: folder / f"{number}.flac" for number, (_, row, _) in enumerate(made, 1)}
    _save_sounds({files[row]: waveform for row, waveform in waveforms.items()}, clip.sample_rate, level=False)
    draw({files[row].with_suffix(".png"): w for row, w in waveforms.items()}, clip.sample_rate)
    levelled = part / _LEVELLED / folder.name
    levelled.mkdir(parents=True)
    equal = {levelled / files[row].name: waveform for row, waveform in waveforms.items()}
    _save_sounds(equal, clip.sample_rate, level=True)
    _save_photo(clip.scene, folder / "photo.jpg")
    _save_photo(clip.wrong_scene, folder / "wrong.jpg")
    if settings.task == "reverberation":  # how a voice sounds without a room is not seen on a photo
        _save_photo(clip.scene, part / LISTENING / "photos" / f"{index:06d}.jpg")
    sounds = [_sound(clip, row, sound) for _, row, sound in made]
    truth = [row for system, row, _ in made if isinstance(system, GroundTruth)]
    return SceneBlock(
        folder=folder.name,
        clip=clip.key,
        title=str(clip.metadata.get("room", clip.key)),
        seconds=len(clip.source) / clip.sample_rate,
        highest_khz=min(clip.sample_rate / 2, 12_000) / 1000,
        has_photo=clip.scene is not None,
        has_wrong_photo=clip.wrong_scene is not None,
        sounds=tuple(sounds),
        wanted=truth[0] if truth else None,
    )


def _save_sounds(waveforms: Mapping[Path, Waveform], sample_rate: int, *, level: bool) -> None:
    """All with one gain, or each brought to the same RMS first; the loudest sample of all is `_PEAK`."""
    gains = dict.fromkeys(waveforms, 1.0)
    if level:
        gains = {path: 1 / max(float(np.sqrt(np.mean(w**2))), 1e-9) for path, w in waveforms.items()}
    peak = max((gains[path] * float(np.abs(w).max()) for path, w in waveforms.items()), default=1.0)
    for path, waveform in waveforms.items():
        save_audio(path, gains[path] * _PEAK / max(peak, 1e-9) * waveform, sample_rate, subtype="PCM_16")


def _save_photo(scene: Scene | None, path: Path) -> None:
    if scene is not None:
        Image.fromarray(scene.image).save(path, quality=90)


def _sound(clip: Clip, row: Row, sound: Waveform | str) -> Sound:
    """Its decay curve is that of the response fitted from the dry voice to it, in (s, dB)."""
    if isinstance(sound, str):
        return Sound(row, sound, (), "")
    try:
        if clip.dry is None:
            raise NotMeasurable("no dry voice to compare with")
        seconds = min(1.0, len(sound) / clip.sample_rate / 3)
        response = fit_response(clip.dry, sound, clip.sample_rate, seconds)
        curve = energy_decay_db(response)
    except NotMeasurable as reason:
        return Sound(row, "", (), f"no decay curve: {reason}")
    shown = np.flatnonzero(curve >= -_DECAY_DB)
    shown = shown[:: max(1, len(shown) // _DECAY_POINTS)]
    decay = tuple((float(i / clip.sample_rate), float(curve[i])) for i in shown)
    return Sound(row, "", decay, describe_response(response, clip.sample_rate, ("T20", "DRR")))


# ------------------------------------------------------------------------------------ the main page


def _write_main(part: Path, results: Results, blocks: Sequence[SceneBlock]) -> None:
    scores = {(r.clip, r.system, r.condition): r.scores for r in results.records}
    settings = results.settings
    has_test = any(_has_trials(settings, block) for block in blocks)
    link = f'<p><a href="{LISTENING}/index.html">Listening test</a></p>' if has_test else ""
    definitions = [[name, d["definition"]] for name, d in results.definitions().items()]
    libraries = ", ".join(f"{name} {version}" for name, version in versions().items())
    page = {
        "title": html.escape(f"{settings.task.capitalize()}: {results.num_clips} clips"),
        "summary": "Mean over the clips, with the 95 % bootstrap interval of the mean. "
        f"{len(blocks)} of them can be heard below.",
        "table": results.table.grid.html(),
        "definitions": Grid(["column", "definition"], definitions).html(),
        "listening": link,
        "scenes": "".join(_scene_html(block, results.metrics, scores) for block in blocks),
        "footer": html.escape(f"Seed {settings.seed}. {libraries}."),
    }
    (part / "index.html").write_text(_fill("page.html", page), encoding="utf-8")
    for name in ("page.css", "page.js"):
        shutil.copyfile(_TEMPLATES / name, part / name)


def _scene_html(
    block: SceneBlock, metrics: Mapping[str, Metric], scores: Mapping[tuple[str, str, str], Scores]
) -> str:
    place = f"scenes/{block.folder}"
    photo = f'<figure class="photo"><img src="{place}/photo.jpg" alt="The room" loading="lazy"></figure>\n'
    cards = [
        _sound_html(block, number, sound, metrics, scores.get((block.clip, *sound.row), Scores({}, {})))
        for number, sound in enumerate(block.sounds, 1)
    ]
    title, clip = html.escape(block.title), html.escape(block.clip)
    name = "" if title == clip else f' <span class="faint">{clip}</span>'
    return (
        f'<section class="scene" id="{clip}" tabindex="-1" aria-label="{title}">\n<h2>{title}{name}</h2>\n'
        f'{photo if block.has_photo else ""}<div class="sounds">\n{"".join(cards)}</div>\n</section>\n'
    )


def _sound_html(
    block: SceneBlock, number: int, sound: Sound, metrics: Mapping[str, Metric], scores: Scores
) -> str:
    system, condition = map(html.escape, sound.row)
    name = f"{system}, {condition}" if condition else system
    key = f"<kbd>{number}</kbd>" if number < 10 else ""
    seen = f'<span class="faint">{condition}</span>' if condition else ""
    parts = [f"<h3>{key} {system} {seen}</h3>\n"]
    place = f"scenes/{block.folder}/{number}"
    if sound.reason:
        parts.append(f'<p class="reason">Not available: {html.escape(sound.reason)}.</p>\n')
    else:
        parts.append(
            f'<div class="spectrogram"><img src="{place}.png" alt="Spectrogram of {name}" loading="lazy">'
            f'<span class="top">{block.highest_khz:g} kHz</span><span class="bottom">0</span>'
            f'<span class="end">{block.seconds:.1f} s</span><i></i></div>\n'
            f'<audio controls preload="metadata" src="{place}.flac" aria-label="{name}"></audio>\n'
            f"{_decay_html(block, sound, name)}"
        )
    figures = [
        f"<dt>{html.escape(_label(metric_name, metric))}</dt><dd{_why(scores, metric_name)}</dd>"
        for metric_name, metric in metrics.items()
    ]
    parts.append(f"<dl>{''.join(figures)}</dl>\n")
    if sound.row[1] == WRONG and block.has_wrong_photo:
        picture = f"scenes/{block.folder}/wrong.jpg"
        parts.append(
            f'<div class="seen"><img src="{picture}" alt="Another room" loading="lazy"> the photo it saw</div>\n'
        )
    return f'<article class="sound" data-number="{number}">\n{"".join(parts)}</article>\n'


def _label(name: str, metric: Metric) -> str:
    return f"{name} ({metric.unit})" if metric.unit else name


def _why(scores: Scores, name: str) -> str:
    """The rest of a cell's tag, and the figure; where there is none, the reason shows when pointed at."""
    if name in scores.values:
        return f">{scores.values[name]:.3g}"
    reason = html.escape(scores.failures.get(name, "not measured"))
    return f' title="{reason}"><span class="faint">not measurable</span>'


def _decay_html(block: SceneBlock, sound: Sound, name: str) -> str:
    """The decay curve over that of the ground truth."""
    if not sound.decay:
        return f"<figure><figcaption>{html.escape(sound.measures)}</figcaption></figure>\n"
    wanted = next((s.decay for s in block.sounds if s.row == block.wanted), ())
    longest = max(point[0] for s in block.sounds for point in (*s.decay, (0.1, 0.0)))
    width, height, left, bottom = _CHART

    def line(points: Sequence[tuple[float, float]], kind: str) -> str:
        places = (
            f"{left + (width - left) * time / longest:.1f},{-level / _DECAY_DB * (height - bottom):.1f}"
            for time, level in points
        )
        return f'<polyline class="{kind}" points="{" ".join(places)}"/>'

    axis = f'<path class="axis" d="M{left},0V{height - bottom}H{width}"/>'
    text = (
        f'<text x="0" y="8">0 dB</text><text x="0" y="{height - bottom}">-{_DECAY_DB:.0f}</text>'
        f'<text x="{left}" y="{height - 3}">0</text>'
        f'<text x="{width}" y="{height - 3}" text-anchor="end">{longest:.1f} s</text>'
    )
    curves = line(wanted, "wanted") * (sound.row != block.wanted) + line(sound.decay, "heard")
    return (
        f'<figure><svg class="decay" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Energy decay of {name}">{axis}{text}{curves}</svg>\n'
        f"<figcaption>{html.escape(sound.measures)}</figcaption></figure>\n"
    )


# ---------------------------------------------------------------------------------- the listening test


def _levelled(
    part: Path, settings: Settings, blocks: Sequence[SceneBlock]
) -> dict[tuple[str, Row], tuple[Path, str]]:
    """By clip and row, the file of a sound that may be asked about, and a digest of it."""
    found = {}
    for block in blocks:
        for number, sound in enumerate(block.sounds, 1):
            if _has_trials(settings, block) and not sound.reason:
                path = part / _LEVELLED / block.folder / f"{number}.flac"
                found[block.clip, sound.row] = path, hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _listening_test(
    settings: Settings, levelled: Mapping[tuple[str, Row], tuple[Path, str]]
) -> ListeningTest:
    """Our row against all others that sound different."""
    ours = our_row(settings.systems, {row for _, row in levelled})
    rows = dict[str, list[Row]]()
    for (clip, row), (_, digest) in levelled.items():
        if row == ours or digest != levelled.get((clip, ours), (None, ""))[1]:
            rows.setdefault(clip, []).append(row)
    test = make_test(settings.task, settings.seed, rows, ours)
    digests = "".join(levelled[trial.clip, row][1] for trial in test.trials for row in trial.rows)
    return replace(test, content=hashlib.sha256(digests.encode()).hexdigest())


def _has_trials(settings: Settings, block: SceneBlock) -> bool:
    """Whether there is something to ask: how a room sounds, only where it is seen."""
    return block.has_photo or settings.task == "dereverberation"


def _write_listening(
    folder: Path,
    settings: Settings,
    test: ListeningTest,
    blocks: Sequence[SceneBlock],
    levelled: Mapping[tuple[str, Row], tuple[Path, str]],
) -> None:
    seen = [block for block in blocks if block.has_photo and settings.task == "reverberation"]
    photos = {block.clip: f"photos/{block.folder}.jpg" for block in seen}
    trials = [{"id": t.id, "photo": photos.get(t.clip), "sounds": t.sounds} for t in test.trials]
    asked = json.dumps({"id": test.id, "trials": trials}).replace("<", "\\u003c")
    page = {"question": QUESTIONS[settings.task], "num_trials": len(trials), "test": asked}
    (folder / "index.html").write_text(_fill("listen.html", page), encoding="utf-8")
    for name in ("page.css", "listen.js"):
        shutil.copyfile(_TEMPLATES / name, folder / name)
    for trial in test.trials:
        for sound, row in zip(trial.sounds, trial.rows, strict=True):
            shutil.copyfile(levelled[trial.clip, row][0], folder / "sounds" / f"{sound}.flac")


def _fill(name: str, values: Mapping[str, Any]) -> str:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8")).substitute(values)


def _is_ours(folder: Path) -> bool:
    page = folder / "index.html"
    return page.is_file() and _IS_OURS in page.read_text(encoding="utf-8", errors="replace")
