"""Photos of every kind, what is refused, and the canvas in closed form."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from mvsd.errors import PhotoError
from mvsd.scene import IMAGENET_MEAN, IMAGENET_STD, PANORAMA_ASPECT, SPHERE_ASPECT, Scene

RED, BLUE = (200, 40, 30), (20, 60, 180)


def flat(colour: tuple[int, int, int], height: int = 48, width: int = 64) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def corners(height: int = 40, width: int = 60) -> np.ndarray:
    """Four quarters of different colours, so that every turn and mirror image shows."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (250, 0, 0)
    image[: height // 2, width // 2 :] = (0, 250, 0)
    image[height // 2 :, : width // 2] = (0, 0, 250)
    image[height // 2 :, width // 2 :] = (250, 250, 250)
    return image


def save(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def normalised(colour: tuple[int, int, int]) -> np.ndarray:
    return (np.array(colour) / 255 - IMAGENET_MEAN) / IMAGENET_STD


def png_header(width: int, height: int, *, bit_depth: int = 8, colour_type: int = 2) -> bytes:
    """A PNG of that size whose picture data are missing."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


# -------------------------------------------------------------------------------------------- kinds of photo


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.jpg", {"quality": 100, "subsampling": 0}, 4),
        ("a.webp", {"lossless": True}, 0),
        ("misnamed.txt", {"format": "PNG"}, 0),
    ],
)
def test_accepted_formats(tmp_path: Path, name: str, options: dict[str, object], tolerance: int) -> None:
    scene = Scene.open(save(tmp_path / name, flat(RED), **options))
    assert scene.image.dtype == np.uint8 and scene.depth is None
    np.testing.assert_allclose(scene.image.astype(int), flat(RED), atol=tolerance)


def test_modes(tmp_path: Path) -> None:
    grey = np.full((32, 32), 100, np.uint8)
    photos = {
        "cmyk.jpg": Image.fromarray(flat(RED)).convert("CMYK"),
        "palette.png": Image.fromarray(flat(RED)).convert("P", palette=Image.Palette.ADAPTIVE),
        "grey.png": Image.fromarray(grey),
        "grey16.png": Image.fromarray(np.full((32, 32), 100 * 257, np.uint16)),
        "bilevel.png": Image.fromarray(np.full((32, 32), 255, np.uint8)).convert("1"),
    }
    expected = {"grey.png": (100,) * 3, "grey16.png": (100,) * 3, "bilevel.png": (255,) * 3}
    for name, photo in photos.items():
        image = Scene.open(save(tmp_path / name, photo)).image
        wanted = np.broadcast_to(np.array(expected.get(name, RED)), image.shape)
        np.testing.assert_allclose(image.astype(int), wanted, atol=5, err_msg=name)


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    """Pillow cannot write it, so the PNG is made by hand."""
    path = tmp_path / "a.png"
    row = b"\0" + np.tile(np.array(RED, ">u2") * 257, 20).astype(">u2").tobytes()
    data = zlib.compress(row * 20)
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    for kind, chunk in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
        content += struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
    path.write_bytes(content)
    np.testing.assert_array_equal(Scene.open(path).image, flat(RED, 20, 20))


def test_transparency_lies_on_mid_grey(tmp_path: Path) -> None:
    colour = np.dstack([flat(RED), np.zeros((48, 64), np.uint8)])
    colour[:24, :, 3] = 255
    image = Scene.open(save(tmp_path / "rgba.png", colour)).image
    np.testing.assert_array_equal(image[:24], flat(RED)[:24])
    np.testing.assert_array_equal(image[24:], 128)
    grey = np.dstack([np.full((32, 32), 100, np.uint8), np.zeros((32, 32), np.uint8)])
    np.testing.assert_array_equal(Scene.open(save(tmp_path / "la.png", Image.fromarray(grey))).image, 128)
    palette = Image.fromarray(np.zeros((32, 32), np.uint8)).convert("P")
    image = Scene.open(save(tmp_path / "p.png", palette, transparency=b"\0")).image
    np.testing.assert_array_equal(image, 128)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_the_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(flat(colour)) for colour in (RED, BLUE)]
    path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(Scene.open(path).image, flat(RED))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (6, lambda upright: np.rot90(upright, 1)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int, stored: object) -> None:
    photo = Image.fromarray(np.ascontiguousarray(stored(corners())))  # type: ignore[operator]
    exif = photo.getexif()
    exif[0x0112] = orientation
    image = Scene.open(save(tmp_path / f"a.{suffix}", photo, exif=exif, quality=95, lossless=True)).image
    assert image.shape == (40, 60, 3)
    np.testing.assert_allclose(image[5:15:9, 5:15:9].astype(int), corners()[5:15:9, 5:15:9], atol=30)
    np.testing.assert_allclose(image[25:35, 5:15].astype(int), corners()[25:35, 5:15], atol=30)


def test_a_rotated_sixteen_bit_photo(tmp_path: Path) -> None:
    values = np.repeat(np.array([[1000], [60_000]], np.uint16), 20, axis=0).repeat(30, axis=1)
    photo = Image.fromarray(values)
    exif = photo.getexif()
    exif[0x0112] = 6  # stored lying on its left side
    image = Scene.open(save(tmp_path / "a.png", photo, exif=exif)).image
    np.testing.assert_array_equal(image[..., 0], np.rot90(values >> 8, -1))


def test_unreadable_exif_is_no_obstacle(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", flat(RED), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f", quality=95)
    np.testing.assert_allclose(Scene.open(path).image.astype(int), flat(RED), atol=8)


@pytest.mark.parametrize(
    ("name", "size"), [("a.jpg", (4000, 2000)), ("a.png", (3000, 1000)), ("b.jpg", (1500, 2600))]
)
def test_large_photos_are_shrunk(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    image = Scene.open(save(tmp_path / name, corners(size[1], size[0]), quality=95)).image
    assert max(image.shape) == 1024
    assert image.shape[1] / image.shape[0] == pytest.approx(size[0] / size[1], rel=5e-3)
    expected = corners(*image.shape[:2]).astype(int)
    assert np.abs(image.astype(int) - expected).mean() < 3


# -------------------------------------------------------------------------------------------- what is refused


def refused(path: Path, match: str) -> None:
    with pytest.raises(PhotoError, match=match) as error:
        Scene.open(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_what_is_no_photo(tmp_path: Path) -> None:
    refused(tmp_path / "missing.jpg", "no such file")
    refused(tmp_path, "folder")
    (tmp_path / "empty.jpg").touch()
    refused(tmp_path / "empty.jpg", "empty file")
    (tmp_path / "text.jpg").write_text("a room with a view\n" * 20)
    refused(tmp_path / "text.jpg", "not a photo")
    refused(save(tmp_path / "a.gif", flat(RED)), "picture in GIF; a photo in JPEG, PNG, WEBP, HEIF is needed")
    refused(save(tmp_path / "a.jpg", flat(RED), format="BMP"), "picture in BMP")


@pytest.mark.parametrize(
    ("width", "height", "match"),
    [
        (1, 1, "at least 16 x 16"),
        (400, 15, "at least 16 x 16"),
        (300, 32, "8 times"),
        (32, 300, "8 times"),
        (9000, 8000, "64 megapixels"),
        (12_000, 9_000, "64 megapixels"),
        (40_000, 40_000, "64 megapixels"),
    ],
)
def test_size_is_told_from_the_header(tmp_path: Path, width: int, height: int, match: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_header(width, height))
    tracemalloc.start()
    refused(path, match)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
def test_truncated_photos(tmp_path: Path, suffix: str, kept: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", picture)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, "truncated|damaged|not a photo|cannot be read")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), suffix=st.sampled_from(["png", "jpg", "webp"]))
def test_damage_anywhere_is_an_error_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str
) -> None:
    rng = np.random.default_rng(seed)
    path = save(tmp_path_factory.mktemp("damage") / f"a.{suffix}", corners())
    data = bytearray(path.read_bytes())
    for position in rng.integers(0, len(data), 4):
        data[position] = rng.integers(0, 256)
    path.write_bytes(data)
    try:
        image = Scene.open(path).image
    except PhotoError as error:
        assert "\n" not in str(error)
    else:
        assert image.ndim == 3


def test_arrays_of_another_shape() -> None:
    with pytest.raises(PhotoError, match="uint8"):
        Scene(np.zeros((20, 20, 3), np.float32))  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(PhotoError, match="shape"):
        Scene(np.zeros((20, 20), np.uint8))
    with pytest.raises(PhotoError, match="depth"):
        Scene(flat(RED), np.zeros((2, 2), np.float32))


# -------------------------------------------------------------------------------------------- depth


def test_depth_as_png_and_npy(tmp_path: Path) -> None:
    photo = save(tmp_path / "a.png", flat(RED, 48, 96))
    metres = np.linspace(0.5, 12.0, 24 * 48).reshape(24, 48).astype(np.float32)
    metres[0, 0] = 0.0
    np.save(tmp_path / "depth.npy", metres)
    save(tmp_path / "depth.png", np.rint(metres * 1000).astype(np.uint16))
    expected = metres.repeat(2, axis=0).repeat(2, axis=1)
    for name, tolerance in (("depth.npy", 0.0), ("depth.png", 5.1e-4)):
        depth = Scene.open(photo, tmp_path / name).depth
        assert depth is not None and depth.dtype == np.float32
        np.testing.assert_allclose(depth, expected, atol=tolerance)


def test_unknown_depths_are_zero(tmp_path: Path) -> None:
    photo = save(tmp_path / "a.png", flat(RED, 20, 20))
    metres = np.full((20, 20), 2.0)
    metres[:4] = np.array([np.nan, np.inf, -np.inf, -1.0])[:, None]
    np.save(tmp_path / "d.npy", metres)
    depth = Scene.open(photo, tmp_path / "d.npy").depth
    assert depth is not None
    np.testing.assert_array_equal(depth[:4], 0)
    np.testing.assert_array_equal(depth[4:], 2)


def test_bad_depths(tmp_path: Path) -> None:
    photo = save(tmp_path / "a.png", flat(RED))
    np.save(tmp_path / "square.npy", np.ones((48, 48)))
    np.save(tmp_path / "three.npy", np.ones((48, 64, 3)))
    np.save(tmp_path / "whole.npy", np.ones((48, 64), np.int32))
    np.save(tmp_path / "pickle.npy", np.array([[{}]]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("far")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (40000, 40000), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    (tmp_path / "promise.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    save(tmp_path / "grey.png", np.ones((48, 64), np.uint8))
    (tmp_path / "huge.png").write_bytes(png_header(9000, 8000, bit_depth=16, colour_type=0))
    cut = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 9999, (48, 64)).astype(np.uint16))
    cut.write_bytes(cut.read_bytes()[:2000])
    (tmp_path / "photo.jpg").write_bytes(save(tmp_path / "b.jpg", flat(RED)).read_bytes())
    for name, match in {
        "square.npy": "same aspect ratio",
        "three.npy": "float metres",
        "whole.npy": "float metres",
        "pickle.npy": "not a depth map",
        "text.npy": "not a depth map",
        "promise.npy": "not a depth map",
        "missing.npy": "no such file",
        "missing.png": "no such file",
        "grey.png": "16-bit grey in millimetres",
        "huge.png": "more than a depth map may have",
        "cut.png": "truncated or damaged",
        "photo.jpg": "picture in JPEG",
    }.items():
        with pytest.raises(PhotoError, match=match) as error:
            Scene.open(photo, tmp_path / name)
        assert "\n" not in str(error.value) and name in str(error.value)


# -------------------------------------------------------------------------------------------- canvas


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((96, 192), np.s_[16:80, :]),
        ((300, 600), np.s_[16:80, :]),
        ((300, 560), np.s_[:, 6:185]),
        ((48, 64), np.s_[:, 32:160]),
        ((100, 50), np.s_[:, 72:120]),
        ((100, 300), np.s_[16:80, :]),
    ],
)
def test_canvas_of_one_colour(shape: tuple[int, int], inside: tuple[slice, slice]) -> None:
    canvas = Scene(flat(RED, *shape), np.full(shape, 2.5, np.float32)).canvas()
    assert canvas.shape == (4, 96, 192) and canvas.dtype == np.float32
    expected = np.zeros_like(canvas)
    expected[(slice(0, 3), *inside)] = normalised(RED)[:, None, None]
    expected[(3, *inside)] = 0.25
    np.testing.assert_allclose(canvas, expected, atol=1e-5)


def test_canvas_without_depth_has_none() -> None:
    canvas = Scene(flat(BLUE)).canvas(height=32, width=40)
    assert canvas.shape == (4, 32, 40)
    assert not canvas[3].any()


def test_views_are_mirrored_and_those_of_a_panorama_turned() -> None:
    ramp = np.broadcast_to(np.arange(192, dtype=np.uint8)[None, :, None], (96, 192, 3)).copy()
    panorama, photo = Scene(ramp), Scene(ramp[:, :180].copy())
    assert panorama.is_panorama and not photo.is_panorama
    assert panorama.views().shape == (16, 4, 96, 192)
    np.testing.assert_array_equal(panorama.views()[0], panorama.canvas())
    np.testing.assert_array_equal(panorama.views()[3], Scene(np.roll(ramp, 72, axis=1)).canvas())
    np.testing.assert_array_equal(panorama.views()[8], Scene(ramp[:, ::-1].copy()).canvas())
    mirrored = Scene(ramp[:, 179::-1].copy())
    np.testing.assert_array_equal(photo.views(), np.stack([photo.canvas(), mirrored.canvas()]))
    np.testing.assert_array_equal(panorama.views(192, 384)[0], panorama.canvas(192, 384))
    np.testing.assert_array_equal(photo.views(192, 384)[0], photo.canvas(192, 384))


def test_canvas_is_antialiased() -> None:
    """A chequerboard far finer than the canvas is even grey, not a pattern."""
    board = (np.indices((640, 1920)).sum(axis=0) % 2 * 255).astype(np.uint8)
    canvas = Scene(np.repeat(board[:, :, None], 3, axis=2)).canvas()
    expected = normalised((127, 128, 128))
    assert np.abs(canvas[:3, 16:80].transpose(1, 2, 0) - expected).max() < 0.05


def test_unknown_depth_does_not_pull_the_mean() -> None:
    depth = np.full((128, 384), 4.0, np.float32)
    depth[::7, ::5] = 0.0  # holes
    depth[:, :100] = 0.0  # a window
    canvas = Scene(flat(RED, 128, 384), depth).canvas()[3, 16:80]
    np.testing.assert_allclose(canvas[:, 55:], 0.4, atol=1e-6)
    np.testing.assert_array_equal(canvas[:, :45], 0.0)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 400),
    columns=st.integers(1, 400),
    height=st.integers(1, 100),
    width=st.integers(1, 200),
)
def test_canvas_is_centred_and_undistorted(rows: int, columns: int, height: int, width: int) -> None:
    assume(not PANORAMA_ASPECT * rows <= columns <= SPHERE_ASPECT * rows)
    canvas = Scene(flat(RED, rows, columns)).canvas(height, width)
    filled = np.argwhere(canvas[0] != 0)
    (top, left), (bottom, right) = filled.min(axis=0), filled.max(axis=0) + 1
    assert abs(top - (height - bottom)) <= 1 and abs(left - (width - right)) <= 1
    assert bottom - top == height or right - left == width
    scale = min(height / rows, width / columns)
    assert abs(bottom - top - max(1, rows * scale)) <= 0.5 + 1e-9
    assert abs(right - left - max(1, columns * scale)) <= 0.5 + 1e-9


def test_a_picture_from_pole_to_pole_is_seen_as_a_cylinder() -> None:
    """Elevation, in grey, is found where a cylinder's pinhole slices would have it."""
    elevation = np.pi * (0.5 - (np.arange(480) + 0.5) / 480)
    grey = np.uint8(np.round(128 + 80 * elevation))
    sphere = Scene(
        np.repeat(np.repeat(grey[:, None, None], 960, 1), 3, 2),
        np.repeat(1 + grey[:, None], 960, 1).astype(np.float32),
    )
    canvas = sphere.canvas(192, 384)
    assert not canvas[:, :32].any() and not canvas[:, 160:].any()
    expected = np.arctan(2 * np.pi / 384 * (64 - 0.5 - np.arange(128)))
    red = 255 * (IMAGENET_STD[0] * canvas[0, 32:160] + IMAGENET_MEAN[0])
    np.testing.assert_allclose((red - 128) / 80, np.repeat(expected[:, None], 384, 1), atol=0.02)
    np.testing.assert_allclose(
        (10 * canvas[3, 32:160] - 129) / 80, np.repeat(expected[:, None], 384, 1), atol=0.04
    )
    # What is wider is a cylinder already.
    wide = Scene(sphere.image[120:360])
    assert wide.is_panorama
    assert np.ptp(wide.canvas(192, 384)[0, 48:144]) == pytest.approx(
        np.ptp(grey[120:360]) / 255 / IMAGENET_STD[0], abs=0.05
    )
