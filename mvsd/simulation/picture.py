"""The picture and the depth map of a room, rendered with Mitsuba 3 (https://mitsuba-renderer.org).

A few path-traced samples per pixel are made clean by filtering the light, not the colours: noise-free albedo,
normals and depth come from a second pass, and light = radiance / albedo is smoothed within surfaces only
(edge-avoiding a-trous wavelets, Dammertz et al. 2010, eq. 1-4), and only as far as it differs by chance: two halves
of the samples tell how far (Schied et al. 2017, section 4.4). Shadows and dark corners stay, whatever the size.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, median_filter

from mvsd.errors import MissingExtraError
from mvsd.simulation.rooms import Room
from mvsd.simulation.stage import build_scene

PANORAMA_SLICES = 16
PHOTO_PIXELS, PANORAMA_PIXELS = (128, 96), (192, 64)


def load_mitsuba() -> ModuleType:
    """Mitsuba in its scalar variant, on one thread.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise MissingExtraError("simulate", "mitsuba") from error
    if mitsuba.variant() != "scalar_rgb":
        mitsuba.set_variant("scalar_rgb")
        mitsuba.set_log_level(mitsuba.LogLevel.Error)
        drjit.set_thread_count(1)
    return mitsuba


def render(
    room: Room, *, width: int | None = None, height: int | None = None, samples_per_pixel: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth as the room's camera sees them.

    Args:
        width, height: in pixels; by default 128 x 96, for a panorama 192 x 64 (its width is a multiple of 16).
        samples_per_pixel: of the light, an even number.

    Returns:
        image: (H, W, 3) uint8 sRGB. depth: (H, W) float32, distance along the ray in metres.
    """
    mi = load_mitsuba()
    usual_width, usual_height = PANORAMA_PIXELS if room.camera.projection == "panorama" else PHOTO_PIXELS
    width, height = width or usual_width, height or usual_height
    scene = mi.load_dict(build_scene(room, mi))
    sensor = _sensor(room, mi, width, height)
    seed = room.seed % 2**31
    features = np.array(mi.render(scene, sensor=sensor, integrator=_guides(mi), spp=6, seed=seed + 1))
    path = mi.load_dict({"type": "path", "max_depth": 5, "rr_depth": 3})
    halves = [
        np.array(mi.render(scene, sensor=sensor, integrator=path, spp=samples_per_pixel // 2, seed=half))[
            ..., :3
        ]
        for half in (seed, seed + 2)
    ]
    albedo, normal, depth = features[..., :3], features[..., 3:6], features[..., 6]
    return _develop(_denoise(halves[0], halves[1], albedo, normal, depth), room), depth


def _guides(mi: ModuleType) -> Any:
    return mi.load_dict({"type": "aov", "aovs": "albedo:albedo,normal:sh_normal,depth:depth"})


def _sensor(room: Room, mi: ModuleType, width: int, height: int) -> Any:
    """The camera: one pinhole, or a ring of narrow ones side by side (a cylinder of vertical slices)."""
    camera = room.camera
    film = {
        "type": "hdrfilm",
        "width": width,
        "height": height,
        # A pixel is what a larger picture, shrunk as photos are, would have there.
        "rfilter": {"type": "tent"},
        "pixel_format": "rgb",
    }
    position = np.array(camera.position)

    def pinhole(yaw: float, pitch: float, fov_deg: float) -> dict[str, Any]:
        view = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        to_world = mi.ScalarTransform4f().look_at(position.tolist(), (position + view).tolist(), [0, 0, 1])
        return {
            "type": "perspective",
            "fov": fov_deg,
            "fov_axis": "x",
            "to_world": to_world,
            "near_clip": 0.01,
        }

    if camera.projection != "panorama":
        return mi.load_dict({**pinhole(camera.yaw, camera.pitch, camera.fov_deg), "film": film})
    fov = 360 / PANORAMA_SLICES
    slice_film = {**film, "width": width // PANORAMA_SLICES}
    ring: dict[str, Any] = {"type": "batch", "film": film}
    for index in range(PANORAMA_SLICES):
        yaw = camera.yaw + np.radians(180 - fov * (index + 0.5))
        ring[f"slice{index:02d}"] = {**pinhole(yaw, 0.0, fov), "film": slice_film}
    return mi.load_dict(ring)


def _denoise(
    first: np.ndarray, second: np.ndarray, albedo: np.ndarray, normal: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Radiance (H, W, 3), of which two renderings are given, with its light smoothed within surfaces.

    Radiance and albedo are averaged with the same weights, which fall with the differences in normal, depth and
    light, and only then divided: a pixel on an edge, whose few samples fell on either side, does no harm.
    """
    albedo = np.maximum(albedo, 0.04)
    light = (first + second) / 2 / albedo
    brightness = light.sum(axis=-1)
    usual = median_filter(brightness, size=3)
    # A lone bright sample is noise.
    light = light * np.minimum(1, 3 * usual / np.maximum(brightness, 1e-6))[..., None]
    change = np.minimum(np.abs((first - second) / albedo).sum(axis=-1), 3 * usual)
    variance = gaussian_filter(change**2 / 4, 1.5)  # of the mean of the two
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    purity = np.clip(
        length[..., 0] * 10 - 9, 0.05, 1
    )  # low where a pixel holds an edge: it may borrow from all sides
    guide = np.concatenate([normal / np.maximum(length, 1e-6), depth[..., None]], axis=-1)
    sums = np.concatenate([light * albedo, albedo, variance[..., None]], axis=-1)
    for level in range(3):
        sums = _smooth(sums, guide, purity, 2**level)
    return np.asarray(sums[..., :3] / sums[..., 3:6] * albedo)


def _smooth(sums: np.ndarray, guide: np.ndarray, purity: np.ndarray, step: int) -> np.ndarray:
    """One a-trous level: a 5 x 5 B-spline with holes of ``step`` pixels, edge-avoiding.

    Args:
        sums: (H, W, 7) radiance, albedo and the variance of the light.
        guide: (H, W, 4) normal and depth.
    """
    kernel = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
    rows, columns = sums.shape[:2]
    reach = ((2 * step, 2 * step), (2 * step, 2 * step), (0, 0))
    light = (sums[..., :3] / sums[..., 3:6]).sum(axis=-1, keepdims=True)
    guide = np.concatenate([guide, light], axis=-1)
    padded, guides = np.pad(sums, reach, mode="edge"), np.pad(guide, reach, mode="edge")
    depth_scale = 0.04 * guide[..., 3] * step + 1e-3
    chance = 4 * np.sqrt(gaussian_filter(sums[..., 6], 1.0)) + 1e-4
    total, weights = np.zeros_like(sums), np.zeros((rows, columns, 1), np.float32)
    for i in range(5):
        for j in range(5):
            window = (slice(i * step, i * step + rows), slice(j * step, j * step + columns))
            other = guides[window]
            turned = np.maximum(1 - np.einsum("hwc,hwc->hw", other[..., :3], guide[..., :3]), 0)
            away = np.abs(other[..., 3] - guide[..., 3]) / depth_scale
            unlike = np.abs(other[..., 4] - guide[..., 4]) / chance
            weight = (kernel[i] * kernel[j] * np.exp(-purity * (32 * turned + away) - unlike))[..., None]
            total[..., :6] += weight * padded[window][..., :6]
            total[..., 6:] += weight**2 * padded[window][..., 6:]
            weights += weight
    return np.concatenate([total[..., :6] / weights, total[..., 6:] / weights**2], axis=-1)


def _develop(radiance: np.ndarray, room: Room) -> np.ndarray:
    """Expose for the mid-tones, compress the highlights (Reinhard et al. 2002, eq. 4) and encode as sRGB bytes."""
    rng = np.random.default_rng(room.seed + 7)
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722])
    key = np.exp(np.mean(np.log(luminance + 1e-3)))
    exposed = radiance * (0.26 * np.exp(rng.uniform(-0.3, 0.3)) / key) * rng.uniform(0.96, 1.04, size=3)
    mapped = exposed * (1 + exposed / 9.0) / (1 + exposed)
    mapped = np.clip(mapped, 0, 1)
    encoded = np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(encoded * 255), dtype=np.uint8)
