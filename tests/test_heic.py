"""Photos as phones take them: HEIC, made here by the encoder in pillow_heif's wheel."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_scene import RED, corners, flat, refused

from mvsd.errors import MissingExtraError, PhotoError
from mvsd.folders import scene_for
from mvsd.scene import Scene

pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
EXACT = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def save(path: Path, pixels: np.ndarray, mode: str = "RGB", **options: object) -> Path:
    """Write pixels as they are, whatever `exif` says of them; the encoder turns that into the file's own turn."""
    pillow_heif.encode(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes(), path, **options)
    return path


def fail(*_: object) -> None:
    raise AssertionError


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "misnamed.jpg"])
def test_pixels_are_those_that_were_saved(tmp_path: Path, name: str) -> None:
    image = Scene.open(save(tmp_path / name, corners(), **EXACT)).image
    np.testing.assert_array_equal(image, corners())


def test_a_grid_of_tiles_as_phones_write_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.heic", corners(600, 900), tile_size=256, exif=turned(6))
    assert b"grid" in path.read_bytes()
    expected = np.rot90(corners(600, 900), -1).astype(int)
    assert np.abs(Scene.open(path).image - expected).mean() < 2


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),
        (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_a_turn_is_applied_once(tmp_path: Path, orientation: int, stored: object) -> None:
    """As in a phone's file, it is said twice: in the container, and in EXIF."""
    pixels = np.ascontiguousarray(stored(corners()))  # type: ignore[operator]
    path = save(tmp_path / "a.heic", pixels, exif=turned(orientation), **EXACT)
    data = path.read_bytes()
    assert turned(orientation) in data
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    np.testing.assert_array_equal(Scene.open(path).image, corners())


@pytest.mark.parametrize(
    ("mode", "colour"), [("RGB;16", RED), ("RGBA;16", RED), ("L;16", (200,)), ("L", (200,)), ("LA", (200,))]
)
def test_ten_bits_and_grey(tmp_path: Path, mode: str, colour: tuple[int, ...]) -> None:
    """Ten bits are what the encoder makes of sixteen."""
    is_deep = "16" in mode
    opaque = (*colour, 255) if "A" in mode else colour
    pixels = np.broadcast_to(np.array(opaque, np.uint16 if is_deep else np.uint8), (48, 64, len(opaque)))
    path = save(tmp_path / "a.heic", pixels * np.array(257 if is_deep else 1, pixels.dtype), mode)
    if is_deep:
        assert pillow_heif.open_heif(path).info["bit_depth"] == 10
    image = Scene.open(path).image.astype(int)
    np.testing.assert_allclose(image, np.broadcast_to(np.array(colour), image.shape), atol=3)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa"])
def test_transparency_lies_on_mid_grey(tmp_path: Path, mode: str) -> None:
    pixels = np.dstack([flat(RED), np.zeros((48, 64), np.uint8)])
    pixels[:24, :, 3] = 255
    pixels[24:, :, :3] = 0
    image = Scene.open(save(tmp_path / "a.heic", pixels, mode, **EXACT)).image
    np.testing.assert_array_equal(image[:24], flat(RED)[:24])
    np.testing.assert_array_equal(image[24:], 128)


def test_of_several_images_the_primary_one(tmp_path: Path) -> None:
    photos = pillow_heif.from_bytes("RGB", (64, 48), bytes(64 * 48 * 3))
    photos.add_frombytes("RGB", (60, 40), corners().tobytes())
    photos.save(tmp_path / "a.heic", primary_index=1, **EXACT)
    np.testing.assert_array_equal(Scene.open(tmp_path / "a.heic").image, corners())


def test_the_thumbnail_is_not_taken_for_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.heic", corners(1200, 2400), thumbnails=[1100])
    assert pillow_heif.open_heif(path).info["thumbnails"]
    monkeypatch.setattr(pillow_heif.HeifImage, "get_thumbnail", fail)
    assert Scene.open(path).image.shape == (512, 1024, 3)


def announced(path: Path, *sizes: tuple[int, int]) -> Path:
    """The same file, of which the header says other sizes, or the last of them from there on."""
    parts = path.read_bytes().split(b"ispe")
    for number, part in enumerate(parts[1:]):
        size = sizes[min(number, len(sizes) - 1)]
        parts[number + 1] = part[:4] + struct.pack(">II", *size) + part[12:]
    path.write_bytes(b"ispe".join(parts))
    return path


def only_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.HeifImage, "load", fail)


