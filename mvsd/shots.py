"""The rooms that a video shows, and when: shot changes, and of each shot a sharp and typical frame.

A frame's **colours** are the histogram of its 64 x 36 thumbnail in 6 x 6 x 6 RGB bins; two frames differ by half the
L1 distance of theirs, 0 (the same colours) to 1 (none in common). A shot changes

- at a cut: a frame differs from the one before by more than `CUT`;
- in the middle of a dissolve or a fade: a frame differs from the one `DISSOLVE_SECONDS` before by more than
  `DISSOLVE`, and the thumbnail halfway is their mean, to within `MIXED` of their mean absolute difference; it is not
  when the camera moves.

What lasts less than `SHORTEST` seconds is no shot but a flash. Every `EVERY` seconds a frame is looked at; the shot's
`NUM_VIEWS` sharpest (largest variance of the Laplacian: Pech-Pacheco et al., ICPR 2000) are kept, and of those at least
half as sharp as the sharpest, the one most like the others is the scene. A shot with the colours of an earlier scene
(within `SAME`, of the last `NUM_REMEMBERED`) is in that room again, and a shot that shows nothing (black) in the one
before. However wide a film is, its frames are photos: what a panorama's width has beyond them is cut off.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvsd.container import clock_start, open_input, picture_of
from mvsd.errors import VideoFileError
from mvsd.scene import MIN_SIDE, PANORAMA_ASPECT, Scene
from mvsd.scene_track import Shot

CUT, DISSOLVE, MIXED, SAME = 0.25, 0.35, 0.25, 0.2
SHORTEST, EVERY = 0.5, 0.4  # seconds
DISSOLVE_SECONDS = (0.5, 1.0)
NUM_VIEWS, NUM_REMEMBERED = 5, 16
VIEW_SIDE = 384  # pixels; the shipped network sees a scene in 384 x 192
_THUMBNAIL, _NUM_BINS = (64, 36), 6
_BLACK = 24  # of 255; film black has noise, and a codec adds some

Picture = NDArray[np.uint8]
Colours = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """A decoded frame: when it is shown (s), thumbnail (36, 64, 3) uint8, `view()`, the upright (H, W, 3) uint8.

    And for how many seconds it is shown, 0 where the file does not say it.
    """

    time: float
    thumbnail: Picture
    view: Callable[[], Picture]
    seconds: float = 0.0


class _Moment(NamedTuple):
    """What is kept of a frame for a second; the frame itself is large."""

    time: float
    thumbnail: Picture
    colours: Colours


@dataclass(frozen=True)
class _View:
    sharpness: float
    colours: Colours
    picture: Picture


@dataclass
class _Piece:
    """Frames without a change: it is taken to start at `start`, its first frame came at `born`."""

    start: float
    born: float
    past: deque[_Moment] = field(default_factory=deque)  # the last second
    views: list[_View] = field(default_factory=list)
    looked: float = -np.inf

    def add(self, frame: Frame, colours: Colours) -> None:
        self.past.append(_Moment(frame.time, frame.thumbnail, colours))
        while frame.time - self.past[0].time > max(DISSOLVE_SECONDS):
            self.past.popleft()
        if frame.time - self.looked < EVERY or frame.thumbnail.mean() < _BLACK:
            return
        self.looked = frame.time
        picture = frame.view()
        self.views.append(_View(sharpness(picture), colours, picture))
        self.views.sort(key=lambda view: -view.sharpness)
        del self.views[NUM_VIEWS:]

    def dissolved(self, frame: Frame, colours: Colours) -> float | None:
        """The middle of a dissolve that a frame ends, None if there is none."""
        for seconds in DISSOLVE_SECONDS:
            first = self._nearest(frame.time - seconds)
            if frame.time - first.time < 0.8 * seconds or difference(first.colours, colours) <= DISSOLVE:
                continue
            middle = self._nearest((first.time + frame.time) / 2)
            one, other = first.thumbnail.astype(np.float32), frame.thumbnail.astype(np.float32)
            error = np.abs(middle.thumbnail - (one + other) / 2).mean()
            if error < MIXED * np.abs(one - other).mean():
                return middle.time
        return None

    def differs(self, colours: Colours) -> bool:
        """Whether there is a cut between the last frame and one with these colours."""
        return difference(self.past[-1].colours, colours) > CUT

    def _nearest(self, time: float) -> _Moment:
        return min(self.past, key=lambda moment: abs(moment.time - time))


def find_shots(path: str | Path, progress: Callable[[float], None] | None = None) -> Iterator[Shot]:
    """The shots of a video's first picture stream, each as soon as it is over; neighbours show different rooms.

    The first starts at 0, the last has no end. `progress` is called with the seconds that have been looked at. Every
    frame is decoded, one is held, so memory does not grow with the length. Raises VideoFileError where no frame can be
    decoded or nothing is to be seen.
    """

    def frames() -> Iterator[Frame]:
        for frame in _decode(Path(path)):
            if progress is not None:
                progress(frame.time)
            yield frame

    is_seen = False
    for shot in group_scenes(cut_shots(frames())):
        is_seen = True
        yield shot
    if not is_seen:
        raise VideoFileError(f"{path}: no frame of it shows anything; give a photo of the room with --scene")


def cut_shots(frames: Iterable[Frame]) -> Iterator[_Piece]:
    """Frames in order of time -> the pieces between changes."""
    before: _Piece | None = None  # over, if what came after it lasts
    piece: _Piece | None = None
    for frame in frames:
        colours = colours_of(frame.thumbnail)
        lasts = piece is not None and frame.time - piece.born >= SHORTEST
        if before is not None and lasts:
            yield before
            before = None
        if piece is None:
            piece = _Piece(0.0, frame.time)
        elif piece.differs(colours):
            if lasts:
                before, piece = piece, _Piece(frame.time, frame.time)
            elif before is not None and not before.differs(colours):  # it was a flash
                piece = before
                before = None
            else:
                piece = _Piece(piece.start, frame.time)
        elif before is None and (middle := piece.dissolved(frame, colours)) is not None:
            before, piece = piece, _Piece(middle, frame.time)
        piece.add(frame, colours)
    if piece is None:
        return
    if before is not None:
        yield before
    if (
        before is None or frame.time + frame.seconds - piece.born >= SHORTEST
    ):  # else it belongs to the one before
        yield piece


def group_scenes(pieces: Iterable[_Piece]) -> Iterator[Shot]:
    """Pieces -> shots: neighbours in the same room are one, and a room that was there before has the same Scene."""
    known: deque[tuple[Colours, Scene]] = deque(maxlen=NUM_REMEMBERED)
    start = 0.0
    scene: Scene | None = None
    for piece in pieces:
        if not piece.views:
            continue
        view = _most_typical(piece.views)
        distance, found = min(
            ((difference(colours, view.colours), old) for colours, old in known),
            key=lambda pair: pair[0],
            default=(np.inf, None),
        )
        if found is None or distance >= SAME:
            found = Scene(_as_photo(without_bars(view.picture)))
            known.append((view.colours, found))
        if scene is not None and found is not scene:
            yield Shot(start, piece.start, scene)
            start = piece.start
        scene = found
    if scene is not None:
        yield Shot(start, np.inf, scene)


def colours_of(thumbnail: Picture) -> Colours:
    """Share of the pixels (H, W, 3) in each of 6 x 6 x 6 RGB bins: (216,), its sum is 1."""
    bins = thumbnail.astype(np.intp) * _NUM_BINS // 256
    index = (bins[..., 0] * _NUM_BINS + bins[..., 1]) * _NUM_BINS + bins[..., 2]
    counts = np.bincount(index.ravel(), minlength=_NUM_BINS**3)
    return (counts / index.size).astype(np.float32)


def difference(one: Colours, other: Colours) -> float:
    """0 for the same colours, 1 where there are none in common."""
    return float(np.abs(one - other).sum()) / 2


def sharpness(picture: Picture) -> float:
    """Variance of the 4-neighbour Laplacian of a picture's (H, W, 3) luma (BT.601)."""
    luma = picture @ np.array((0.299, 0.587, 0.114), np.float32)
    inner = luma[1:-1, 1:-1]
    return float(np.var(luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner))


