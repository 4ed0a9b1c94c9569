"""The path, the denoiser and the sampler against closed-form answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from mvsd.diffusion import BridgePath, Condition, Denoiser, NoisePath, Path, filter_frames
from mvsd.sampling import sample
from mvsd.spectrogram import ComplexSpectrogram, SpectrogramConfig, rms

PATHS = [NoisePath(sigma_data=0.5, sigma_max=20.0), BridgePath(spread=0.3)]


class Zero(torch.nn.Module):
    """A network that returns zeros: what is left is the denoiser's own algebra."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_channels = num_channels

    def forward(self, inputs: torch.Tensor, c_noise: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return inputs.new_zeros(len(inputs), self.num_channels, *inputs.shape[2:])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("path", PATHS)
def test_path_ends_at_clean_and_starts_where_it_says(path: Path) -> None:
    a, b, c = path.coefficients(torch.tensor(0.0))
    assert (float(a), float(b), float(c)) == (1, 0, 0)
    a, b, c = path.coefficients(torch.tensor(1.0))
    assert (float(a), float(b)) == ((1, 0) if isinstance(path, NoisePath) else (0, 1))
    assert float(c) == pytest.approx(20.0 if isinstance(path, NoisePath) else 0.0, rel=1e-5)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("num_steps", [1, 2, 8])
def test_sampler_with_a_perfect_denoiser_returns_the_clean_signal(path: Path, num_steps: int) -> None:
    clean, source, noise = normal(3, 2, 5, 7), normal(3, 2, 5, 7, seed=1), normal(3, 2, 5, 7, seed=2)
    estimate = sample(lambda noisy, time: clean, path, source, noise, num_steps)
    assert torch.equal(estimate, clean)


def test_sampling_a_gaussian_has_the_gaussian_s_deviation() -> None:
    """Clean ~ N(0, s^2) has the denoiser s^2 / (s^2 + sigma^2) x noisy; its samples have deviation s."""
    path, deviation = NoisePath(sigma_max=20.0), 0.5

    def denoise(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        sigma = path.sigma(time).view(-1, 1, 1, 1)
        return deviation**2 / (deviation**2 + sigma**2) * noisy

    noise = normal(20_000, 1, 1, 1)
    # Of second order, the error falls with the square of the number of steps.
    errors = [
        abs(
            (sample(denoise, path, torch.zeros_like(noise), noise, n).std() / noise.std()).item() / deviation
            - 1
        )
        for n in (16, 32, 256)
    ]
    assert errors[0] < 0.1
    assert errors[2] < 0.002
    assert errors[0] > 2.5 * errors[1]


def test_sampler_walks_along_the_path() -> None:
    """Given the true clean signal, every intermediate point is the path's own."""
    path = BridgePath(0.3)
    clean, source, noise = normal(1, 2, 3, 4), normal(1, 2, 3, 4, seed=1), normal(1, 2, 3, 4, seed=2)
    seen = []

    def denoise(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        seen.append((noisy, time[0]))
        return clean

    sample(denoise, path, source, noise, 4)
    for noisy, time in seen[1:]:
        a, b, c = path.coefficients(time)
        torch.testing.assert_close(noisy, a * clean + b * source + c * noise, atol=1e-5, rtol=1e-5)


def test_gradient_of_the_last_step_only() -> None:
    weight = torch.ones((), requires_grad=True)
    num_graded = 0

    def denoise(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        nonlocal num_graded
        num_graded += torch.is_grad_enabled()
        return weight * 0.5 * noisy

    args = (torch.zeros(1, 2, 3, 4), normal(1, 2, 3, 4), 4)
    sample(denoise, NoisePath(), *args, gradient="last").sum().backward()
    assert num_graded == 1 and weight.grad is not None and weight.grad.abs() > 0
    with pytest.raises(ValueError, match="num_steps"):
        sample(denoise, NoisePath(), args[0], args[1], 0)


def test_preconditioning_has_unit_variance() -> None:
    """EDM's c_in gives the network unit variance, and c_skip, c_out make its target have unit variance."""
    path = NoisePath(sigma_data=0.5)
    time = torch.tensor([0.1, 0.5, 0.9])
    c_skip, c_out, c_in, _ = path.preconditioning(time)
    sigma = path.sigma(time)
    torch.testing.assert_close(c_in * (0.25 + sigma**2).sqrt(), torch.ones(3))
    target_variance = ((1 - c_skip) ** 2 * 0.25 + c_skip**2 * sigma**2) / c_out**2
    torch.testing.assert_close(target_variance, torch.ones(3))


@pytest.mark.parametrize(("num_taps", "adds_source"), [(0, False), (0, True), (4, True)])
def test_untrained_head(num_taps: int, adds_source: bool) -> None:
    """With a network of zeros a bridge returns the source, a plain noise head c_skip x noisy."""
    path = BridgePath() if adds_source else NoisePath()
    denoiser = Denoiser(Zero(2 + 2 * num_taps), path, num_taps=num_taps, adds_source=adds_source)
    noisy, source = normal(2, 2, 5, 6), normal(2, 2, 5, 6, seed=1)
    time = torch.full((2,), 0.5)
    denoised = denoiser(noisy, time, Condition(source, torch.zeros(2, 1, 1)))
    c_skip = path.preconditioning(time.view(-1, 1, 1, 1))[0]
    torch.testing.assert_close(denoised, source if adds_source else c_skip * noisy)


@pytest.mark.parametrize("time", [1e-3, 0.02, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("num_taps", [0, 4])
def test_what_an_untrained_network_is_asked_for_is_of_unit_scale_at_any_time(
    num_taps: int, time: float
) -> None:
    path, (clean, source) = NoisePath(sigma_data=0.5), (normal(8, 2, 9, 9, seed=k) * 0.5 for k in (1, 2))
    denoiser = Denoiser(Zero(2 + 2 * num_taps), path, num_taps=num_taps, adds_source=num_taps > 0)
    times = torch.full((8,), time)
    noisy = denoiser.noisy(clean, normal(8, 2, 9, 9), times, source)
    denoised = denoiser(noisy, times, Condition(source, torch.zeros(8, 1, 1)))
    assert 0.5 < denoiser.loss(clean, denoised, times).mean() < 4


@pytest.mark.parametrize("path", PATHS)
def test_refiner_does_to_the_estimate_what_the_network_does_to_the_source(path: Path) -> None:
    """With constant outputs: estimate + c_out residual + (1 - c_skip) filter(estimate), from what the first makes."""
    seen = []

    class Constant(torch.nn.Module):
        def forward(self, inputs: torch.Tensor, c_noise: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
            seen.append(inputs)
            return torch.full((2, 6, 1, 1), 0.5).expand(-1, -1, *inputs.shape[2:])

    condition = Condition(normal(2, 2, 5, 6, seed=1), torch.zeros(2, 1, 1))
    noisy, time = normal(2, 2, 5, 6), torch.full((2,), 0.5)
    first = Denoiser(Constant(), path, num_taps=2, adds_source=True)
    both = Denoiser(Constant(), path, num_taps=2, adds_source=True, refiner=Constant())
    estimate, refined = first(noisy, time, condition), both(noisy, time, condition)
    c_skip, c_out, _, _ = path.preconditioning(time.view(-1, 1, 1, 1))
    taps = torch.full((2, 4, 5, 6), 0.5)
    filtered = (1 - c_skip) * filter_frames(estimate, taps)
    torch.testing.assert_close(refined, estimate + c_out * 0.5 + filtered)
    torch.testing.assert_close(seen[2], torch.cat([estimate, seen[1]], dim=1))


def test_filter_is_causal_complex_convolution_of_every_bin() -> None:
    source, constant_taps = normal(1, 2, 3, 20), normal(1, 8, 3, 1, seed=1)
    filtered = filter_frames(source, constant_taps.expand(1, 8, 3, 20))
    x = torch.complex(source[0, 0], source[0, 1]).numpy()
    h = torch.complex(constant_taps[0, 0::2, :, 0], constant_taps[0, 1::2, :, 0]).numpy()
    expected = np.stack([np.convolve(x[k], h[:, k])[:20] for k in range(3)])
    np.testing.assert_allclose(torch.complex(filtered[0, 0], filtered[0, 1]).numpy(), expected, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    num_samples=st.integers(1, 3000),
    power=st.sampled_from([0.35, 0.5, 1.0]),
    fft=st.sampled_from([(256, 128), (512, 256)]),
)
def test_spectrogram_round_trip(num_samples: int, power: float, fft: tuple[int, int]) -> None:
    transform = ComplexSpectrogram(SpectrogramConfig(fft[0], fft[1], power, scale=2.0))
    waveform = normal(2, num_samples, seed=num_samples)
    spectrogram = transform.encode(waveform)
    assert spectrogram.shape == (2, 2, transform.num_bins, transform.num_frames(num_samples))
    torch.testing.assert_close(transform.decode(spectrogram, num_samples), waveform, atol=2e-4, rtol=1e-3)


def test_spectrogram_against_scipy() -> None:
    waveform = normal(1, 4096)
    transform = ComplexSpectrogram(SpectrogramConfig(512, 256, power=1.0))
    window = signal.get_window("hann", 512)
    reference = signal.ShortTimeFFT(window, 256, 16_000).stft(
        np.pad(waveform[0].numpy(), 256, mode="reflect"), p0=1, p1=18
    )
    ours = torch.complex(*transform.encode(waveform)[0]).numpy() * np.linalg.norm(window)
    np.testing.assert_allclose(np.abs(ours), np.abs(reference[:, : ours.shape[1]]), atol=1e-3)


def test_compression_has_a_finite_gradient_at_silence() -> None:
    waveform = torch.zeros(1, 2048, requires_grad=True)
    transform = ComplexSpectrogram(SpectrogramConfig())
    transform.decode(transform.encode(waveform), 2048).sum().backward()
    assert waveform.grad is not None and torch.isfinite(waveform.grad).all()


def test_what_is_trained_on_lies_on_the_path() -> None:
    denoiser = Denoiser(Zero(2), BridgePath(0.3), num_taps=0, adds_source=True)
    clean, source, noise = (normal(3, 2, 5, 6, seed=seed) for seed in range(3))
    times = torch.tensor([0.0, 0.5, 1.0])
    noisy = denoiser.noisy(clean, noise, times, source)
    halfway = (clean[1] + source[1]) / 2 + 0.15 * noise[1]
    torch.testing.assert_close(noisy, torch.stack([clean[0], halfway, source[2]]))


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_a_network_that_says_nothing_loses_one_at_every_noise_level(time: float) -> None:
    """EDM weights the error so that what is left to predict has unit variance."""
    denoiser = Denoiser(Zero(2), NoisePath(), num_taps=0, adds_source=False)
    clean, noise, times = 0.5 * normal(4, 2, 64, 64), normal(4, 2, 64, 64, seed=1), torch.full((4,), time)
    condition = Condition(torch.zeros_like(clean), torch.zeros(4, 1, 1))
    denoised = denoiser(denoiser.noisy(clean, noise, times, condition.source), times, condition)
    assert denoiser.loss(clean, denoised, times).mean().item() == pytest.approx(1, abs=0.03)


def test_silence_has_no_gradient_of_its_level() -> None:
    waveforms = torch.stack([torch.zeros(100), torch.full((100,), 0.5)]).requires_grad_()
    level = rms(waveforms)
    torch.testing.assert_close(level, torch.tensor([[1e-5], [0.5]]))
    level.sum().backward()
    assert waveforms.grad is not None
    torch.testing.assert_close(waveforms.grad, torch.stack([torch.zeros(100), torch.full((100,), 0.01)]))
