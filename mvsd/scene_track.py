"""A converter whose scene changes over time: the shots of a video, the rooms of a walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mvsd.blockwise import BlockConverter, Blocks, Blockwise, Request
from mvsd.errors import MvsdError
from mvsd.scene import Scene


@dataclass(frozen=True, eq=False)
class Shot:
    """A stretch of a recording in one room: from `start` to `end` in seconds, and what it shows (None: unknown).

    `end` is infinite where the shot lasts as long as the recording.
    """

    start: float
    end: float
    scene: Scene | None


@final
class SceneTrack(Blockwise):
    """A converter that goes from scene to scene: each shot is converted with its own.

    Over `fade` seconds around a change the two conversions are cross-faded linearly; of a reverberator that means its
    response, (1 - w) h_before + w h_after. Each conversion starts `context` seconds ahead of its shot (longer than a
    response), so that the new room has its whole tail at once. A change so late that its fade does not fit into the
    recording is not made.

    `shots` follow each other without a gap, the last one to infinity. They are taken one after the other, and only
    when the recording has got there, so they may still be searched while it runs. A shot without a scene has the
    request's.
    """

    def __init__(
        self, converter: BlockConverter, shots: Iterable[Shot], *, fade: float = 0.05, context: float = 2.0
    ) -> None:
        self.converter, self.shots, self.fade, self.context = converter, shots, fade, context

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        """See `Blockwise`. Raises MvsdError where there is no shot, or shots do not follow each other."""
        half = round(self.fade * request.sample_rate / 2)
        context = round(self.context * request.sample_rate)
        tape = _Tape(blocks, context + 2 * half)
        # The end of the conversion before, to be cross-faded.
        fading = np.zeros((request.num_channels, 0), np.float32)
        done = 0
        for start, end, shown in _stretches(self.shots, request.sample_rate):
            first = max(0, start - half - context)
            source = tape.read(first, None if end is None else end + half)
            converted = self.converter.convert_blocks(source, replace(request, scene=shown or request.scene))
            wanted = _cross_fade(fading, _skip(converted, done - first), 2 * half)
            if end is None:
                yield from wanted
                return
            held = [fading[:, :0]]
            for block in wanted:
                ready, later = np.split(block, [max(0, end - half - done)], axis=1)
                done += ready.shape[1]
                if ready.shape[1]:
                    yield ready
                if later.shape[1]:  # an empty one would keep its whole block alive
                    held.append(later)
            fading = np.concatenate(held, axis=1)
            if done + fading.shape[1] < end + half:  # the recording is over
                yield fading
                return


def _stretches(shots: Iterable[Shot], sample_rate: int) -> Iterator[tuple[int, int | None, Scene | None]]:
    """First sample, last sample + 1 (None: to the end) and scene of each shot; the first one starts at 0."""
    start = end = 0.0
    for shot in shots:
        if (end and shot.start != end) or shot.end < end:
            came = f"a shot from {shot.start:.3f} to {shot.end:.3f} s"
            raise MvsdError(f"{came} follows one that ends at {end:.3f} s; shots must follow without a gap")
        start, end = end, shot.end
        last = None if end == np.inf else round(end * sample_rate)
        yield round(start * sample_rate), last, shot.scene
    if end != np.inf:
        raise MvsdError(f"the last shot ends at {end:.3f} s; its end must be infinite")


class _Tape:
    """A stream of which the last `num_kept` samples that were read can be read again."""

    def __init__(self, blocks: Blocks, num_kept: int) -> None:
        self.blocks, self.num_kept = iter(blocks), num_kept
        self.kept: list[np.ndarray] = []
        self.start = self.stop = 0  # of what is kept, in samples

    def read(self, start: int, stop: int | None) -> Iterator[np.ndarray]:
        """Blocks (C, n) from sample `start` to before `stop` or the stream's end."""
        while stop is None or start < stop:
            while start >= self.stop:
                if not self._take():
                    return
            position = self.start
            for block in self.kept:
                if start < position + block.shape[1]:
                    break
                position += block.shape[1]
            found = block[:, start - position :][:, : None if stop is None else stop - start]
            start += found.shape[1]
            yield found

    def _take(self) -> bool:
        block = next(self.blocks, None)
        if block is None:
            return False
        self.kept.append(block)
        self.stop += block.shape[1]
        while self.stop - self.start - self.kept[0].shape[1] >= self.num_kept + block.shape[1]:
            self.start += self.kept.pop(0).shape[1]
        return True


def _skip(blocks: Iterable[np.ndarray], num_samples: int) -> Iterator[np.ndarray]:
    """A stream without its first samples."""
    for block in blocks:
        if block.shape[1] > num_samples:
            yield block[:, num_samples:]
        num_samples = max(0, num_samples - block.shape[1])


def _cross_fade(before: np.ndarray, blocks: Iterable[np.ndarray], num_samples: int) -> Iterator[np.ndarray]:
    """From `before` (C, n <= num_samples) to a stream that starts where it does; n < num_samples: in mid-fade."""
    ramp = ((np.arange(num_samples) + 0.5) / max(1, num_samples)).astype(np.float32)
    ramp = ramp[num_samples - before.shape[1] :]
    done = 0
    for block in blocks:
        old = before[:, done : done + block.shape[1]]
        new = block[:, : old.shape[1]]
        yield np.concatenate(
            [old + ramp[done : done + old.shape[1]] * (new - old), block[:, old.shape[1] :]], axis=1
        )
        done += block.shape[1]