def without_bars(picture: Picture) -> Picture:
    """A picture (H, W, 3) without the black bars around it, which a network takes for another shape of picture."""
    for axis in (0, 1):
        lit = np.flatnonzero(picture.max(axis=(1 - axis, 2)) >= _BLACK)
        if len(lit) and lit[-1] + 1 - lit[0] >= MIN_SIDE:
            picture = np.take(picture, np.arange(lit[0], lit[-1] + 1), axis)
    return np.ascontiguousarray(picture)


def _as_photo(picture: Picture) -> Picture:
    """The middle of a picture (H, W, 3) as wide as a panorama: a film in a wide format shows one side of a room."""
    height, width = picture.shape[:2]
    most = math.ceil(PANORAMA_ASPECT * height) - 1
    left = max(0, (width - most) // 2)
    return np.ascontiguousarray(picture[:, left : left + most])


def _most_typical(views: list[_View]) -> _View:
    sharp = [view for view in views if view.sharpness >= views[0].sharpness / 2]
    return min(sharp, key=lambda view: sum(difference(view.colours, other.colours) for other in sharp))


def _decode(path: Path) -> Iterator[Frame]:
    """The frames that can be decoded; one that cannot is passed over."""
    import av

    with open_input(path) as container:
        stream = picture_of(container)
        if stream is None:
            raise VideoFileError(f"{path}: has no pictures; give a photo of the room with --scene")
        stream.thread_type = "AUTO"
        begin, time = float(clock_start(container)), -np.inf
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, ValueError) as error:
                at = max(0.0, time)
                raise VideoFileError(f"{path}: damaged after {at:.2f} s; fetch or export it again") from error
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                if frame.time is not None and frame.time - begin > time:
                    time = frame.time - begin
                    yield _frame(frame, time, stream.sample_aspect_ratio)
    if time == -np.inf:
        raise VideoFileError(f"{path}: none of its frames can be decoded; convert it to H.264 or VP9 first")


def _frame(frame: Any, time: float, aspect: Any) -> Frame:
    """From PyAV's frame; pixels become square and the picture upright when it is looked at."""

    def view() -> Picture:
        width, height = frame.width * float(aspect or 1), float(frame.height)
        scale = min(1.0, VIEW_SIDE / max(width, height))
        size = (max(MIN_SIDE, round(width * scale)), max(MIN_SIDE, round(height * scale)))
        return np.rot90(_pixels(frame, size), round(frame.rotation / 90))

    seconds = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
    return Frame(time, _pixels(frame, _THUMBNAIL), view, seconds)


def _pixels(frame: Any, size: tuple[int, int]) -> Picture:
    small: Picture = frame.reformat(*size, format="rgb24", interpolation="AREA").to_ndarray()
    return small
