"""Figures are whole image files with what was asked for on them, and nothing is lost when they fail."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mvsd import figures
from mvsd.acoustics import convolve, energy_decay_db
from mvsd.data.example import Example
from mvsd.errors import MvsdError, OutputExistsError
from mvsd.figures import conversion_figure, response_figure, room_gallery
from mvsd.scene import Scene

RATE = 16_000


def room(rt60: float = 0.3) -> np.ndarray:
    time = np.arange(RATE // 2) / RATE
    rir = 0.05 * np.random.default_rng(0).standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    rir[0] = 1
    return rir.astype(np.float32)


def voices(seconds: float = 1.2) -> dict[str, np.ndarray]:
    dry = np.random.default_rng(1).uniform(-0.3, 0.3, round(seconds * RATE)).astype(np.float32)
    return {"dry voice": dry, "in the room": convolve(dry, room())[: len(dry)]}


def scene(width: int = 64, *, depth: bool = True) -> Scene:
    image = np.random.default_rng(2).integers(0, 255, (32, width, 3)).astype(np.uint8)
    return Scene(image, np.linspace(0, 5, 32 * width, dtype=np.float32).reshape(32, width) if depth else None)


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures are kept instead of written."""
    kept: list[Figure] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path, *, force: kept.append(figure))
    return kept


def all_axes(figure: Figure) -> list:
    return [axes for part in (figure, *figure.subfigs) for axes in part.axes]


def texts(figure: Figure) -> str:
    """All that can be read on a figure."""
    svg = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(svg, format="svg")
    return svg.getvalue()


def draw(name: str, path: Path, **options: bool) -> None:
    if name == "conversion":
        conversion_figure(voices(), RATE, path, scene(), **options)
    elif name == "response":
        response_figure({"a": room()}, RATE, path, **options)
    else:
        room_gallery([Example("k", scene(), rir=room())], path, **options)


every_figure = pytest.mark.parametrize("name", ["conversion", "response", "gallery"])


class TestFiles:
    @every_figure
    def test_is_an_image_and_the_only_file(self, name, tmp_path):
        draw(name, tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as image:
            image.load()
            assert min(image.size) > 200
        assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]

    def test_other_formats_follow_the_suffix(self, tmp_path):
        draw("response", tmp_path / "figure.pdf")
        draw("response", tmp_path / "figure.SVG")
        assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
        assert b"<svg" in (tmp_path / "figure.SVG").read_bytes()

    def test_existing_file_stays_without_force(self, tmp_path):
        path = tmp_path / "figure.png"
        path.write_bytes(b"mine")
        with pytest.raises(OutputExistsError, match="exists"):
            draw("response", path)
        assert path.read_bytes() == b"mine"
        draw("response", path, force=True)
        assert path.read_bytes().startswith(b"\x89PNG")

    def test_a_file_that_appears_while_it_is_drawn_stays(self, tmp_path, monkeypatch):
        path = tmp_path / "figure.png"
        monkeypatch.setattr(Figure, "savefig", lambda *_, **__: path.write_bytes(b"somebody else's"))
        with pytest.raises(OutputExistsError, match="exists"):
            draw("response", path)
        assert path.read_bytes() == b"somebody else's"

    def test_full_disk_leaves_what_was_there(self, tmp_path, monkeypatch):
        path = tmp_path / "figure.png"
        path.write_bytes(b"mine")

        def fail(self, file, **options):
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(MvsdError, match=r"figure.png cannot be written: No space left on device"):
            draw("response", path, force=True)
        assert path.read_bytes() == b"mine"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["figure.gif", "figure"])
    def test_unknown_format_is_refused(self, name, tmp_path):
        with pytest.raises(MvsdError, match=r"written as .png, .pdf, .svg, not as"):
            draw("response", tmp_path / name)

    def test_missing_folder_is_refused(self, tmp_path):
        with pytest.raises(MvsdError, match="cannot be written: No such folder"):
            draw("response", tmp_path / "none" / "figure.png")

    @pytest.mark.parametrize(
        "nothing",
        [
            lambda path: conversion_figure({}, RATE, path),
            lambda path: response_figure({}, RATE, path),
            lambda path: room_gallery([], path),
        ],
    )
    def test_nothing_to_draw_is_refused(self, nothing, tmp_path):
        with pytest.raises(MvsdError, match="needs at least one"):
            nothing(tmp_path / "figure.png")


