"""What a photo shows of a room: an RGB picture and, where there is one, its depth."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mvsd.container import is_video
from mvsd.errors import PhotoError
from mvsd.heif import is_heif, open_heif

FORMATS = ("JPEG", "PNG", "WEBP", "HEIF")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif")
MIN_SIDE = 16  # pixels; less than this shows no room
MAX_PIXELS = 64_000_000
MAX_ASPECT = 8.0  # a full-circle panorama has 2 to 4
LOADED_SIDE = 1024  # pixels; larger photos are shrunk to this on loading
IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), np.float32)
CANVAS = (4, 96, 192)  # channels, rows and columns of the least that a network sees
PANORAMA_ASPECT = 1.95  # of a picture so wide that it is taken to go all the way round
SPHERE_ASPECT = 2.1  # of the widest panorama that is taken for an equirectangular one, from pole to pole
DEPTH_UNIT = 10.0  # metres per unit of the canvas' depth channel
_TURNS = 8
_GREY = (128, 128, 128, 255)
_ASPECT_TOLERANCE = 0.02  # photo against depth map; covers rounding to whole pixels
# Pillow's decoders, and libheif, raise any of these on a damaged file.
_DECODING_ERRORS = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo of a room.

    `image` (H, W, 3) uint8 is upright RGB; `depth` (H, W) float32 is the distance in metres, 0 where unknown,
    or None. Raises `PhotoError` for arrays of another shape or type.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or self.image.dtype != np.uint8:
            raise PhotoError(
                f"an image of shape {shape} and type {self.image.dtype} came; (H, W, 3) uint8 is needed"
            )
        if self.depth is not None and (self.depth.shape != shape[:2] or self.depth.dtype.kind != "f"):
            raise PhotoError(
                f"a depth map of shape {self.depth.shape} and type {self.depth.dtype} came with an image of "
                f"{shape[:2]}; metres as floats, in the same size, are needed"
            )

    @classmethod
    def open(cls, path: str | Path, depth_path: str | Path | None = None) -> Scene:
        """Reads a JPEG, PNG, WebP or HEIF (HEIC) photo and, if given, its depth.

        The orientation is applied, transparency laid on mid-grey (it says least about the room), the first
        frame of an animation or the primary image of several taken, and a photo longer than `LOADED_SIDE`
        shrunk to it. The depth is a 16-bit grey PNG in millimetres or an .npy array (H, W) of float metres,
        with the aspect ratio of the upright photo.

        Raises `PhotoError` for a file that is missing, no photo, damaged, smaller than `MIN_SIDE` on a side,
        larger than `MAX_PIXELS` (told from the header, without decoding) or longer than `MAX_ASPECT` times
        its width, and `MissingExtraError` for HEIF without the extra heic.
        """
        image = _load_image(Path(path))
        return cls(image, None if depth_path is None else _load_depth(Path(depth_path), image.shape[:2]))

    def canvas(self, height: int = CANVAS[1], width: int = CANVAS[2]) -> NDArray[np.float32]:
        """The scene as the network sees it: (4, height, width) float32.

        Fitted without distortion and centred; RGB in ImageNet's normalisation, then depth in metres /
        `DEPTH_UNIT`, 0 where unknown. The bars beside it are 0 in every channel and tell a photo from a
        panorama. Panoramas are seen as cylinders: what a 360-degree camera makes, as wide as twice its height
        (up to `SPHERE_ASPECT`), is unrolled between 46 degrees above and below (`_cylinder_rows`).
        """
        image, depth = self._unrolled()
        rows, columns = image.shape[:2]
        scale = min(height / rows, width / columns)
        size = (min(width, max(1, round(columns * scale))), min(height, max(1, round(rows * scale))))
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        inside = np.s_[top : top + size[1], left : left + size[0]]
        canvas = np.zeros((4, height, width), np.float32)
        # Bilinear with antialiasing, as in the preparation of the pictures ImageNet networks are trained on.
        picture = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        colours = np.asarray(picture, np.float32) / 255.0
        normalised = (colours - IMAGENET_MEAN) / IMAGENET_STD
        canvas[:3][(slice(None), *inside)] = normalised.transpose(2, 0, 1)
        if depth is not None:
            canvas[3][inside] = _shrink_depth(depth, size) / DEPTH_UNIT
        return canvas

    def _unrolled(self) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Image and depth, those from pole to pole on a cylinder."""
        image, depth = self.image, self.depth
        if not self.is_panorama or image.shape[1] > SPHERE_ASPECT * image.shape[0]:
            return image, depth
        above, share = np.divmod(_cylinder_rows(*image.shape[:2]), 1)
        first = above.astype(np.intp)
        mixed = image[first] + share[:, None, None] * (image[first + 1].astype(np.float32) - image[first])
        return mixed.round().astype(np.uint8), None if depth is None else depth[first + (share >= 0.5)]

    @property
    def is_panorama(self) -> bool:
        """Whether the picture is as wide as one that goes all the way round."""
        height, width = self.image.shape[:2]
        is_wide: bool = width >= PANORAMA_ASPECT * height
        return is_wide

    def views(self, height: int = CANVAS[1], width: int = CANVAS[2]) -> NDArray[np.float32]:
        """Canvases (V, 4, H, W) of the same scene and its mirror image, a panorama turned eight times."""
        canvas = self.canvas(height, width)
        num_turns = _TURNS if self.is_panorama else 1
        turns = np.stack(
            [np.roll(canvas, turn * canvas.shape[-1] // num_turns, -1) for turn in range(num_turns)]
        )
        return np.concatenate([turns, turns[..., ::-1]])


def canvas_size(scale: int) -> tuple[int, int]:
    """Rows and columns of a canvas `scale` times as high and as wide as the smallest."""
    return scale * CANVAS[1], scale * CANVAS[2]


def _cylinder_rows(height: int, width: int) -> NDArray[np.float64]:
    """Rows of an equirectangular picture at which a cylinder around the camera, three times as wide as high, has its.

    A cylinder's height is the tangent of the elevation, an equirectangular picture's the elevation itself.
    """
    num_rows = max(1, round(width / 3))
    heights = 2 * np.pi / width * (num_rows / 2 - 0.5 - np.arange(num_rows))
    return np.asarray(np.clip((0.5 - np.arctan(heights) / np.pi) * height - 0.5, 0, height - 1 - 1e-6))


def _load_image(path: Path) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of size, EXIF and palettes; each is dealt with here
        with _open_photo(path, FORMATS) as photo:
            _require_size(path, photo.size)
            try:
                return _decode(photo)
            except _DECODING_ERRORS as error:
                raise PhotoError(
                    f"{path}: truncated or damaged {photo.format} ({_reason(error)}); save it again"
                ) from error


def _open_photo(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """Reads the header only."""
    wanted = ", ".join(formats)
    try:
        return _identified(path, formats)
    except Image.DecompressionBombError as error:
        limit = f"{MAX_PIXELS // 1_000_000} megapixels"
        raise PhotoError(
            f"{path}: far more than {limit}, the largest photo that is read; make it smaller"
        ) from error
    except UnidentifiedImageError as error:
        raise PhotoError(f"{path}: {_what_came(path, formats)}; a photo in {wanted} is needed") from error
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file; give the path of a photo in {wanted}") from None
    except IsADirectoryError:
        raise PhotoError(f"{path}: a folder; give the path of a photo in {wanted}") from None
    except _DECODING_ERRORS as error:
        raise PhotoError(f"{path}: cannot be read ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """In one line, which libheif's reasons are not."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _identified(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """HEIF is opened apart: as a plugin it would be there for whatever else in this process opens pictures."""
    try:
        return Image.open(path, formats=[name for name in formats if name != "HEIF"])
    except UnidentifiedImageError:
        if "HEIF" not in formats or not is_heif(path):
            raise
    return open_heif(path, MAX_PIXELS)


def _what_came(path: Path, formats: tuple[str, ...]) -> str:
    if path.stat().st_size == 0:
        return "an empty file (0 bytes)"
    if is_heif(path):
        return "a picture in HEIF"
    try:
        with Image.open(path) as other:
            return f"a picture in {other.format}" if other.format not in formats else "a damaged file"
    except (Image.DecompressionBombError, *_DECODING_ERRORS):
        if is_video(path):
            return "a video; save a frame of it as JPEG and give that"
        return "not a photo, or damaged"


def _require_size(path: Path, size: tuple[int, int]) -> None:
    columns, rows = size
    came = f"{path}: {columns} x {rows} pixels"
    if min(size) < MIN_SIDE:
        raise PhotoError(f"{came}; a photo of at least {MIN_SIDE} x {MIN_SIDE} is needed to show a room")
    if columns * rows > MAX_PIXELS:
        raise PhotoError(f"{came}; at most {MAX_PIXELS // 1_000_000} megapixels are read; make it smaller")
    if max(size) > MAX_ASPECT * min(size):
        raise PhotoError(f"{came}; a side may be at most {MAX_ASPECT:.0f} times the other; cut the photo")


def _decode(photo: Image.Image) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of the first frame, upright, at most `LOADED_SIDE` long."""
    shrink = max(1.0, max(photo.size) / LOADED_SIDE)
    if photo.format == "JPEG":  # decodes straight to 1/2 ... 1/8; a HEIF would take the thumbnail it brings
        photo.draft(None, (int(photo.width / shrink), int(photo.height / shrink)))
    photo.load()
    try:
        ImageOps.exif_transpose(photo, in_place=True)  # a HEIF is upright, and its EXIF says so by now
    except _DECODING_ERRORS:  # a photo with unreadable EXIF is still a photo
        pass
    if photo.mode.startswith("I"):  # 16-bit grey
        values = np.clip(np.asarray(photo) >> 8, 0, 255).astype(np.uint8)
        picture = Image.fromarray(values).convert("RGB")
    else:
        picture = photo.convert("RGBA" if photo.has_transparency_data else "RGB")
    scale = min(1.0, LOADED_SIDE / max(picture.size))
    if scale < 1.0:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, _GREY), picture).convert("RGB")
    return np.array(picture, np.uint8)


def _load_depth(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Depth in metres at the image's resolution `shape`, 0 where unknown, infinite or not a number."""
    values, metres_per_unit = _open_npy(path) if path.suffix.lower() == ".npy" else _open_depth_png(path)
    rows, columns = values.shape
    if abs(columns * shape[0] / (rows * shape[1]) - 1.0) > _ASPECT_TOLERANCE:
        raise PhotoError(
            f"{path}: a depth map of {columns} x {rows} pixels does not fit a {shape[1]} x {shape[0]} photo;"
            " the same aspect ratio is needed"
        )
    nearest = [
        ((np.arange(n) + 0.5) * m / n).astype(np.intp) for n, m in zip(shape, (rows, columns), strict=True)
    ]
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is unknown
        depth = np.asarray(values[np.ix_(*nearest)], np.float32) * np.float32(metres_per_unit)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _open_npy(path: Path) -> tuple[NDArray[Any], float]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise PhotoError(f"{path}: no such file; give the path of a depth map (.png or .npy)") from None
    except (TokenError, *_DECODING_ERRORS) as error:
        raise PhotoError(f"{path}: not a depth map in .npy ({error})") from error
    if (
        not isinstance(values, np.ndarray)
        or values.ndim != 2
        or values.dtype.kind != "f"
        or 0 in values.shape
    ):
        raise PhotoError(f"{path}: an array (H, W) of float metres is needed; save one with numpy.save")
    if values.size > MAX_PIXELS:
        raise PhotoError(f"{path}: {values.size} values; at most {MAX_PIXELS // 1_000_000} million are read")
    return values, 1.0


def _open_depth_png(path: Path) -> tuple[NDArray[Any], float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open_photo(path, ("PNG",)) as photo:
            if photo.width * photo.height > MAX_PIXELS:
                raise PhotoError(
                    f"{path}: {photo.width} x {photo.height} pixels are more than a depth map may have"
                )
            if not photo.mode.startswith("I"):
                raise PhotoError(f"{path}: a PNG of type {photo.mode}; 16-bit grey in millimetres is needed")
            try:
                return np.asarray(photo), 1e-3
            except _DECODING_ERRORS as error:
                raise PhotoError(f"{path}: truncated or damaged depth map ({error})") from error


def _shrink_depth(depth: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Mean of the known depths below each new pixel; unknown (0) where most of them are."""

    def resized(values: NDArray[Any]) -> NDArray[np.float32]:
        picture = Image.fromarray(values.astype(np.float32))
        return np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)

    known = resized(depth > 0)
    mean = resized(depth) / np.maximum(known, np.float32(0.5))
    return np.where(known >= 0.5, mean, np.float32(0))
