"""What becomes of the band above 8 kHz, and of the stereo image, in rooms rendered at 48 kHz.

    python benchmarks/fullband.py --speech FOLDER                       the tables of docs/fullband.md
    python benchmarks/fullband.py --speech FOLDER --half choose --exponents 0.5 0.7 1

FOLDER holds dry voices recorded at 44.1 kHz or more. Rooms are boxes by pyroomacoustics at 48 kHz in eight octaves up
to 16 kHz: its published materials end at 8 kHz, so each is continued by a random factor (median 1.1, spread 1.35), and
the air's absorption is that of ISO 9613-1 at a random humidity of 35 to 65 % (the method assumes 50 %). Voice i is in
room i. Every other clip is for choices (`--half choose`), the rest for the figures.

Error: level in octaves and frames of 43 ms every 10 ms, root mean square of the difference in dB and its mean, what
lies 40 dB below the octave's loudest frame being raised to there. The last octave ends at 20 kHz.

`plain` converts at 16 kHz and resamples: nothing above 8 kHz. `low band only` adds what changes at 16 kHz and leaves
the band above as it was. The response, or the dry voice, is the true one at 16 kHz where it says `true`: that is the
method alone, and what a perfect core would give.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyroomacoustics as pra

from mvsd import fullband
from mvsd.acoustics import convolve
from mvsd.audio import load_audio, resample
from mvsd.blockwise import CORE_RATE
from mvsd.converter import load

RATE = 48_000
OCTAVES_HZ = 125.0 * 2.0 ** np.arange(8)
THIRDS_HZ = 1000.0 * 2.0 ** (np.arange(-6, 13) / 3)
MATERIALS = (
    "hard_surface", "plasterboard", "smooth_brickwork_10mm_pointing", "wooden_lining", "carpet_thin", "carpet_cotton",
    "curtains_cotton_0.5", "ceiling_plasterboard", "linoleum_on_concrete", "rough_concrete", "glass_window",
    "wood_1.6cm", "ceramic_tiles",
)  # fmt: skip
HALVES = {"choose": slice(0, None, 2), "report": slice(1, None, 2), "all": slice(None)}
SCATTERING = 0.15 * np.array([0.4, 0.55, 0.8, 1.0, 1.2, 1.35, 1.45, 1.5])


# --------------------------------------------------------------------------------------- rooms and voices


def render_room(seed: int, *, num_voices: int = 1, spacing: float | None = None) -> np.ndarray:
    """Responses (M, V, R) at 48 kHz from V voices to M microphones; one microphone, or two `spacing` metres apart.

    Relative to the direct sound from the first voice to the first microphone, which is a unit impulse at sample 0.
    """
    rng = np.random.default_rng(seed)
    pra.random.seed(numpy=seed, libroom=seed)
    size = rng.uniform([3, 2.5, 2.3], [9, 7, 3.6])
    walls = {wall: _material(rng) for wall in ("east", "west", "north", "south", "ceiling", "floor")}
    air = fullband.air_absorption(OCTAVES_HZ, humidity=rng.uniform(35, 65))
    voices = [rng.uniform([0.6, 0.6, 1.1], size - 0.6) for _ in range(num_voices)]
    microphone = rng.uniform(0.6, size - 0.6)
    while np.linalg.norm(microphone - voices[0]) < 1:
        microphone = rng.uniform(0.6, size - 0.6)
    microphones = [microphone]
    if spacing is not None:
        angle = rng.uniform(0, 2 * np.pi)
        shift = spacing * np.array([np.cos(angle), np.sin(angle), 0])
        microphones.append(np.clip(microphone + shift, 0.2, size - 0.2))
    whole, direct = (
        _responses(size, materials, air, voices, microphones, order)
        for materials, order in ((walls, 6), (pra.Material(1.0), 0))
    )
    num_bins = 2**17
    spectrum, reference = np.fft.rfft(whole, num_bins), np.fft.rfft(direct[0, 0], num_bins)
    power = np.abs(reference) ** 2
    relative = np.fft.irfft(spectrum * reference.conj() / (power + 1e-6 * power.max()), num_bins)
    relative[0, 0, 0] = 1.0
    return np.roll(relative, 0 if spacing is None else 512, axis=-1)[..., : 2 * RATE]


def _material(rng: np.random.Generator) -> pra.Material:
    table = pra.Material(str(rng.choice(MATERIALS))).energy_absorption
    centres = table.get("center_freqs") or OCTAVES_HZ[:7]
    absorption = np.interp(np.log(OCTAVES_HZ[:7]), np.log(centres[: len(table["coeffs"])]), table["coeffs"])
    beyond = np.clip(absorption[-1] * np.exp(rng.normal(0.1, 0.3)), 0.01, 0.95)
    return pra.Material(
        {"coeffs": [*absorption, beyond], "center_freqs": OCTAVES_HZ},
        {"coeffs": SCATTERING, "center_freqs": OCTAVES_HZ},
    )


def _responses(
    size: np.ndarray,
    materials: object,
    air: np.ndarray,
    voices: list[np.ndarray],
    microphones: list[np.ndarray],
    order: int,
) -> np.ndarray:
    room = pra.ShoeBox(
        size, fs=RATE, materials=materials, max_order=order, ray_tracing=order > 0, air_absorption=True
    )
    room.air_absorption = air
    if order > 0:
        room.set_ray_tracing(n_rays=4000, receiver_radius=0.4, energy_thres=1e-7, time_thres=2.0)
    for voice in voices:
        room.add_source(voice)
    room.add_microphone_array(np.stack(microphones, axis=1))
    room.compute_rir()
    num_samples = max(len(rir) for row in room.rir for rir in row)
    return np.array([[np.pad(rir, (0, num_samples - len(rir))) for rir in row] for row in room.rir])


def load_voices(folder: Path) -> list[np.ndarray]:
    """Every sound file, first channel, at 48 kHz, silence at the ends cut, half a second added for the tail."""
    voices = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        channels, rate = load_audio(path)
        if rate < 44_100:
            raise SystemExit(f"{path} has {rate} Hz; voices at 44.1 kHz or more are wanted")
        voice = resample(channels[0], rate, RATE)
        loud = np.flatnonzero(np.abs(voice) > 0.01 * np.abs(voice).max())
        voice = np.pad(voice[loud[0] : loud[-1] + 1], (RATE // 20, RATE // 2))
        voices.append(0.05 * voice / np.sqrt(np.mean(voice**2)))
    return voices


# ------------------------------------------------------------------------------------------------ error


def band_levels(waveform: np.ndarray, centres_hz: np.ndarray, width: float) -> np.ndarray:
    """Power (K, N) in K bands of `width` octaves and N frames."""
    size, hop = 2048, RATE // 100
    padded = np.pad(waveform, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power, frequency = np.abs(np.fft.rfft(frames)) ** 2, np.fft.rfftfreq(size, 1 / RATE)
    edges = [(centre * 2 ** (-width / 2), min(centre * 2 ** (width / 2), 20_000)) for centre in centres_hz]
    return np.stack([power[:, (frequency >= low) & (frequency < high)].sum(axis=1) for low, high in edges])


def octave_errors(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square and mean of the level error in dB, (2, octaves from 1 kHz)."""
    levels, wanted = (band_levels(waveform, OCTAVES_HZ[3:], 1.0) for waveform in (estimate, truth))
    floor = 1e-4 * wanted.max(axis=1, keepdims=True)
    error = 10 * np.log10((levels + floor) / (wanted + floor))
    return np.stack([np.sqrt(np.mean(error**2, axis=1)), error.mean(axis=1)])


