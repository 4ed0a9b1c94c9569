"""The closed loop: who is taught by what, and that it teaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mvsd.converter import Converter
from mvsd.converter_config import ConverterConfig
from mvsd.data.batch import Batch
from mvsd.errors import ConfigError
from mvsd.mutual import CONVERTERS, MutualConfig, MutualLearning, residual_drr_db
from mvsd.networks.scene_encoder import SceneEncoderConfig
from mvsd.networks.unet import UNetConfig
from mvsd.spectrogram import SpectrogramConfig

UNET = UNetConfig(channels=(8, 16), num_heads=2, token_features=16)
SCENE = SceneEncoderConfig(width=8, token_features=16)
RESPONSE = {"generates": "response", "path": "noise", "num_taps": 0, "num_samples": 2048, "overlap": 0}


def make_batch(
    num_paired: int = 2, num_reverberant: int = 2, num_anechoic: int = 2, size: int = 4096
) -> Batch:
    rng = np.random.default_rng(0)
    total = num_paired + num_reverberant + num_anechoic
    dry = rng.standard_normal((total, size)) * (rng.random((total, size // 256)) > 0.5).repeat(256, axis=1)
    rir = 0.3 * rng.standard_normal((total, 2048)) * np.exp(-np.arange(2048) / 400)
    rir[:, 0] = 1
    wet = np.stack([np.convolve(d, h)[:size] for d, h in zip(dry, rir, strict=True)])
    dry[num_paired : num_paired + num_reverberant] = 0
    wet[num_paired + num_reverberant :] = 0
    rir[num_paired:] = 0
    tensors = (torch.from_numpy(array.astype(np.float32)) for array in (dry, wet, rir))
    scene = torch.from_numpy(rng.standard_normal((total, 4, 96, 192)).astype(np.float32))
    return Batch(*tensors, scene, torch.arange(total), num_paired, num_reverberant, num_anechoic)


def make_learning(generates: str = "response", **settings: Any) -> MutualLearning:
    torch.manual_seed(0)
    kind = RESPONSE if generates == "response" else {"num_taps": 2}
    transform = SpectrogramConfig(256, 128, 0.35, 2.0) if generates == "response" else SpectrogramConfig()
    reverberator = Converter(ConverterConfig(**kind, spectrogram=transform, unet=UNET, scene=SCENE))
    dereverberator = Converter(ConverterConfig(num_taps=2, unet=UNET, scene=SCENE))
    learning = MutualLearning(reverberator, dereverberator, MutualConfig(**settings))
    with torch.no_grad():
        for parameter in learning.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return learning


@pytest.mark.parametrize("generates", ["response", "speech"])
def test_the_one_that_grades_takes_no_gradient(generates: str) -> None:
    learning = make_learning(generates)
    terms = learning(make_batch(), cycle=True)
    for pupil, teacher in (("reverberator", "dereverberator"), ("dereverberator", "reverberator")):
        learning.zero_grad()
        terms[f"{pupil}/cycle"].backward(retain_graph=True)
        taught = [p.grad for p in getattr(learning, pupil).denoiser.parameters()]
        assert any(grad is not None and grad.abs().max() > 0 for grad in taught)
        assert all(p.grad is None for p in getattr(learning, teacher).parameters())


def test_the_photo_is_taught_too() -> None:
    learning = make_learning(scene_dropout=0.0)
    learning(make_batch(), cycle=True)["reverberator/cycle"].backward()
    weight = learning.reverberator.scene_encoder.resnet.conv1.weight
    assert weight.grad is not None and weight.grad.abs().max() > 0


def test_total_is_the_weighted_sum_and_a_pure_function() -> None:
    learning = make_learning(style=0.25, envelope=0.5, cycle=2.0)
    batch = make_batch()
    terms = learning(batch, cycle=True)
    weights = {"diffusion": 1.0, "style": 0.25, "envelope": 0.5, "cycle": 2.0}
    expected = sum(
        weights.get(name.split("/")[1], 0.0) * value for name, value in terms.items() if name != "total"
    )
    torch.testing.assert_close(terms["total"], expected)
    again = learning(batch, cycle=True)
    assert all(torch.equal(again[name], value) for name, value in terms.items() if name != "total")
    assert not any(name.endswith("cycle") for name in learning(batch, cycle=False))


def test_paired_terms_are_means_over_rows() -> None:
    """Two halves of a batch average to the whole, which is what several processes rely on."""
    learning = make_learning().eval()
    batch = make_batch(4, 2, 2)
    whole = learning(batch, cycle=True)
    tensors = (batch.anechoic, batch.reverberant, batch.rir, batch.scene, batch.seeds)
    halves = [
        learning(Batch(*(tensor[rows] for tensor in tensors), 2, 1, 1), cycle=True)
        for rows in ([0, 1, 4, 6], [2, 3, 5, 7])
    ]
    for name, value in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value, atol=1e-4, rtol=1e-4)


def test_unpaired_rows_alone_lower_both_cycle_errors() -> None:
    learning = make_learning(cycle=1.0, scene_dropout=0.0)
    batch = make_batch(0, 3, 3)
    optimizer = torch.optim.Adam(learning.parameters(), 2e-3)
    errors = []
    for _ in range(8):
        terms = learning(batch, cycle=True)
        assert "reverberator/diffusion" not in terms
        errors.append((terms["reverberator/cycle"].item(), terms["dereverberator/cycle"].item()))
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert errors[-1][0] < errors[0][0]
    assert errors[-1][1] < errors[0][1]


def test_each_learns_its_own_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    learning, batch = make_learning(reverberator_share=0.5), make_batch(4, 0, 0)
    given: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name in CONVERTERS:

        def losses(source: torch.Tensor, target: torch.Tensor, *_: Any, name: str = name) -> Any:
            given[name] = source, target
            return {"diffusion": torch.zeros(len(source), requires_grad=True)}

        monkeypatch.setattr(getattr(learning, name), "losses", losses)
    learning(batch, cycle=False)
    into, out = given["reverberator"], given["dereverberator"]
    assert torch.equal(into[0], batch.anechoic[:2]) and torch.equal(into[1], batch.reverberant[:2])
    assert torch.equal(out[0], batch.reverberant) and torch.equal(out[1], batch.anechoic)


def test_a_reverberator_may_learn_the_envelope_alone() -> None:
    terms = make_learning(learners=("reverberator",), reverberator_share=0.0)(make_batch(), cycle=False)
    assert set(terms) == {"reverberator/envelope", "total"}


def test_a_loss_without_a_weight_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    learning = make_learning()
    losses = learning.dereverberator.losses
    monkeypatch.setattr(
        learning.dereverberator, "losses", lambda *given: losses(*given) | {"mine": torch.ones(4)}
    )
    with pytest.raises(ConfigError, match="without a weight: mine; give MutualConfig a field"):
        learning(make_batch(), cycle=False)


@pytest.mark.parametrize(("back", "is_closed"), [(1 / 3, True), (1.0, False)])
def test_the_loop_is_closed_by_the_other(
    back: float, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converters that are gains: what one multiplies, the other must divide."""
    learning = make_learning("speech", scene_dropout=0.0)
    for name, gain in (("reverberator", 3.0), ("dereverberator", back)):

        def convert(source: torch.Tensor, *_: Any, gain: float = gain, **__: Any) -> torch.Tensor:
            return gain * source

        for method in ("estimate", "forward"):
            monkeypatch.setattr(getattr(learning, name), method, convert)
    terms = learning(make_batch(0, 2, 2), cycle=True)
    assert all((terms[f"{name}/cycle"].item() < 1e-4) == is_closed for name in CONVERTERS)


