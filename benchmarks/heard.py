"""The room of a recording, for another voice: how far what is heard in it is from the truth, beside what a photo tells.

    python benchmarks/heard.py --rooms data/rooms/validation-homes --speech DIR --num-rooms 48 --seconds 5

In each room a test voice is recorded. `mvsd.responses.heard_room` makes a response of what the blind estimator hears
in that recording, with the photo (of which T20 is heard and the rest seen) and without; the other rows have the photo
alone, and nothing.
Against the room's own response: error of T20 (percent, median and mean), of the direct-to-reverberant ratio (dB, mean
and signed mean), and the STFT distance of another voice in either room.
"""

from __future__ import annotations

import argparse

import numpy as np
from blind import TEST_SPEAKERS
from response import errors, report

from mvsd.amount import response_of
from mvsd.blind import BlindEstimator
from mvsd.blockwise import BlockConverter
from mvsd.converter import SAMPLE_RATE, load
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import NotMeasurable
from mvsd.evaluation.clips import SpeechInRooms
from mvsd.responses import heard_room
from mvsd.scene import Scene


def main() -> None:
    """Print a line for each way to know of a room."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rooms", required=True)
    parser.add_argument("--speech", required=True, help="folder of dry speech; its test speakers are heard")
    parser.add_argument("--cache", default="data/cache")
    parser.add_argument("--num-rooms", type=int, default=48)
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0])
    parser.add_argument("--model", default="reverberator")
    options = parser.parse_args()
    reverberator, estimator = load(options.model), BlindEstimator.load()
    rooms = Shards([options.rooms])[: options.num_rooms]
    speech = Speech(options.speech, options.cache, TEST_SPEAKERS, only_holdout=True)
    others = SpeechInRooms(rooms, speech, seconds=4.0, seed=1_000_000)
    for seconds in options.seconds:
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for index, recorded in enumerate(SpeechInRooms(rooms, speech, seconds=seconds)):
            assert recorded.reverberant is not None and recorded.scene is not None
            voice = others[index].anechoic
            assert voice is not None
            heard = estimator.estimate(recorded.reverberant, SAMPLE_RATE)
            ways: dict[str, tuple[BlockConverter, Scene | None]] = {
                "no photo": (reverberator, None),
                "photo": (reverberator, recorded.scene),
                f"{seconds:g} s of a recording": (heard_room(reverberator, heard), None),
                f"T20 of {seconds:g} s of a recording, photo": (
                    heard_room(reverberator, heard, seen=True),
                    recorded.scene,
                ),
            }
            for name, (converter, scene) in ways.items():
                try:
                    found = errors(response_of(converter).response(scene, seed=index), recorded, voice)
                except NotMeasurable:
                    found = (np.nan,) * 3
                rows.setdefault(name, []).append(found)
            rows.setdefault("untouched voice", []).append(
                errors(np.eye(1, 16_000, dtype=np.float32)[0], recorded, voice)
            )
        for name, found in rows.items():
            report(name, found)


if __name__ == "__main__":
    main()