@pytest.mark.parametrize(
    ("size", "match"),
    [((64, 15), "64 x 15 pixels.*at least 16 x 16"), ((64, 600), "8 times"), ((9000, 8000), "64 megapixels")],
)
def test_size_is_told_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], match: str
) -> None:
    path = announced(save(tmp_path / "a.heic", flat(RED, 64, 64)), size)
    only_the_header(monkeypatch)
    refused(path, match)


def test_nothing_in_the_file_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = save(tmp_path / "cut.heic", corners())
    assert b"clap" in cut.read_bytes()
    two = save(tmp_path / "two.heic", flat(RED, 128, 128), thumbnails=[64])
    only_the_header(monkeypatch)
    refused(announced(cut, (9000, 8000)), "9000 x 8000 pixels is in it; at most 64 megapixels")
    refused(announced(two, (128, 128), (9000, 8000)), "9000 x 8000 pixels is in it")


@pytest.mark.parametrize("kind", [b"meta", b"iprp", b"ipco", b"ispe"])
def test_a_box_may_say_its_size_otherwise(tmp_path: Path, kind: bytes) -> None:
    """In eight bytes, or as 0 where it is the last."""

    def box(name: bytes, content: bytes) -> bytes:
        if name == kind:
            return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content
        return struct.pack(">I4s", 0 if name == b"meta" else 8 + len(content), name) + content

    inner = struct.pack(">III", 0, 9000, 8000)
    for name in (b"ispe", b"ipco", b"iprp"):
        inner = box(name, inner)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x10ftypheic\0\0\0\0" + box(b"meta", bytes(4) + inner))
    refused(tmp_path / "a.heic", "9000 x 8000 pixels is in it")


def test_a_grid_larger_than_the_header_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = save(tmp_path / "a.heic", corners(256, 512), tile_size=128).read_bytes()
    grid = struct.pack(">BBBBHH", 0, 0, 1, 3, 512, 256)
    assert data.count(grid) == 1
    (tmp_path / "a.heic").write_bytes(data.replace(grid, grid[:4] + struct.pack(">HH", 9000, 8000)))
    only_the_header(monkeypatch)
    refused(tmp_path / "a.heic", "9000 x 8000 pixels is in it")


def test_more_than_the_header_says_is_not_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.heic", flat(RED, 1200, 1600))
    refused(announced(path, (64, 48)), "truncated or damaged HEIF")


def test_a_file_of_many_bytes_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.heic", corners())
    with path.open("r+b") as file:
        file.truncate(2**28 + 2**20)  # a hole: nothing is written
    refused(path, "257 MiB; at most 256 are read")


@pytest.mark.parametrize("kept", [0.01, 0.02, 0.1, 0.3, 0.9, 0.99])
def test_truncated_photos(tmp_path: Path, kept: float) -> None:
    path = save(tmp_path / "a.heic", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, "truncated|damaged|not a photo|cannot be read")


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_damage_anywhere_is_an_error_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = save(tmp_path_factory.mktemp("damage") / "a.heic", corners(), exif=turned(6), tile_size=32)
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


def test_other_users_of_pillow_see_no_difference(tmp_path: Path) -> None:
    Scene.open(save(tmp_path / "a.heic", corners()))
    assert "HEIF" not in Image.OPEN and ".heic" not in Image.registered_extensions()


def test_a_depth_map_is_no_heic(tmp_path: Path) -> None:
    path = save(tmp_path / "a.heic", corners())
    with pytest.raises(PhotoError, match="a picture in HEIF; a photo in PNG is needed"):
        Scene.open(path, path)


def test_a_folder_of_photos_may_hold_them(tmp_path: Path) -> None:
    path = save(tmp_path / "IMG_0001.HEIC", corners())
    assert scene_for(Path("sub/IMG_0001.wav"), tmp_path) == path


def test_without_pillow_heif_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "room.jpg", corners())  # its content counts
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    told = r'room\.jpg: a picture in HEIC.*save it as JPEG.* pillow_heif is not .*"\.\[heic\]"'
    with pytest.raises(MissingExtraError, match=told):
        Scene.open(path)
