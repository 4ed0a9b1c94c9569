"""Validation, going on from other weights, and the configurations we ship."""

from __future__ import annotations

import csv
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_run import tiny_config, write_data

from mvsd.converter import Converter
from mvsd.data.shards import Shards
from mvsd.data.speech import Speech
from mvsd.errors import ConfigError
from mvsd.evaluation.metrics import si_sdr_db
from mvsd.networks.resnet import ResNet18
from mvsd.training.config import load_config
from mvsd.training.loop import _load_weights, build_mutual_learning, train
from mvsd.training.validation import _si_sdr_db, make_validation

# The blind estimator's is of another kind and has its own test.
CONFIGS = sorted(
    path for path in (Path(__file__).parents[1] / "configs").rglob("*.toml") if path.name != "blind.toml"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_data(path)
    return path


def held_out(folder: Path, *overrides: str) -> tuple[str, ...]:
    rooms = f'data.validation_rooms=["{folder.as_posix()}/rooms"]'
    return (rooms, 'data.speech_holdout=["speaker2*"]', *overrides)


def test_validation_is_logged_and_repeats(folder: Path, tmp_path: Path) -> None:
    config = tiny_config(folder, *held_out(folder, "schedule.total_steps=2", "schedule.validate_every=1"))
    validate = make_validation(config)
    assert validate is not None
    train(config, tmp_path / "run", validate=validate, progress=False)
    with (tmp_path / "run" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    start = f'start_from="{(tmp_path / "run").as_posix()}"'
    further = tiny_config(
        folder, *held_out(folder, "schedule.total_steps=1", "schedule.validate_every=9", start)
    )
    for _ in range(2):  # once more is no second row
        train(further, tmp_path / "further", validate=validate, progress=False)
    with (tmp_path / "further" / "validation.csv").open() as file:
        before, after = csv.DictReader(file)
    assert (before["step"], after["step"]) == ("0", "1")
    for name, value in rows[-1].items():
        if name not in ("step", "elapsed"):
            assert float(before[name]) == pytest.approx(float(value), rel=0.02, abs=0.02), name
    torch.manual_seed(0)
    converters = Converter(config.reverberator).eval(), Converter(config.dereverberator).eval()
    first = validate(*converters, 0)
    assert first == validate(*converters, 5)
    assert {"dereverberator/si_sdr_db", "dereverberator/residual_drr_db_without_scene"} <= first.keys()


def test_a_run_that_is_stopped_in_its_last_step_is_validated_when_it_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_at_once(accelerator: object, elapsed: float, requests: list[int]) -> tuple[float, bool]:
        return elapsed, True

    config = tiny_config(folder, "schedule.total_steps=1", "schedule.validate_every=5")
    with monkeypatch.context() as patch:
        patch.setattr("mvsd.training.loop._agree", stopped_at_once)
        assert not train(config, tmp_path, validate=lambda *_: {"a": 1.0}, progress=False)
    assert train(config, tmp_path, validate=lambda *_: {"a": 1.0}, progress=False)
    with (tmp_path / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1"]


def test_validation_measures_si_sdr_as_the_metric_does() -> None:
    estimate, target = torch.randn(2, 3, 4000, generator=torch.Generator().manual_seed(0))
    rows = [
        si_sdr_db(estimate=e.numpy(), target=t.numpy(), sample_rate=16_000)
        for e, t in zip(estimate, target, strict=True)
    ]
    assert _si_sdr_db(estimate, target) == pytest.approx(sum(rows) / 3, abs=1e-3)


def test_validation_needs_voices_that_are_held_out(folder: Path) -> None:
    assert make_validation(tiny_config(folder)) is None
    with pytest.raises(ConfigError, match="speech_holdout"):
        make_validation(tiny_config(folder, held_out(folder)[0]))


def test_validation_hears_held_out_voices_in_rooms_of_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path, num_rooms=1)
    asked = []

    def mixer(speech: Speech, rooms: Shards, *_: object, **__: object) -> SimpleNamespace:
        asked.append((speech.paths, rooms.paths))
        return SimpleNamespace(batch=lambda number: None)

    monkeypatch.setattr("mvsd.training.validation.Mixer", mixer)
    rooms = f'data.validation_rooms=["{(tmp_path / "rooms").as_posix()}"]'
    config = tiny_config(folder, rooms, 'data.speech_holdout=["speaker2*"]')
    assert make_validation(config) is not None
    assert asked == [(["speaker2.wav"], sorted((tmp_path / "rooms").glob("*.tar")))]


def test_a_run_goes_on_from_the_weights_of_another(folder: Path, tmp_path: Path) -> None:
    first = tiny_config(folder, "schedule.total_steps=2")
    train(first, tmp_path / "first", progress=False)
    start = f'start_from="{(tmp_path / "first").as_posix()}"'
    still = ("optimizer.learning_rate=1e-12", "optimizer.ema_decay=0.0", "schedule.total_steps=1")
    train(tiny_config(folder, start, *still), tmp_path / "second", progress=False)
    before = Converter.load(tmp_path / "first" / "dereverberator.safetensors")
    after = Converter.load(tmp_path / "second" / "dereverberator.safetensors")
    for name, value in before.named_parameters():
        torch.testing.assert_close(dict(after.named_parameters())[name], value, atol=1e-3, rtol=1e-3)
    # What concerns only the use may change, and a U-Net may start anew in another shape.
    anew = (
        "dereverberator.num_shifts=2",
        "dereverberator.num_samples=40_960",
        'changed_parts=["reverberator.unet"]',
        "reverberator.unet.channels=[8, 16]",
    )
    train(tiny_config(folder, start, *still, *anew), tmp_path / "anew", progress=False)
    before, after = (
        dict(Converter.load(tmp_path / run / "reverberator.safetensors").scene_encoder.named_parameters())
        for run in ("first", "anew")
    )
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-3, rtol=1e-3)
    # One that grows keeps what it has.
    grown = ('changed_parts=["dereverberator.unet"]', "dereverberator.unet.num_blocks=2")
    train(tiny_config(folder, start, *still, *grown), tmp_path / "grown", progress=False)
    before, after = (
        dict(Converter.load(tmp_path / run / "dereverberator.safetensors").denoiser.named_parameters())
        for run in ("first", "grown")
    )
    assert len(after) > len(before)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-3, rtol=1e-3)
    refined = ('changed_parts=["dereverberator.refiner"]', "dereverberator.refiner.channels=[8, 16]")
    refined += ("dereverberator.refiner.num_heads=2", "dereverberator.refiner.token_features=16")
    train(tiny_config(folder, start, *still, *refined), tmp_path / "refined", progress=False)
    first, after = (
        Converter.load(tmp_path / run / "dereverberator.safetensors") for run in ("first", "refined")
    )
    assert first.config.refiner is None and after.config.refiner is not None
    source = 0.1 * torch.randn(1, 8192, generator=torch.Generator().manual_seed(0))
    made = [each(source, each.tokens([None]), torch.tensor([0]), num_steps=1) for each in (first, after)]
    torch.testing.assert_close(made[0], made[1], atol=1e-4, rtol=1e-3)
    seeing = ("dereverberator.num_passes=2", "dereverberator.sees_estimate=true")
    train(tiny_config(folder, start, *still, *seeing), tmp_path / "seeing", progress=False)
    after = Converter.load(tmp_path / "seeing" / "dereverberator.safetensors")
    assert after.denoiser.network.stem.in_channels == first.denoiser.network.stem.in_channels + 2
    first.config = replace(first.config, num_passes=2)
    made = [each(source, each.tokens([None]), torch.tensor([0]), num_steps=1) for each in (first, after)]
    torch.testing.assert_close(made[0], made[1], atol=1e-4, rtol=1e-3)
    blind = f'start_from="{(tmp_path / "seeing").as_posix()}"'
    with pytest.raises(ConfigError, match="another kind of dereverberator"):
        train(tiny_config(folder, blind), tmp_path / "third", progress=False)
    other = tiny_config(folder, start, "dereverberator.num_taps=3")
    with pytest.raises(ConfigError, match="another kind of dereverberator"):
        train(other, tmp_path / "third", progress=False)
    longer = tiny_config(folder, start, "reverberator.num_samples=8192", "data.rir_samples=8192")
    with pytest.raises(ConfigError, match="another kind of reverberator"):
        train(longer, tmp_path / "fourth", progress=False)


