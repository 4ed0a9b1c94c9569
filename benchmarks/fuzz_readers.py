"""Damaged and hostile inputs to every reader of data sets: each is read, or refused with one of our errors.

    python benchmarks/fuzz_readers.py --inputs 10000

An input is a small valid data set in which one file was changed: bytes flipped, cut, repeated, swapped with those of
another file, or, in pickles, opcodes and values replaced. Anything but an MvsdError counts as a crash, a warning
included, and so do an audit event of running code, a module that gets imported, more than 4 GB, and 30 seconds.
Crashing inputs are kept in the folder of --keep. Exit status 1 if there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import encodings
import faulthandler
import importlib
import itertools
import json
import pickle
import pickletools
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmark_fixtures import (
    soundspaces_record,
    synthetic_room,
    synthetic_voice,
    write_avspeech,
    write_soundspaces,
    write_soundspaces_metadata,
)
from test_benchmarks_unpickle import BOMBS, DAMAGED, HOSTILE

from mvsd.data.avspeech import AcousticAVSpeech
from mvsd.data.check import check_dataset
from mvsd.data.datasets import open_dataset
from mvsd.data.download import unpack
from mvsd.data.example import Example
from mvsd.data.shards import write_shards
from mvsd.data.unpickle import loads
from mvsd.errors import MvsdError
from mvsd.scene import Scene

SECONDS, BYTES = 30, 4 * 2**30
RUNS_CODE = "os.system os.exec os.posix_spawn os.spawn os.fork subprocess.Popen exec import pickle.find_class"
RUNS_CODE += " socket.connect ctypes.dlopen"

Read = Callable[[Path], Any]


class Halver:
    def convert(self, waveform: np.ndarray, sample_rate: int, scene: Any = None) -> np.ndarray:
        return waveform / 2


# ------------------------------------------------------------------------------------- data sets


def make_soundspaces(folder: Path, protocol: int = 4) -> None:
    record = soundspaces_record(synthetic_room(0, height=16, width=36, rt60=0.05), synthetic_voice(0, 0.05))
    write_soundspaces(folder, {"val": {"a/1-2-3": record}}, protocol=protocol)
    write_soundspaces_metadata(folder, "val", {"a/1-2-3": "SOME WORDS"})


def make_avspeech(folder: Path) -> None:
    room = synthetic_room(0, height=9, width=16, rt60=0.02)
    clips = [(f"{number:03d}", room, synthetic_voice(number, 0.05)) for number in range(2)]
    write_avspeech(folder, clips, [room.rir])


def make_folder(folder: Path) -> None:
    room, voice = synthetic_room(0, height=24, width=48, rt60=0.05), synthetic_voice(0, 0.05)
    for role in ("anechoic", "reverberant", "rir", "image", "depth", "transcript"):
        (folder / role).mkdir(parents=True)
    soundfile.write(folder / "anechoic" / "x.flac", voice, 16_000)
    soundfile.write(folder / "reverberant" / "x.wav", voice, 16_000, subtype="FLOAT")
    soundfile.write(folder / "rir" / "x.wav", room.rir, 16_000)
    Image.fromarray(room.image).save(folder / "image" / "x.jpg")
    np.save(folder / "depth" / "x.npy", room.depth.astype(np.float32))
    (folder / "transcript" / "x.txt").write_text("some words")


def make_shards(folder: Path) -> None:
    room, voice = synthetic_room(0, height=16, width=32, rt60=0.05), synthetic_voice(0, 0.05)
    scene = Scene(room.image, room.depth.astype(np.float32))
    example = Example("x", scene, voice, voice, room.rir, metadata={"room": "hall"})
    write_shards([example], folder, prefix="x")


def make_archives(folder: Path) -> None:
    make_soundspaces(folder / "in")
    for kind in ("zip", "xztar"):
        shutil.make_archive(str(folder / "x"), kind, folder / "in")
    shutil.rmtree(folder / "in")


def read_dataset(folder: Path) -> None:
    for protocol in ("full", "first-2.56s"):
        for example in open_dataset(folder, protocol=protocol):  # type: ignore[arg-type]
            json.dumps(dict(example.metadata), allow_nan=False)
    check_dataset(folder)


def read_avspeech(folder: Path) -> None:
    for clip in AcousticAVSpeech(folder, "train", dereverberator=Halver(), limit=1):
        assert clip.anechoic is not None and np.isfinite(clip.anechoic).all()
    check_dataset(folder, split="train")


def read_archives(folder: Path) -> None:
    for archive in sorted(folder.glob("x.*")):
        unpack(archive, folder / "out", ("val",), below="val")


READERS: dict[str, tuple[Callable[[Path], None], Read]] = {
    "soundspaces": (make_soundspaces, read_dataset),
    "soundspaces, protocol 2": (lambda folder: make_soundspaces(folder, 2), read_dataset),
    "soundspaces, protocol 5": (lambda folder: make_soundspaces(folder, 5), read_dataset),
    "avspeech": (make_avspeech, read_avspeech),
    "folder": (make_folder, read_dataset),
    "shards": (make_shards, read_dataset),
    "archives": (make_archives, read_archives),
}
SHARES = {"avspeech": 0.15, "folder": 0.15, "shards": 0.15, "archives": 0.05}  # the others share the rest


# ------------------------------------------------------------------------------------- changes


def pick(random: np.random.Generator, values: Sequence[Any]) -> Any:
    return values[int(random.integers(len(values)))]


def change_bytes(content: bytes, random: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """Flip, cut, insert, repeat, swap; near the start as often as elsewhere, for headers are there."""
    changed = bytearray(content)
    for _ in range(pick(random, [1, 1, 1, 2, 4, 16])):
        size = max(1, len(changed))
        at = int(random.integers(size)) if random.random() < 0.5 else int(random.integers(min(size, 600)))
        length = pick(random, [1, 1, 2, 4, 8, 64])
        match random.integers(8):
            case 0:
                changed[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                changed[at : at + length] = random.bytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = random.bytes(length)
            case 4:
                changed[at:at] = changed[at : at + length] * int(random.integers(1, 50))
            case 5:
                number = pick(random, [0, 1, 2**7, 2**15, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1])
                changed[at : at + 8] = number.to_bytes(8, pick(random, ["little", "big"]))
            case 6:
                other = pick(random, others)
                start = int(random.integers(max(1, len(other))))
                changed[at : at + length] = other[start : start + length]
            case 7:
                if random.random() < 0.3:
                    del changed[at:]
    return bytes(changed)


def change_opcodes(content: bytes, random: np.random.Generator) -> bytes:
    """Delete, repeat, move or replace whole opcodes of a pickle."""
    starts = [position for _, _, position in pickletools.genops(content)] + [len(content)]
    parts = [content[start:stop] for start, stop in itertools.pairwise(starts)]
    parts = [part for part in parts if part[:1] != b"\x95"]  # frames would not fit any more
    for _ in range(pick(random, [1, 1, 2, 5])):
        at, other = (int(random.integers(len(parts))) for _ in range(2))
        match random.integers(5):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, parts[other])
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case 3:
                parts[at] = pick(random, pickletools.opcodes).code.encode("latin-1")
            case 4:
                names = [
                    b"cos\nsystem\n",
                    b"cnumpy\nload\n",
                    b"cnumpy\ndtype\n",
                    b"c_codecs\nencode\n",
                    b"(",
                    b"R",
                ]
                parts.insert(at, pick(random, names))
        if not parts:
            return b""
    return b"".join(parts)


ODD: list[Any] = [None, 0, -1, 1.5, float("nan"), "text", b"bytes", [], {}, (), [[]], True, 2**100, "\ud800"]
ODD += [np.zeros(0), np.full(5, np.nan), np.zeros((2, 2)), np.zeros((0, 5, 3), np.uint8), np.float64("inf")]
ODD += [np.full(9, 1e300), np.full(9, 1e-300), np.full(9, 3e38, np.float32), np.zeros(9, bool), -np.ones(9)]
ODD += [np.array("x"), [np.zeros((16, 2))], [np.zeros((16, 2), np.int64)], [np.full((16, 2, 1), np.inf)]]


def change_values(content: bytes, random: np.random.Generator) -> bytes:
    """Put an odd value at a random place of what a pickle holds."""
    root = [pickle.loads(content)]  # the fixture's own
    place: Any = root
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = pick(random, keys)
        if isinstance(place[key], (dict, list)) and len(place[key]) and random.random() < 0.85:
            place = place[key]
            continue
        place[key] = pick(random, ODD)
        return pickle.dumps(root[0], int(random.integers(6)))


def change(path: Path, content: bytes, random: np.random.Generator, others: Sequence[bytes]) -> bytes:
    if path.suffix != ".pkl":
        return change_bytes(content, random, others)
    match random.integers(8):
        case 0 | 1 | 2:
            return change_values(content, random)
        case 3 | 4:
            return change_opcodes(content, random)
        case 5:
            bombs = [bomb for bomb in BOMBS.values() if len(bomb) < 10_000]  # the others take a second
            return pick(random, [*HOSTILE.values(), *DAMAGED.values(), *bombs])
        case _:
            return change_bytes(content, random, others)


# ------------------------------------------------------------------------------------- the run


class Watch:
    """What Python's audit hooks tell while an input is read."""

    def __init__(self) -> None:
        self.events: set[str] = set()
        self.is_on = False
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event in RUNS_CODE.split():
            self.events.add(f"{event} {arguments[:1]}"[:200])