def test_only_what_differs_between_rows_is_a_room() -> None:
    learning = make_learning().eval()
    target = torch.randn(2, 8192, generator=torch.Generator().manual_seed(0))
    assert learning._energy_distance(2 * target, target).item() == pytest.approx(0, abs=1e-3)
    gains = torch.tensor([[2.0], [0.5]])  # +-6.02 dB, in units of 20 dB
    assert learning._energy_distance(gains * target, target).item() == pytest.approx(np.log10(2), rel=0.02)


def test_times_and_dropped_scenes_have_their_shares() -> None:
    times, dropped = make_learning(start_share=0.25, scene_dropout=0.15)._draws(torch.arange(3000))
    assert (times["dereverberator"] == 1).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (times["reverberator"] < 1).all() and dropped.float().mean().item() == pytest.approx(
        0.15, abs=0.03
    )


@pytest.mark.parametrize(("counts", "missing"), [((0, 3, 0), "reverberator"), ((0, 0, 3), "dereverberator")])
def test_one_kind_of_unpaired_rows_is_enough(counts: tuple[int, int, int], missing: str) -> None:
    learning = make_learning(made=1.0)
    terms = learning(make_batch(*counts), cycle=True)
    (other,) = set(CONVERTERS) - {missing}
    # Dry rows teach the reverberator in the loop and the dereverberator by what was made of them, and the other way.
    assert {f"{other}/cycle", f"{missing}/made", "total"} == set(terms)
    terms["total"].backward()


def test_rows_that_teach_no_learner_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing in these rows teaches reverberator"):
        make_learning(learners=("reverberator",))(make_batch(0, 3, 0), cycle=True)


def test_the_reverberator_alone_learns_from_what_was_made_for_it() -> None:
    assert "reverberator/made" in make_learning(learners=("reverberator",), made=1.0)(
        make_batch(), cycle=True
    )


@pytest.mark.parametrize("learner", ["reverberator", "dereverberator"])
def test_a_converter_that_is_no_learner_only_grades(learner: str) -> None:
    learning = make_learning(learners=(learner,), made=1.0)
    (other,) = {"reverberator", "dereverberator"} - {learner}
    terms = learning(make_batch(), cycle=True)
    assert {name.split("/")[0] for name in terms} == {learner, "total"}
    terms["total"].backward()
    assert all(parameter.grad is None for parameter in getattr(learning, other).parameters())
    taught = [parameter.grad for parameter in getattr(learning, learner).parameters()]
    assert any(grad is not None and grad.abs().max() > 0 for grad in taught)
    assert not any(part.training for part in getattr(learning.train(), other).modules())
    assert all(part.training for part in getattr(learning, learner).modules())


