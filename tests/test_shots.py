"""Which rooms a video shows, and a converter that goes from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from mvsd.audio import rechunk
from mvsd.blockwise import Blocks, Request
from mvsd.errors import MvsdError
from mvsd.scene import PANORAMA_ASPECT, Scene
from mvsd.scene_track import SceneTrack, Shot
from mvsd.shots import Frame, _frame, colours_of, cut_shots, difference, group_scenes, sharpness, without_bars
from mvsd.streaming import convolve_blocks

RATE = 1000


def scene(value: int) -> Scene:
    return Scene(np.full((16, 16, 3), value, np.uint8))


class Rooms:
    """A reverberator of which the scene's grey is the room: its response is noise drawn from it."""

    def __init__(self, num_taps: int = 300) -> None:
        self.num_taps = num_taps

    def response(self, scene: Scene | None) -> np.ndarray:
        seed = 0 if scene is None else int(scene.image[0, 0, 0])
        return np.random.default_rng(seed).standard_normal(self.num_taps)

    def convert_blocks(self, blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        yield from convolve_blocks(rechunk(blocks, 77), self.response(request.scene))


def blocks_of(waveform: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    start = 0
    while start < waveform.shape[1]:
        size = sizes.pop(0) if sizes else 500
        yield waveform[:, start : start + size]
        start += size


def shots_of(ends: list[float]) -> list[Shot]:
    edges = [0.0, *ends, np.inf]
    return [Shot(start, end, scene(i + 1)) for i, (start, end) in enumerate(pairwise(edges))]


def expected(waveform: np.ndarray, shots: list[Shot], fade: float) -> np.ndarray:
    """Every room's whole convolution, and the weights of the cross-fades that fit into the recording."""
    times = (np.arange(waveform.shape[1]) + 0.5) / RATE
    result: Any = 0
    for shot in shots:
        sound = lfilter(Rooms().response(shot.scene), [1], waveform)
        if shot is shots[0]:
            result = sound
        elif shot.start + fade / 2 < waveform.shape[1] / RATE + 1e-9:
            result = result + np.clip((times - shot.start) / fade + 0.5, 0, 1) * (sound - result)
    return np.asarray(result)


@settings(max_examples=60, deadline=None)
@given(
    num_samples=st.integers(1, 3000),
    lengths=st.lists(st.integers(100, 900), max_size=4),
    sizes=st.lists(st.integers(1, 700), max_size=6),
    channels=st.integers(1, 3),
)
def test_each_shot_has_its_room_whole_from_the_first_sample(
    num_samples: int, lengths: list[int], sizes: list[int], channels: int
) -> None:
    waveform = np.random.default_rng(num_samples).standard_normal((channels, num_samples)).astype(np.float32)
    shots = shots_of(list(np.cumsum(lengths) / RATE))
    track = SceneTrack(Rooms(), shots, fade=0.06, context=0.4)
    blocks = list(track.convert_blocks(blocks_of(waveform, sizes), Request(RATE, channels)))
    result = np.concatenate(blocks, axis=1)
    assert result.shape == waveform.shape
    np.testing.assert_allclose(result, expected(waveform, shots, 0.06), atol=2e-3)


def test_shots_shorter_than_the_fade_lose_no_sample() -> None:
    waveform = np.random.default_rng(0).standard_normal((1, 400)).astype(np.float32)
    track = SceneTrack(Rooms(), shots_of([0.01, 0.02, 0.2, 0.2, 0.21]), fade=0.06, context=0.4)
    assert track.convert(waveform, RATE).shape == (1, 400)


def test_one_shot_is_the_converter_itself() -> None:
    waveform = np.random.default_rng(0).standard_normal((2, 2000)).astype(np.float32)
    plain = np.concatenate(list(Rooms().convert_blocks([waveform], Request(RATE, 2, scene(1)))), axis=1)
    np.testing.assert_array_equal(SceneTrack(Rooms(), shots_of([])).convert(waveform, RATE), plain)


def test_a_shot_without_a_scene_has_the_one_that_is_given() -> None:
    waveform = np.random.default_rng(0).standard_normal((1, 500)).astype(np.float32)
    unknown, known = (SceneTrack(Rooms(), [Shot(0, np.inf, shown)]) for shown in (None, scene(5)))
    np.testing.assert_array_equal(unknown.convert(waveform, RATE, scene(5)), known.convert(waveform, RATE))


def test_shots_are_not_asked_for_before_the_recording_is_there() -> None:
    asked: list[int] = []

    def search() -> Iterator[Shot]:
        for index, shot in enumerate(shots_of([1.0, 2.0, 3.0])):
            asked.append(index)
            yield shot

    track = SceneTrack(Rooms(), search(), fade=0.01, context=0.3)
    done = 0
    for block in track.convert_blocks(rechunk([np.ones((1, 2500), np.float32)], 50), Request(RATE, 1)):
        done += block.shape[1]
        assert len(asked) <= 1 + done // 995
    assert (done, asked) == (2500, [0, 1, 2])


@pytest.mark.parametrize("shots", [[], [Shot(0, 1, None)], [Shot(0, 1, None), Shot(2, np.inf, None)]])
def test_shots_must_fill_the_time(shots: list[Shot]) -> None:
    with pytest.raises(MvsdError, match=r"end|gap"):
        SceneTrack(Rooms(), shots).convert(np.ones((1, 5000), np.float32), RATE)


# ------------------------------------------------------------------------------------------ shots

FPS = 25


def wall(seed: int, blur: int = 0) -> np.ndarray:
    """A picture (72, 128, 3) in colours of its own."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (4, 3))
    picture = np.kron(palette[rng.integers(0, 4, (9, 16))], np.ones((8, 8, 1)))
    for _ in range(blur):
        picture = (picture + np.roll(picture, 1, 0) + np.roll(picture, 1, 1) + np.roll(picture, -1, 1)) / 4
    return picture.astype(np.uint8)


def frames_of(pictures: Iterable[np.ndarray], fps: float = FPS) -> Iterator[Frame]:
    for index, picture in enumerate(pictures):
        thumbnail = picture[1::2, 1::2]
        yield Frame(index / fps, thumbnail, lambda picture=picture: picture)  # type: ignore[misc]


def shots_in(pictures: Iterable[np.ndarray], fps: float = FPS) -> list[Shot]:
    return list(group_scenes(cut_shots(frames_of(pictures, fps))))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(14, 60), min_size=1, max_size=4), st.integers(0, 1000))
def test_cuts_are_found_to_the_frame(lengths: list[int], seed: int) -> None:
    pictures = [wall(seed + i) for i, length in enumerate(lengths) for _ in range(length)]
    shots = shots_in(pictures)
    walls = [colours_of(wall(seed + i)) for i in range(len(lengths))]
    if min((difference(one, other) for i, one in enumerate(walls) for other in walls[:i]), default=1) < 0.3:
        return  # two walls of the same colours by chance
    edges = [0.0, *(np.cumsum(lengths)[:-1] / FPS), np.inf]
    assert [(shot.start, shot.end) for shot in shots] == list(pairwise(edges))
    for index, shot in enumerate(shots):
        assert shot.scene is not None
        np.testing.assert_array_equal(shot.scene.image, wall(seed + index))


def test_a_flash_is_no_shot() -> None:
    white = np.full((72, 128, 3), 255, np.uint8)
    assert len(shots_in([wall(1)] * 30 + [white] * 3 + [wall(1)] * 30)) == 1
    montage = [wall(1)] * 30 + [wall(2)] * 4 + [wall(3)] * 4 + [wall(4)] * 30
    assert [shot.end for shot in shots_in(montage)] == [30 / FPS, np.inf]


def test_going_back_and_forth_shows_two_rooms() -> None:
    shots = shots_in(([wall(1)] * 20 + [wall(2)] * 20) * 3)
    assert len(shots) == 6
    assert len({id(shot.scene) for shot in shots}) == 2


def test_a_jump_cut_in_the_same_room_is_no_change() -> None:
    picture = wall(1)
    nearer = np.kron(picture[18:54, 32:96], np.ones((2, 2, 1), np.uint8))
    shots = shots_in([picture] * 20 + [wall(2)] * 5 + [nearer] * 20)
    assert len(shots) == 1


@pytest.mark.parametrize("num_mixed", [10, 25])
def test_a_dissolve_changes_the_room_in_its_middle(num_mixed: int) -> None:
    weights = np.arange(1, num_mixed + 1) / (num_mixed + 1)
    mixed = [((1 - weight) * wall(1) + weight * wall(2)).astype(np.uint8) for weight in weights]
    shots = shots_in([wall(1)] * 40 + mixed + [wall(2)] * 40)
    assert len(shots) == 2
    assert shots[0].end == pytest.approx((40 + num_mixed / 2) / FPS, abs=0.5)
    assert shots[1].scene is not None
    assert difference(colours_of(shots[1].scene.image), colours_of(wall(2))) < 0.1


def test_a_moving_camera_is_no_dissolve() -> None:
    panorama = np.concatenate([wall(1), wall(2), wall(3)], axis=1)
    pictures = [panorama[:, step : step + 128] for step in range(0, 256, 3)]
    assert len(shots_in(pictures)) == 1


def test_black_shows_no_room() -> None:
    black = np.zeros((72, 128, 3), np.uint8)
    shots = shots_in([black] * 30 + [wall(1)] * 30 + [black] * 30 + [wall(2)] * 30 + [black] * 30)
    assert [round(shot.end * FPS) for shot in shots[:-1]] == [90]
    assert shots_in([black] * 30) == []


def test_slides_seconds_apart_are_shots() -> None:
    assert [shot.end for shot in shots_in([wall(1), wall(2), wall(2), wall(3), wall(3)], fps=0.2)] == [
        5.0,
        15.0,
        np.inf,
    ]


def test_the_last_slide_is_a_shot_though_it_is_one_frame() -> None:
    def slides(seconds: float) -> list[Frame]:
        return [replace(frame, seconds=seconds) for frame in frames_of([wall(1), wall(2)], fps=0.2)]

    assert [shot.end for shot in group_scenes(cut_shots(slides(5.0)))] == [5.0, np.inf]
    assert [shot.end for shot in group_scenes(cut_shots(slides(0.04)))] == [np.inf]  # a flash


def test_the_sharp_frame_is_taken() -> None:
    """Most of the shot is out of focus; so is its first and its last frame."""
    soft = wall(1, blur=1)
    assert difference(colours_of(soft), colours_of(wall(1))) > 0  # so that it is the more typical one
    focus = [soft] * 30 + [wall(1)] * 12 + [soft] * 30
    (shot,) = shots_in(focus)
    assert shot.scene is not None
    np.testing.assert_array_equal(shot.scene.image, wall(1))
    assert sharpness(wall(1)) > 2 * sharpness(wall(1, blur=1)) > 4 * sharpness(wall(1, blur=6))
    assert sharpness(np.full((9, 9, 3), 200, np.uint8)) == 0


def test_sharpness_of_a_single_bright_pixel() -> None:
    """Its Laplacian is -4 there and 1 beside it: over the 3 x 3 inner pixels, the variance is 20/9 of its square."""
    picture = np.zeros((5, 5, 3), np.uint8)
    picture[2, 2] = 100
    assert sharpness(picture) == pytest.approx(100**2 * 20 / 9, rel=1e-5)


def test_bars_are_cut_off() -> None:
    inside = np.maximum(wall(1), 30)
    picture = np.zeros((100, 160, 3), np.uint8)
    picture[20:92, 10:138] = inside
    np.testing.assert_array_equal(without_bars(picture), inside)
    dark = np.zeros((30, 30, 3), np.uint8)
    np.testing.assert_array_equal(without_bars(dark), dark)


@pytest.mark.parametrize(("height", "width"), [(100, 239), (100, 195), (72, 128)])
def test_a_wide_film_is_no_panorama(height: int, width: int) -> None:
    """Its middle is taken, as wide as a photo may be."""
    picture = np.random.default_rng(0).integers(30, 255, (height, width, 3), np.uint8)
    (shot,) = shots_in([picture] * 30)
    assert shot.scene is not None and not shot.scene.is_panorama
    kept = min(width, int(np.ceil(PANORAMA_ASPECT * height)) - 1)
    left = (width - kept) // 2
    np.testing.assert_array_equal(shot.scene.image, picture[:, left : left + kept])


@settings(max_examples=30)
@given(st.integers(0, 500), st.integers(0, 500))
def test_difference_is_a_distance_between_0_and_1(one: int, other: int) -> None:
    first, second = colours_of(wall(one)), colours_of(wall(other))
    assert difference(first, first) == 0
    assert 0 <= difference(first, second) == difference(second, first) <= 1 + 1e-6
    black, white = (colours_of(np.full((4, 4, 3), value, np.uint8)) for value in (0, 255))
    assert difference(black, white) == 1


@pytest.mark.parametrize(
    ("size", "aspect", "seen"),
    [
        ((48, 64), Fraction(2), (48, 128)),
        ((540, 960), None, (216, 384)),
        ((1080, 1440), Fraction(4, 3), (216, 384)),
    ],
)
def test_pixels_become_square_and_large_frames_small(
    size: tuple[int, int], aspect: Fraction | None, seen: tuple[int, int]
) -> None:
    frame = av.VideoFrame.from_ndarray(np.zeros((*size, 3), np.uint8), format="rgb24")
    assert _frame(frame, 0.0, aspect).view().shape == (*seen, 3)