class TestConversionFigure:
    def test_names_units_and_measures_are_on_it(self, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        conversion_figure(voices(), RATE, tmp_path / "x.png", scene())
        text = texts(kept[0])
        for words in (
            "dry voice",
            "in the room",
            "the scene",
            "time (s)",
            "frequency (kHz)",
            "dB re the loudest",
        ):
            assert words in text
        assert "T20 0.3" in text or "T20 0.2" in text
        assert "DRR " in text

    def test_spectrograms_share_one_scale(self, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        loud, quiet = voices()["dry voice"], 0.1 * voices()["dry voice"]
        conversion_figure({"loud": loud, "quiet": quiet}, RATE, tmp_path / "x.png", responses={})
        images = [axes.images[0] for axes in all_axes(kept[0]) if axes.images]
        assert {image.get_clim() for image in images} == {(-80, 0)}
        peaks = [image.get_array().max() for image in images]
        assert peaks[0] == 0
        assert peaks[1] == pytest.approx(-20, abs=1e-3)

    @pytest.mark.parametrize(("sample_rate", "top"), [(16_000, 8.0), (48_000, 12.0)])
    def test_a_tone_is_seen_at_its_frequency_and_time(self, sample_rate, top, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        tone = np.sin(2 * np.pi * 3000 * np.arange(2 * sample_rate) / sample_rate)
        conversion_figure({"tone": tone}, sample_rate, tmp_path / "x.png", responses={})
        image = next(axes.images[0] for axes in all_axes(kept[0]) if axes.images)
        left, right, bottom, highest = image.get_extent()
        assert (left, bottom, highest) == (0, 0, top)
        assert right == pytest.approx(2, abs=0.05)
        levels = np.asarray(image.get_array())
        row = int(levels[:, levels.shape[1] // 2].argmax())
        assert (row + 0.5) / len(levels) * top == pytest.approx(3, abs=0.05)

    def test_decay_curves_are_of_the_room_and_not_of_what_is_no_room(self, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        sounds = voices(6.0)
        wet = sounds["in the room"]
        noise = np.random.default_rng(3).standard_normal(len(wet)).astype(np.float32)
        sounds["and noise"] = wet + 0.5 * wet.std() * noise
        conversion_figure(sounds, RATE, tmp_path / "x.png")
        axes = next(axes for axes in all_axes(kept[0]) if axes.get_ylabel() == "remaining energy (dB)")
        times, spots = np.array([0.01, 0.05, 0.1]), np.round(np.array([0.01, 0.05, 0.1]) * RATE).astype(int)
        expected = energy_decay_db(room())[spots]
        for line, tolerance in zip(axes.lines, (0.5, 2.0), strict=True):
            curve = np.interp(times, line.get_xdata(), line.get_ydata())
            np.testing.assert_allclose(curve, expected, atol=tolerance)

    @pytest.mark.parametrize("num_samples", [0, 1, 100, 50_000])
    @pytest.mark.parametrize("sample_rate", [8000, 48_000])
    def test_any_length_and_rate_and_silence(self, num_samples, sample_rate, tmp_path):
        silence = np.zeros(num_samples, np.float32)
        conversion_figure({"a": silence, "b": silence}, sample_rate, tmp_path / "x.png")
        assert (tmp_path / "x.png").exists()


class TestResponseFigure:
    def test_a_silent_response_is_a_gap(self, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        response_figure({"room": room(), "nothing": np.zeros(800)}, RATE, tmp_path / "x.png")
        text = texts(kept[0])
        for words in ("nothing", "octave band (Hz)", "T20 (s)", "4000", "remaining energy (dB)"):
            assert words in text

    def test_a_bent_decay_is_called_one(self, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        response_figure({"straight": room()}, RATE, tmp_path / "x.png")
        response_figure({"bent": room(0.15) + 0.2 * room(2.0)}, RATE, tmp_path / "x.png")
        assert ["(bent)" in texts(figure) for figure in kept] == [False, True]


class TestRoomGallery:
    def test_rooms_without_picture_depth_or_response(self, tmp_path):
        examples = [
            Example("full", scene(96), rir=room(), metadata={"room": "kitchen"}),
            Example("flat", scene(depth=False)),
            Example("blind", rir=room()),
        ]
        room_gallery(examples, tmp_path / "x.png")
        assert (tmp_path / "x.png").exists()

    def test_unknown_depth_is_masked_and_the_room_named(self, monkeypatch, tmp_path):
        kept = drawn(monkeypatch)
        room_gallery([Example("k", scene(), rir=room(), metadata={"room": "kitchen"})], tmp_path / "x.png")
        depth = kept[0].axes[1].images[0].get_array()
        assert depth.mask.sum() == 1
        assert "kitchen" in texts(kept[0])
        assert "depth (m)" in texts(kept[0])