def level_difference(stereo: np.ndarray) -> np.ndarray:
    """Of two channels in dB, in thirds of octaves and frames (K, N)."""
    left, right = (band_levels(channel, THIRDS_HZ, 1 / 3) for channel in stereo)
    return 10 * np.log10((left + 1e-12) / (right + 1e-12))


def wander(stereo: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square in dB of how far the level difference is from the reference's, where that is loud."""
    levels = sum(band_levels(channel, THIRDS_HZ, 1 / 3) for channel in reference)
    loud = levels > 1e-3 * levels.max(axis=1, keepdims=True)
    return float(np.sqrt(np.mean((level_difference(stereo) - level_difference(reference))[loud] ** 2)))


# ------------------------------------------------------------------------------------------- conversions


def low_of(waveform: np.ndarray) -> np.ndarray:
    return resample(waveform, RATE, CORE_RATE)


def high_of(waveform: np.ndarray, like: np.ndarray) -> np.ndarray:
    return resample(waveform, CORE_RATE, RATE, num_samples=like.shape[-1])


def into_room(dry: np.ndarray, rir: np.ndarray) -> dict[str, np.ndarray]:
    """The voice (T,) in the room by each way, from the room's response at 16 kHz."""
    core = low_of(rir)
    core *= RATE / CORE_RATE  # a convolution at a third of the rate sums a third of the samples
    core[0] = 1.0
    late = convolve(low_of(dry), np.r_[0, core[1:]])[: len(low_of(dry))]
    stream = fullband.convert_by_response([dry[None]], core, RATE)
    return {
        "untouched": dry,
        "plain": high_of(low_of(dry) + late, dry),
        "low band only": dry + high_of(late, dry),
        "full band": np.concatenate(list(stream), axis=1)[0],
    }


def out_of_room(
    wet: np.ndarray, estimate: Callable[[np.ndarray], np.ndarray], exponents: list[float]
) -> dict[str, np.ndarray]:
    """The recording (T,) freed of the room by each way, from an estimate of the dry voice at 16 kHz."""
    core = low_of(wet)
    dry = estimate(core)
    results = {
        "untouched": wet,
        "plain": high_of(dry, wet),
        "low band only": wet + high_of(dry - core, wet),
    }
    for exponent in exponents:
        fullband.TOP_EXPONENT = exponent
        stream = fullband.convert_by_estimate(
            [wet[None]], lambda *_: dry, RATE, 1, size=len(core) + 1, overlap=0
        )
        results[f"full band, exponent {exponent:g}"] = np.concatenate(list(stream), axis=1)[0]
    return results


def stereo_rows(
    dereverberator: fullband.Estimate, voices: list[np.ndarray]
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Wander against the recording's image, against the direct sounds', and error of the dry voice, for each way."""
    kinds = {"pair, 20 cm": (0.2, 1), "pair, 1 m": (1.0, 1), "pair, 40 cm, two voices": (0.4, 2)}
    for index in range(len(voices)):
        kind = list(kinds)[index % len(kinds)]
        spacing, num_voices = kinds[kind]
        rirs = render_room(1000 + index, num_voices=num_voices, spacing=spacing)
        talkers = [voices[index], voices[(index + 5) % len(voices)]][:num_voices]
        wet, dry = (in_room(talkers, responses) for responses in (rirs, direct_only(rirs)))
        ways = {
            "recording": wet,
            "channel by channel": np.stack([dereverberator(channel, RATE) for channel in wet]),
            "linked": dereverberator(wet, RATE),
        }
        for name, estimate in ways.items():
            error = np.mean([octave_errors(e, d)[0].mean() for e, d in zip(estimate, dry, strict=True)])
            row = (wander(estimate, wet), wander(estimate, dry), float(error))
            yield f"{kind}: {name}", row
            yield f"all: {name}", row


def in_room(talkers: list[np.ndarray], rirs: np.ndarray) -> np.ndarray:
    """Voices in a room (M, V, R) as the microphones hear them (M, T), as long as the shortest."""
    num_samples = min(len(talker) for talker in talkers)
    heard = [
        sum(convolve(talker, rir)[:num_samples] for talker, rir in zip(talkers, row, strict=True))
        for row in rirs
    ]
    return np.stack(heard)


def direct_only(rirs: np.ndarray) -> np.ndarray:
    """Responses with nothing later than 1.3 ms after the direct sound, the highest peak of the first 20 ms."""
    peaks = np.abs(rirs[..., : RATE // 50]).argmax(axis=-1)[..., None]
    time = np.arange(rirs.shape[-1])
    return np.where(np.abs(time - peaks) <= 64, rirs, 0.0)


def report(title: str, rows: list[tuple[str, np.ndarray]]) -> None:
    """Mean over the clips per name, in the order in which they came."""
    print(f"\n{title}")
    for name in dict.fromkeys(name for name, _ in rows):
        values = np.array([value for other, value in rows if other == name])
        error, bias = values.mean(axis=0)
        spread = values[:, 0].std(axis=0, ddof=1) / np.sqrt(len(values))
        cells = [f"{e:5.2f} ±{s:4.2f} ({b:+6.2f})" for e, s, b in zip(error, spread, bias, strict=True)]
        print(f"{name:26}", "  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True, help="folder of dry voices at 44.1 kHz or more")
    parser.add_argument("--half", choices=HALVES, default="report")
    parser.add_argument("--exponents", type=float, nargs="+", default=[fullband.TOP_EXPONENT])
    parser.add_argument("--model", default="dereverberator")
    options = parser.parse_args()
    voices = load_voices(options.speech)
    indices = range(len(voices))[HALVES[options.half]]
    model = load(options.model)
    into, true_out, model_out = [], [], []
    for index in indices:
        dry, rir = voices[index], render_room(index)[0, 0]
        wet = convolve(dry, rir)[: len(dry)]
        into += [(name, octave_errors(result, wet)) for name, result in into_room(dry, rir).items()]
        for rows, estimate in (
            (true_out, lambda _, dry=dry: low_of(dry)),
            (model_out, lambda core: model.convert(core, CORE_RATE)),
        ):
            results = out_of_room(wet, estimate, options.exponents)
            rows += [(name, octave_errors(result, dry)) for name, result in results.items()]
    seconds = sum(len(voices[index]) for index in indices) / RATE
    print(
        f"{len(indices)} clips, {seconds:.0f} s. Octaves at 1, 2, 4, 8 and 16 kHz: error ± standard error (mean), dB"
    )
    report("Into the room, true response at 16 kHz", into)
    report("Out of the room, true dry voice at 16 kHz", true_out)
    report(f"Out of the room, {options.model}", model_out)
    fullband.TOP_EXPONENT = options.exponents[-1]
    print(
        "\nTwo channels, dB: level difference off the recording's, off the direct sounds', error of the dry voice"
    )
    rows = list(stereo_rows(model.convert, [voices[index] for index in indices]))
    for name in sorted({name for name, _ in rows}):
        print(
            f"{name:44}",
            "  ".join(f"{v:5.2f}" for v in np.mean([row for other, row in rows if other == name], 0)),
        )


if __name__ == "__main__":
    main()