def test_the_statistics_of_the_photos_are_kept_where_that_is_asked_for() -> None:
    """Those of a run that goes on with one room would fit no other photo."""
    for keeps in (True, False):
        learning = make_learning(keeps_statistics=keeps, scene_dropout=0.0).train()
        norms = [module for module in learning.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert norms and all(norm.training is not keeps for norm in norms)
        assert learning.reverberator.training and learning.reverberator.denoiser.training
        before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        learning(make_batch(2, 0, 0), cycle=False)["total"].backward()
        torch.optim.SGD(learning.parameters(), 1e-3).step()
        kept = [
            torch.equal(norm.running_mean, mean) and torch.equal(norm.running_var, var)
            for norm, (mean, var) in zip(norms, before, strict=True)
        ]
        assert all(kept) if keeps else not any(kept)


def test_learners_must_be_converters_and_shares_within_range() -> None:
    for learners in ((), ("both",)):
        with pytest.raises(ConfigError, match="learners"):
            MutualConfig(learners=learners)
    for name, value in (
        ("style", -1.0),
        ("scene_dropout", 7.0),
        ("reverberator_share", 3.0),
        ("reverberator_loop_steps", 0),
    ):
        with pytest.raises(ConfigError, match=name):
            MutualConfig(**{name: value})


def test_validation_waits_for_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main process validates; to ask the others for their rows then would be to wait for ever."""
    asked: list[torch.Tensor] = []
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    monkeypatch.setattr("torch.distributed.all_reduce", asked.append)
    learning = make_learning(made=1.0)
    learning.eval()(make_batch(), cycle=True)
    assert not asked
    learning.train()(make_batch(), cycle=True)
    assert len(asked) == 1


def test_what_one_made_teaches_the_other_alone() -> None:
    learning = make_learning(
        scene_dropout=0.0, style=0.5, different=0.1, added=0.1, words=0.3, level=0.2, made=1.0
    ).eval()
    batch = make_batch(0, 2, 3)
    terms = learning(batch, cycle=True)
    for learner, other in (CONVERTERS, CONVERTERS[::-1]):
        learning.zero_grad()
        terms[f"{learner}/made"].backward(retain_graph=True)
        assert all(parameter.grad is None for parameter in getattr(learning, other).parameters())
        taught = [parameter.grad for parameter in getattr(learning, learner).denoiser.parameters()]
        assert any(grad is not None and grad.abs().max() > 0 for grad in taught)

    dry, seeds = batch.anechoic[2:], batch.seeds[2:] + 1
    known = torch.ones(3, dtype=torch.bool)
    steps = learning.config.reverberator_loop_steps
    tokens = {name: getattr(learning, name).scene_encoder(batch.scene[2:], known) for name in CONVERTERS}
    wet = learning.reverberator.estimate(dry, tokens["reverberator"], seeds, num_steps=steps)
    losses = learning.dereverberator.losses(
        wet, dry, torch.zeros_like(dry), tokens["dereverberator"], torch.ones(3), seeds
    )
    weights = {"diffusion": 1.0, "style": 0.5, "different": 0.1, "added": 0.1, "words": 0.3, "level": 0.2}
    expected = sum(weights[name] * value.mean() for name, value in losses.items())
    torch.testing.assert_close(terms["dereverberator/made"], expected, rtol=1e-4, atol=1e-5)


def test_residual_drr_finds_the_room_that_is_left() -> None:
    batch = make_batch(2, 0, 0, size=49_152)
    dry = torch.randn(2, 49_152, generator=torch.Generator().manual_seed(0))
    rir = batch.rir
    wet = torch.fft.irfft(torch.fft.rfft(dry, 98_304) * torch.fft.rfft(rir, 98_304))[:, :49_152]
    direct = rir[:, :40].square().sum(1)
    late = rir[:, 40:].square().sum(1)
    measured = residual_drr_db(wet, dry)
    torch.testing.assert_close(measured, 10 * (direct / late).log10(), atol=0.7, rtol=0)
    assert (residual_drr_db(dry, dry) > 20).all()
    half = residual_drr_db(0.5 * dry + 0.5 * wet, dry)
    assert (half > measured + 1).all()


def test_depth_teaches_the_scene_encoders_of_the_learners_and_nothing_else() -> None:
    learning = make_learning(depth=0.5, learners=("reverberator",), scene_dropout=0.0)
    terms = learning(make_batch(), cycle=False)
    assert "dereverberator/depth" not in terms
    terms["reverberator/depth"].backward()
    taught = {name.split(".")[1] for name, p in learning.named_parameters() if p.grad is not None}
    assert taught == {"scene_encoder", "reverberator"}  # the encoder, and depth.reverberator
    assert not list(make_learning().depth.parameters())