def test_a_run_takes_another_eye_with_published_weights(folder: Path, tmp_path: Path) -> None:
    first = tiny_config(folder, "schedule.total_steps=1")
    train(first, tmp_path / "first", progress=False)
    start = f'start_from="{(tmp_path / "first").as_posix()}"'
    still = ("optimizer.learning_rate=1e-12", "optimizer.ema_decay=0.0", "schedule.total_steps=1")
    still += ("mutual.depth=0.1", "data.scenes.depth_dropout=0.0", 'mutual.learners=["reverberator"]')
    eye = ('changed_parts=["reverberator.scene"]', "reverberator.scene.width=64")
    published = {name: 0.01 * torch.ones_like(value) for name, value in ResNet18(3, 64).state_dict().items()}
    torch.save(published, tmp_path / "resnet18.pth")
    path = f'photo_weights="{(tmp_path / "resnet18.pth").as_posix()}"'
    train(tiny_config(folder, start, path, *still, *eye), tmp_path / "second", progress=False)
    before, after = (
        Converter.load(tmp_path / run / "reverberator.safetensors").state_dict()
        for run in ("first", "second")
    )
    kernel = after["scene_encoder.resnet.layer1.0.conv1.weight"]
    torch.testing.assert_close(kernel, torch.full_like(kernel, 0.01), atol=1e-3, rtol=0)
    for name in ("scene_encoder.null_tokens", "envelope.layers.0.weight"):
        torch.testing.assert_close(after[name], before[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match="does not fit the scene encoder: conv1.weight is"):
        train(tiny_config(folder, start, path, *still), tmp_path / "third", progress=False)
    missing = 'photo_weights="nowhere.pth"'
    with pytest.raises(ConfigError, match="nowhere.pth: no such file"):
        train(tiny_config(folder, start, missing, *still), tmp_path / "third", progress=False)


def test_published_weights_run_no_code(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv1.weight": Touch(tmp_path / "touched")}))
    evil = f'photo_weights="{(tmp_path / "evil.pth").as_posix()}"'
    with pytest.raises(ConfigError, match="does not fit the scene encoder"):
        train(tiny_config(folder, evil), tmp_path / "run", progress=False)
    assert not (tmp_path / "touched").exists()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_one_room_of_ones_own_changes_no_statistics_of_photos() -> None:
    (path,) = (path for path in CONFIGS if path.name == "finetune.toml")
    assert load_config(path).mutual.keeps_statistics


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    config = load_config(path)
    Converter(config.reverberator)
    Converter(config.dereverberator)
    assert config.data.num_samples % config.dereverberator.spectrogram.hop == 0
    if config.start_from == "mvsd/weights":
        _load_weights(build_mutual_learning(config), config)
