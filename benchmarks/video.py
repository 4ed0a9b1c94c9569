"""What happens to a video: pictures, sync and shots, in figures.

python benchmarks/video.py containers            # every container: packets, frames, offset of the sound
python benchmarks/video.py shots --photos DIR    # cuts, dissolves, fades and flashes between photos, found and missed
python benchmarks/video.py speed --photos DIR    # frames per second of the search for shots
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
from PIL import Image

from mvsd.shots import Frame, cut_shots, find_shots, group_scenes
from mvsd.video import convert_video

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from videos import (
    KINDS,
    delay,
    frame_digests,
    heard,
    irregular,
    make_video,
    noise,
    packets,
    pictures,
    regular,
)

FPS = 25
RATE = 48_000


class Half:
    """A converter that halves."""

    def convert_blocks(self, blocks, request):
        for block in blocks:
            yield 0.5 * block


def containers() -> None:
    """Round trips through every container."""
    print("| container | pictures | sound | frame rate | packets | frames | offset (samples) |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            for times in (regular, irregular):
                sound = noise(3 * RATE)
                source = Path(folder) / f"in{kind.suffix}"
                out = Path(folder) / f"out{kind.suffix}"
                make_video(source, kind, pictures(75), times(75), [(0, sound)])
                convert_video(Half(), source, out, watch=False, force=True)
                same = [
                    "equal" if read(source) == read(out) else "DIFFER" for read in (packets, frame_digests)
                ]
                offset = delay(sound[0], heard(out, RATE)[0])
                rate = "constant" if times is regular else "variable"
                cells = (kind.suffix[1:], kind.pictures, kind.sound, rate, *same, f"{offset:.2f}")
                print("|", " | ".join(cells), "|", flush=True)


def camera(photo: Path, num_frames: int, speed: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Thumbnails of a view that wanders over a photo at `speed` picture widths per second, with noise."""
    image = Image.open(photo).convert("RGB")
    image.thumbnail((640, 640))
    width, height = image.size
    view_width = min(0.6 * width, 0.9 * height * 16 / 9)
    room = np.array([width - view_width, height - view_width * 9 / 16])
    place, step = rng.uniform(0, 1, 2) * room, rng.normal(0, speed / FPS, 2) * width
    for _ in range(num_frames):
        place = place + step
        step = np.where((place < 0) | (place > room), -step, step)
        place = np.clip(place, 0, room)
        box = (*place, place[0] + view_width, place[1] + view_width * 9 / 16)
        view = image.resize((64, 36), Image.Resampling.BILINEAR, box=box)
        yield np.clip(np.asarray(view) + rng.normal(0, 4, (36, 64, 3)), 0, 255).astype(np.uint8)


def film(
    photos: list[Path], kind: str, speed: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[float]]:
    """Shots of 2 to 5 s with transitions of one kind, and the seconds of the changes."""
    frames: list[np.ndarray] = []
    changes = []
    for photo in photos:
        shot = list(camera(photo, int(rng.uniform(2, 5) * FPS), speed, rng))
        if kind == "flash":
            middle = len(shot) // 2
            shot[middle : middle + 3] = [np.full_like(shot[0], 250)] * 3
        mixed = []
        if frames and kind.startswith("dissolve"):
            weights = np.arange(1, int(float(kind.split()[1]) * FPS) + 1) / (
                int(float(kind.split()[1]) * FPS) + 1
            )
            mixed = [((1 - weight) * frames[-1] + weight * shot[0]).astype(np.uint8) for weight in weights]
        elif frames and kind == "fade":
            down = [(frames[-1] * weight).astype(np.uint8) for weight in np.linspace(1, 0, 15)]
            mixed = down + [(shot[0] * weight).astype(np.uint8) for weight in np.linspace(0, 1, 15)]
        if frames:
            changes.append((len(frames) + len(mixed) / 2) / FPS)
        frames += mixed + shot
    return frames, changes


def shots(folder: Path, num_films: int) -> None:
    """Changes that are found, missed and made up, by how fast the camera moves."""
    photos = sorted(folder.rglob("*.jpg"))
    print("| transition | camera (widths/s) | changes | found | made up | made up per minute |")
    print("|---|---|---|---|---|---|")
    for kind in ("cut", "dissolve 0.5", "dissolve 1.0", "dissolve 2.0", "fade", "flash"):
        for speed in (0.02, 0.25, 0.75):
            rng = np.random.default_rng(0)
            num_changes = num_found = num_false = num_frames = 0
            for _ in range(num_films):
                chosen = [photos[index] for index in rng.choice(len(photos), 12, replace=False)]
                frames, changes = film(chosen, kind, speed, rng)
                stream = (Frame(i / FPS, frame, lambda frame=frame: frame) for i, frame in enumerate(frames))
                found = [shot.end for shot in group_scenes(cut_shots(stream))][:-1]
                near = 0.06 if kind in ("cut", "flash") else 1.0
                num_changes += len(changes)
                num_found += sum(any(abs(time - other) < near for other in found) for time in changes)
                num_false += sum(all(abs(time - other) >= near for other in changes) for time in found)
                num_frames += len(frames)
            per_minute = num_false / (num_frames / FPS / 60)
            print(
                f"| {kind} | {speed} | {num_changes} | {num_found} | {num_false} | {per_minute:.1f} |",
                flush=True,
            )


def speed(folder: Path) -> None:
    """Frames per second of processor time, decoding included."""
    photos = sorted(folder.rglob("*.jpg"))[:4]
    print("| size | codec | frames per second |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for size in ((640, 360), (1280, 720), (1920, 1080)):
            frames = [
                np.asarray(Image.open(photo).convert("RGB").resize(size))
                for photo in photos
                for _ in range(50)
            ]
            path = make_video(Path(temporary) / "in.mp4", KINDS[0], frames)
            start = process_time()
            num_shots = len(list(find_shots(path)))
            rate = len(frames) / (process_time() - start)
            print(f"| {size[0]} x {size[1]} | H.264, {num_shots} shots | {rate:.0f} |", flush=True)


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["containers", "shots", "speed"])
    parser.add_argument("--photos", type=Path, help="folder of photos of rooms")
    parser.add_argument("--films", type=int, default=10, help="of 12 shots each, per row")
    options = parser.parse_args()
    if options.what == "containers":
        containers()
    elif options.photos is None:
        parser.error("--photos is needed")
    elif options.what == "shots":
        shots(options.photos, options.films)
    else:
        speed(options.photos)


if __name__ == "__main__":
    main()