def import_everything() -> None:
    """What libraries import when they first meet a format must not look like code that an input ran."""
    Image.init()
    for package in (av, encodings):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def run(name: str, num_inputs: int, random: np.random.Generator, watch: Watch, keep: Path) -> Counter[str]:
    make, read = READERS[name]
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        valid = Path(temporary) / "valid"
        valid.mkdir()
        make(valid)
        files = sorted(path for path in valid.rglob("*") if path.is_file())
        contents = [path.read_bytes() for path in files]
        for number in range(-1, num_inputs):
            folder = Path(temporary) / "input"
            shutil.copytree(valid, folder)
            if number >= 0:  # the first is the valid one, and imports what is imported late
                at = int(random.integers(len(files)))
                changed = change(files[at], contents[at], random, contents)
                (folder / files[at].relative_to(valid)).write_bytes(changed)
            counts[read_one(read, folder, number >= 0, watch, keep / f"{name}-{number}", counts)] += (
                number >= 0
            )
            shutil.rmtree(folder)
    return counts


def read_one(
    read: Read, folder: Path, is_changed: bool, watch: Watch, kept: Path, counts: Counter[str]
) -> str:
    started = time.perf_counter()
    watch.events.clear()
    watch.is_on = is_changed
    signal.alarm(SECONDS)
    problem = ""
    try:
        read(folder)
        outcome = "read"
    except MvsdError as error:
        outcome = "refused"
        if len(str(error).splitlines()) != 1:
            problem = f"the message is not one line: {error!s}"
    except BaseException:
        watch.is_on = False
        problem = traceback.format_exc()
    finally:
        signal.alarm(0)
        watch.is_on = False
    if watch.events:
        problem += f"\ncode ran: {watch.events}"
    counts["slowest_ms"] = max(counts["slowest_ms"], round(1000 * (time.perf_counter() - started)))
    if not problem:
        if not is_changed and outcome != "read":
            raise SystemExit(f"the unchanged data set of {kept.name} is not read")
        return outcome
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    print(f"{kept}: {problem}", file=sys.stderr)
    return "crashed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-crashes"))
    options = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    warnings.simplefilter("error")
    watch = Watch()
    import_everything()
    for protocol in range(6):  # codecs are imported when they are first used
        loads(pickle.dumps([np.arange(3), b"x", "\u20ac"], protocol))
    rest = (1 - sum(SHARES.values())) / (len(READERS) - len(SHARES))
    total = Counter[str]()
    print(f"{'reader':26}{'inputs':>8}{'read':>8}{'refused':>9}{'crashed':>9}{'slowest (ms)':>14}")
    for index, name in enumerate(READERS):
        num_inputs = round(options.inputs * SHARES.get(name, rest))
        random = np.random.default_rng([options.seed, index])
        counts = run(name, num_inputs, random, watch, options.keep)
        total.update({key: counts[key] for key in ("read", "refused", "crashed")}, inputs=num_inputs)
        print(f"{name:26}{num_inputs:8}{counts['read']:8}{counts['refused']:9}{counts['crashed']:9}", end="")
        print(f"{counts['slowest_ms']:14}", flush=True)
    print(f"{'all':26}{total['inputs']:8}{total['read']:8}{total['refused']:9}{total['crashed']:9}")
    sys.exit(bool(total["crashed"]))


if __name__ == "__main__":
    main()
