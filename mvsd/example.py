"""The bundled example: a voice goes into a photographed room and out of it again."""

from __future__ import annotations

from pathlib import Path

from mvsd.audio import load_audio, save_audio
from mvsd.converter import load
from mvsd.errors import OutputExistsError
from mvsd.figures import conversion_figure
from mvsd.scene import Scene

SAMPLES = Path(__file__).parent / "samples"
OUTPUTS = ("dry.wav", "in-the-room.wav", "out-of-the-room.wav", "response.wav", "example.png")


def run_example(
    folder: str | Path,
    *,
    photo: str = "living-room.jpg",
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
    force: bool = False,
) -> list[Path]:
    """Write the sounds of `OUTPUTS` and a figure of them into `folder`; returns their paths.

    Raises OutputExistsError where one is there already, unless `force`.
    """
    folder = Path(folder)
    paths = [folder / name for name in OUTPUTS]
    existing = [str(path) for path in paths if path.exists()]
    if existing and not force:
        raise OutputExistsError(f"{existing[0]} exists; give --force to overwrite it, or another folder")
    folder.mkdir(parents=True, exist_ok=True)
    voice, sample_rate = load_audio(SAMPLES / "voice.flac")
    scene = Scene.open(SAMPLES / photo)
    reverberator, dereverberator = load("reverberator", device), load("dereverberator", device)
    response = reverberator.response(scene, seed=seed, steps=steps)
    reverberant = reverberator.convert(voice, sample_rate, scene, seed=seed, steps=steps)
    dry_again = dereverberator.convert(reverberant, sample_rate, scene, seed=seed, steps=steps)
    sounds = [(voice, sample_rate), (reverberant, sample_rate), (dry_again, sample_rate), (response, 16_000)]
    for path, (waveform, rate) in zip(paths, sounds, strict=False):
        save_audio(
            path, waveform, rate, subtype="FLOAT" if path.name == "response.wav" else None, force=force
        )
    panels = {
        "dry voice": voice[0],
        "in the room on the photo": reverberant[0],
        "out of it again": dry_again[0],
    }
    conversion_figure(panels, sample_rate, paths[-1], scene=scene, force=force)
    return paths
