from __future__ import annotations

import csv
import itertools
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_run import run_together, tiny_config, write_data
from torch import Tensor, nn

from mvsd.config import flatten, from_dict, merge, to_dict
from mvsd.converter import Converter
from mvsd.data.batch import Batch
from mvsd.data.shards import Shards, write_shards
from mvsd.errors import ConfigError, ModelFileError, MvsdError
from mvsd.training import loop
from mvsd.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from mvsd.training.config import OptimizerConfig, ScheduleConfig, TrainConfig, describe, load_config
from mvsd.training.ema import Ema
from mvsd.training.logs import CsvLog
from mvsd.training.loop import train
from mvsd.training.precision import _seconds, bf16_is_faster
from mvsd.training.report import Reporter
from mvsd.training.state import TrainState


class Gain(nn.Module):
    """Stands in for a converter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(8))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.gain.tolist()))


class Gains(nn.Module):
    """Stands in for mutual learning: the same interface, a loss that is a pure function of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.reverberator, self.dereverberator = Gain(), Gain()

    def forward(self, batch: Batch, *, cycle: bool) -> dict[str, Tensor]:
        rows = batch.reverberant.square().mean(1) + batch.anechoic.square().mean(1)
        noise = torch.tensor([float(seed % 1000) / 1000 for seed in batch.seeds.tolist()])
        terms = {"total": (rows[:, None] * (self.reverberator.gain - noise[:, None])).square().mean()}
        if cycle:
            terms["cycle"] = (self.dereverberator.gain - noise[:, None]).square().mean()
            terms["total"] = terms["total"] + terms["cycle"]
        return terms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(threads)


def train_gains(config: TrainConfig, run_dir: Path, **options: object) -> None:
    train(config, run_dir, build=lambda _: Gains(), progress=False, **options)  # type: ignore[arg-type]


def read_log(run_dir: Path, name: str = "log.csv") -> list[dict[str, str]]:
    """Rows without what depends on the clock."""
    with (run_dir / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("elapsed", "examples_per_second")} for row in rows]


def test_a_checkpoint_holds_the_sums_of_all_processes() -> None:
    """What every process takes for its own when it goes on: their mean, so that the next one is right too."""
    reporter, others = Reporter.__new__(Reporter), torch.tensor([6.0])
    reporter.state = SimpleNamespace(sums={"total": [2.0, 4]})
    reporter.accelerator = SimpleNamespace(
        num_processes=2, device="cpu", reduce=lambda own, reduction: (own + others) / 2
    )
    reporter._share_sums()
    assert reporter.state.sums == {"total": [4.0, 4]}


class TestConfig:
    def test_round_trip(self) -> None:
        config = TrainConfig(run="x", optimizer=OptimizerConfig(betas=(0.8, 0.9)))
        assert from_dict(TrainConfig, json.loads(describe(config))) == config

    def test_toml_extends_and_overrides(self, tmp_path: Path) -> None:
        (tmp_path / "base.toml").write_text("seed = 1\n[optimizer]\nlearning_rate = 1e-2\nclip_norm = 2\n")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a.toml").write_text(
            'extends = "../base.toml"\n[optimizer]\nlearning_rate = 1e-3\n'
        )
        overrides = [
            "run=night run",
            "data.rooms=['a', 'b']",
            "precision=bf16",
            'data.speech_weights={"a/*" = 2}',
        ]
        config = load_config(tmp_path / "sub" / "a.toml", overrides)
        assert (config.seed, config.optimizer.learning_rate, config.optimizer.clip_norm) == (1, 1e-3, 2.0)
        assert (config.run, config.precision, config.data.rooms) == ("night run", "bf16", ("a", "b"))
        assert config.data.speech_weights == {"a/*": 2.0}

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("optimizer.lr=1", r"unknown key optimizer\.lr; valid keys are betas, clip_norm"),
            ("sead=1", "unknown key sead; valid keys are changed_parts, data"),
            ("seed=1.5", r"seed is 1\.5; wanted is int"),
            ("seed=true", "seed is True; wanted is int"),
            ("optimizer=3", "optimizer is 3; wanted is a table"),
            ("optimizer.betas=[1]", r"optimizer\.betas is \[1\]; wanted is tuple\[float, float\]"),
            ("optimizer.betas=[0.1,'x']", r"optimizer\.betas\[1\] is 'x'; wanted is float"),
            ("precision=fp8", r"precision is 'fp8'; wanted is Literal\['fp32', 'bf16', 'auto'\]"),
            ("schedule.warmup_steps=-1", "warmup_steps is -1; it must be 0 or more"),
            ("optimizer.learning_rate=0", "must be above 0"),
            ("optimizer.learning_rate=nan", r"optimizer\.learning_rate is nan; wanted is a number"),
            ("optimizer.betas=[0.9, nan]", r"optimizer\.betas\[1\] is nan"),
            ("optimizer.weight_decay=-1", r"optimizer\.weight_decay is -1\.0; it must be 0 or more"),
            (
                'data.speech_weights={"a/*" = -2}',
                r"data\.speech_weights\.a/\* is -2\.0; it must be 0 or more",
            ),
            ("reverberator.envelope_pull=5", r"envelope_pull is 5\.0; it must be in 0\.\.1"),
            ("reverberator.sigma_max=-1", "sigma_max -1, .*above 0.005"),
            ("reverberator.sigma_data=0", "sigma_data is 0, .*above 0,"),
            ("dereverberator.spread=-0.1", r"spread -0\.1; .*at least 0 are wanted"),
            ("seed", "not key=value"),
            (
                'reverberator={generates="response", path="noise", num_taps=0, num_samples=4096, overlap=0}',
                r"reverberator\.num_samples is 4096, data\.rir_samples 24576",
            ),
            (
                "reverberator.scene.scale=2",
                r"data\.scenes\.scale is 1, reverberator\.scene\.scale 2: set the first",
            ),
            ("data.scenes.scale=0", r"data\.scenes\.scale is 0"),
        ],
    )
    def test_wrong_keys_and_types(self, tmp_path: Path, override: str, message: str) -> None:
        (tmp_path / "a.toml").touch()
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / "a.toml", [override])

    def test_wrong_files(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            load_config(tmp_path / "missing.toml")
        (tmp_path / "a.toml").write_text('extends = "b.toml"')
        (tmp_path / "b.toml").write_text('extends = "a.toml"')
        with pytest.raises(ConfigError, match="extends itself"):
            load_config(tmp_path / "a.toml")
        (tmp_path / "b.toml").write_text("seed = = 1")
        with pytest.raises(ConfigError, match=r"b\.toml is not TOML"):
            load_config(tmp_path / "a.toml")

    def test_kinds_of_values(self) -> None:
        @dataclass(frozen=True)
        class Inner:
            size: int = 1

        values = {"name": None, "sizes": [1, 2], "inner": {"size": 3}, "mode": "b", "pairs": [[1, 2.5]]}
        globals().update(Inner=Inner)  # get_type_hints looks names up in the module

        @dataclass(frozen=True)
        class Outer:
            name: str | None = "x"
            sizes: tuple[int, ...] = ()
            inner: Inner = field(default_factory=Inner)
            mode: Literal["a", "b"] = "a"
            pairs: tuple[tuple[float, float], ...] = ()

        outer = from_dict(Outer, values)
        assert outer == Outer(None, (1, 2), Inner(3), "b", ((1.0, 2.5),)) and to_dict(outer) == values
        with pytest.raises(ConfigError, match="name is 3; wanted is str or NoneType"):
            from_dict(Outer, {"name": 3})

    def test_merge_and_flatten_change_nothing(self) -> None:
        base = {"a": {"b": 1, "c": 2}, "d": 3}
        assert merge(base, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3} and base["a"] == {
            "b": 1,
            "c": 2,
        }
        assert flatten(base) == {"a.b": 1, "a.c": 2, "d": 3}

    @given(st.sampled_from(["cosine", "constant"]), st.integers(1, 500))
    def test_learning_rate_warms_up_never_rises_again_and_ends_at_0(
        self, decay: Literal["cosine", "constant"], total: int
    ) -> None:
        schedule = ScheduleConfig(total_steps=total, decay=decay, warmup_steps=10)
        factors = [schedule.learning_rate_factor(step, 0.0) for step in range(total + 20)]
        assert 0.0 <= min(factors) <= max(factors) <= 1.0
        assert factors[0] == pytest.approx(1 / 11) and factors[total:] == pytest.approx([0.0] * 20)
        assert all(later <= factor for factor, later in itertools.pairwise(factors[10:]))

    def test_schedule_in_steps_and_in_seconds(self) -> None:
        steps = ScheduleConfig(total_steps=100, warmup_steps=0)
        seconds = ScheduleConfig(max_seconds=50.0, warmup_steps=0)
        for share in (0.0, 0.3, 0.5, 1.0):
            factor = steps.learning_rate_factor(int(100 * share), 7.0)
            assert factor == pytest.approx(seconds.learning_rate_factor(3, 50.0 * share))
        assert steps.learning_rate_factor(50, 0.0) == pytest.approx(0.5)
        constant = replace(steps, decay="constant")
        assert [constant.learning_rate_factor(step, 0.0) for step in (0, 80, 90)] == pytest.approx(
            [1.0, 1.0, 0.5]
        )


class TestParts:
    @pytest.mark.parametrize(("seconds", "is_faster"), [(1.3, True), (1.1, False), (0.5, False)])
    def test_bf16_must_save_a_sixth_of_the_time(
        self, seconds: float, is_faster: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mvsd.training.precision._seconds", lambda *_, bf16: 1.0 if bf16 else seconds)
        assert bf16_is_faster(torch.device("cpu")) is is_faster
        assert bf16_is_faster(torch.device("meta")) is False
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: is_faster)
        assert bf16_is_faster(torch.device("cuda")) is is_faster

    def test_bf16_is_what_is_timed(self) -> None:
        layer, kinds = nn.Conv2d(2, 2, 3), list[torch.dtype]()
        layer.register_forward_hook(lambda *facts: kinds.append(facts[2].dtype))
        for bf16, kind in ((True, torch.bfloat16), (False, torch.float32)):
            assert _seconds(layer, torch.randn(1, 2, 8, 8), bf16=bf16) > 0
            assert set(kinds) == {kind}
            kinds.clear()

    def test_a_checkpoint_keeps_every_fact(self, tmp_path: Path) -> None:
        def state(**facts: Any) -> TrainState:
            module = Gains()
            averages = (Ema(part, 0.9) for part in (module.reverberator, module.dereverberator))
            return TrainState(module, torch.optim.AdamW(module.parameters()), *averages, **facts)  # type: ignore[arg-type]

        facts: dict[str, Any] = {"step": 3, "elapsed": 7.5, "num_updates": 2, "num_skipped": 1}
        facts |= {
            "interval_start": 5.0,
            "interval_rows": 12,
            "validated_step": 2,
            "sums": {"total": [1.5, 2]},
        }
        facts |= {"data": {"data.rooms": "2 (abc)"}}
        assert facts.keys() == state().facts.keys()
        state(**facts).save(tmp_path)
        fresh = state(data=facts["data"])
        fresh.resume(tmp_path)
        assert fresh.facts == facts

    def test_ema_of_a_constant_and_of_a_jump(self) -> None:
        module = nn.BatchNorm1d(1)
        ema = Ema(module, decay=0.9)
        with torch.no_grad():
            module.weight.fill_(2.0)
        module.running_mean.fill_(5.0)  # type: ignore[union-attr]
        expected = 1.0
        for number in range(30):
            ema.update(module, number)
            decay = min(0.9, (1 + number) / (10 + number))
            expected = decay * expected + (1 - decay) * 2.0
        assert ema.module.weight.item() == pytest.approx(expected)
        assert float(ema.module.running_mean) == 5.0 and not ema.module.training  # type: ignore[arg-type]

    def test_checkpoint_holds_everything(self, tmp_path: Path) -> None:
        def build() -> tuple[nn.Module, torch.optim.Optimizer]:
            module = nn.Linear(3, 2)
            return module, torch.optim.AdamW(module.parameters(), lr=0.1, betas=(0.5, 0.6), fused=True)

        module, optimizer = build()
        module(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        for step in (1, 2, 10):
            save_checkpoint(tmp_path, step, {"m": module}, optimizer, {"step": step, "sums": {"a": [1.5, 2]}})
        expected = torch.rand(3)
        assert [path.name for path in sorted(tmp_path.iterdir())] == [
            f"step-{n:09d}.safetensors" for n in (2, 10)
        ]
        path = latest_checkpoint(tmp_path)
        assert path is not None
        other, other_optimizer = build()
        assert load_checkpoint(path, {"m": other}, other_optimizer) == {"step": 10, "sums": {"a": [1.5, 2]}}
        assert torch.equal(torch.rand(3), expected)
        for a, b in zip(optimizer.state.values(), other_optimizer.state.values(), strict=True):
            assert all(torch.equal(a[name], b[name]) for name in ("step", "exp_avg", "exp_avg_sq"))
        assert other_optimizer.param_groups[0]["betas"] in ((0.5, 0.6), [0.5, 0.6])

    def test_bad_checkpoints(self, tmp_path: Path) -> None:
        module = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(module.parameters())
        path = save_checkpoint(tmp_path, 1, {"m": module}, optimizer, {})
        wider = nn.Linear(4, 2)
        with pytest.raises(ModelFileError, match="of another model"):
            load_checkpoint(path, {"m": wider}, torch.optim.AdamW(wider.parameters()))
        for content in (path.read_bytes()[:100], b"text", b""):
            path.write_bytes(content)
            with pytest.raises(ModelFileError, match="step-000000001"):
                load_checkpoint(path, {"m": module}, optimizer)

    def test_csv_log_gains_columns_and_forgets_the_future(self, tmp_path: Path) -> None:
        log = CsvLog(tmp_path / "log.csv", 0)
        log.append({"step": 1, "a": 0.5})
        log.append({"step": 2, "b": 0.25, "a": 1.0})
        assert (tmp_path / "log.csv").read_text() == "step,a,b\n1,0.5,\n2,1.0,0.25\n"
        resumed = CsvLog(tmp_path / "log.csv", 1)
        resumed.append({"step": 2, "a": 7})
        assert read_log(tmp_path) == [{"step": "1", "a": "0.5", "b": ""}, {"step": "2", "a": "7", "b": ""}]


class TestTrain:
    def test_resumed_run_equals_an_unbroken_one(self, folder: Path, tmp_path: Path) -> None:
        config = tiny_config(
            folder, "schedule.log_every=2", "schedule.checkpoint_every=1", "schedule.paired_steps=2"
        )
        train(config, tmp_path / "whole", progress=False)
        # The schedule depends on the budget, so the run is broken off by a signal, inside a log interval.
        handler = signal.getsignal(signal.SIGTERM)

        def stop(step: int) -> object:
            def build(config: TrainConfig) -> nn.Module:
                module = loop.build_mutual_learning(config)
                steps = [0]

                def hook(*_: object) -> None:
                    steps[0] += 1
                    if steps[0] == step:
                        os.kill(os.getpid(), signal.SIGTERM)

                module.register_forward_hook(hook)
                return module

            return build

        train(config, tmp_path / "broken", build=stop(3), progress=False)  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGTERM) is handler
        assert latest_checkpoint(tmp_path / "broken" / "checkpoints") is not None
        assert [row["step"] for row in read_log(tmp_path / "broken")] == ["2"]
        train(config, tmp_path / "broken", progress=False)
        assert read_log(tmp_path / "whole") == read_log(tmp_path / "broken")
        whole, broken = (
            load_file(tmp_path / name / "checkpoints" / "step-000000006.safetensors")
            for name in ("whole", "broken")
        )
        assert whole.keys() == broken.keys() and len(whole) > 100
        assert all(torch.equal(whole[name], broken[name]) for name in whole)

    def test_leaves_models_examples_and_figures(self, folder: Path, tmp_path: Path) -> None:
        overrides = ["total_steps=2", "validate_every=1", "examples_every=2", "num_examples=1"]
        config = tiny_config(folder, *(f"schedule.{override}" for override in overrides))
        seen = list[tuple[str, ...]]()

        def figure(waveforms: dict[str, object], sample_rate: int, path: Path) -> None:
            seen.append((*waveforms, str(sample_rate), path.name))

        def validate(reverberator: Converter, dereverberator: Converter, step: int) -> dict[str, float]:
            assert not reverberator.training and not dereverberator.training
            return {"pesq": 1.0 + step}

        train(config, tmp_path, validate=validate, figure=figure, progress=False)  # type: ignore[arg-type]
        assert seen == [("anechoic", "reverberant", "reverberator", "dereverberator", "16000", "0.png")]
        names = ("anechoic", "dereverberator", "reverberant", "reverberator")
        assert [p.name for p in sorted((tmp_path / "examples" / "step-000000002").iterdir())] == [
            f"0-{name}.wav" for name in names
        ]
        assert [row["pesq"] for row in read_log(tmp_path, "validation.csv")] == ["2", "3"]
        assert Converter.load(tmp_path / "reverberator.safetensors").generates_response
        assert not Converter.load(tmp_path / "dereverberator.safetensors").generates_response
        assert from_dict(TrainConfig, json.loads((tmp_path / "config.json").read_text())) == config

    def test_a_start_that_cannot_be_used_leaves_no_run_behind(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "weights").mkdir()
        config = tiny_config(folder, f"start_from={tmp_path / 'weights'}")
        with pytest.raises(ModelFileError, match="no such model file"):
            train(config, tmp_path / "run", progress=False)
        for name in ("reverberator", "dereverberator"):
            Converter(getattr(config, name)).save(tmp_path / "weights" / f"{name}.safetensors")
        other = replace(config, dereverberator=replace(config.dereverberator, spread=0.1))
        with pytest.raises(ConfigError, match="another kind of dereverberator"):
            train(other, tmp_path / "run", progress=False)
        assert not (tmp_path / "run" / "config.json").exists()
        train_gains(replace(config, start_from=""), tmp_path / "run")

    def test_does_not_go_on_with_other_data(self, tmp_path: Path) -> None:
        write_data(tmp_path, num_rooms=2)
        config, run = tiny_config(tmp_path, "schedule.total_steps=1"), tmp_path / "run"
        longer = replace(config, schedule=replace(config.schedule, total_steps=2))
        train_gains(config, run)
        (more,) = write_shards(
            [replace(Shards(tmp_path / "rooms")[0], key="more")], tmp_path / "rooms", prefix="x"
        )
        with pytest.raises(
            ConfigError, match=r"run has learned from 2 \(\w{8}\) as data\.rooms, and there is 3 "
        ):
            train_gains(longer, run)
        assert json.loads((run / "config.json").read_text())["schedule"]["total_steps"] == 1
        more.unlink()
        (tmp_path / "speech" / "speaker1.wav").rename(tmp_path / "speech" / "other.wav")
        with pytest.raises(
            ConfigError, match=r"from 3 \(\w{8}\) as data\.speech, and there is 3 .* start_from it"
        ):
            train_gains(longer, run)
        # A checkpoint of an earlier version does not know what it had.
        path = latest_checkpoint(run / "checkpoints")
        assert path is not None
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        facts = json.loads(metadata["facts"])
        del facts["data"]
        save_file(load_file(path), path, metadata | {"facts": json.dumps(facts)})
        train_gains(longer, run)
        assert [row["step"] for row in read_log(run)] == ["1", "2"]

    def test_goes_on_without_what_it_began_with(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "weights").mkdir()
        config = tiny_config(folder, f"start_from={tmp_path / 'weights'}", "schedule.total_steps=1")
        files = [tmp_path / "weights" / f"{name}.safetensors" for name in ("reverberator", "dereverberator")]
        for file in files:
            Converter(getattr(config, file.stem)).save(file)
        train(config, tmp_path / "run", progress=False)
        for file in files:
            file.unlink()
        longer = replace(config, schedule=replace(config.schedule, total_steps=2))
        train(longer, tmp_path / "run", progress=False)
        assert [row["step"] for row in read_log(tmp_path / "run")] == ["1", "2"]

    def test_rows_are_divided_before_the_first_step(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of the loop too, which begins later; a run that ends before it does not ask."""
        asked: list[tuple[int, int, int]] = []
        monkeypatch.setattr(loop, "rows_of_process", lambda counts, *_: asked.append(counts))
        train_gains(tiny_config(folder), tmp_path / "a")
        assert set(asked) == {(6, 0, 0), (2, 2, 2)}
        asked.clear()
        train_gains(tiny_config(folder, "schedule.total_steps=3"), tmp_path / "b")
        assert set(asked) == {(6, 0, 0)}

    def test_learns_and_goes_on_with_a_larger_budget(self, folder: Path, tmp_path: Path) -> None:
        config = tiny_config(folder, "schedule.total_steps=20", "optimizer.learning_rate=0.05")
        train_gains(config, tmp_path)
        longer = replace(config, run="longer", schedule=replace(config.schedule, total_steps=60))
        train_gains(longer, tmp_path)
        rows = read_log(tmp_path)
        assert [int(row["step"]) for row in rows] == list(range(1, 61))
        assert "cycle" in rows[0] and rows[2]["cycle"] == "" and rows[3]["cycle"] != ""
        assert float(rows[-1]["cycle"]) < 0.5 * float(rows[3]["cycle"])
        with pytest.raises(ConfigError, match=r"was trained with optimizer\.learning_rate = 0\.05, not 0\.1"):
            train_gains(replace(longer, optimizer=replace(config.optimizer, learning_rate=0.1)), tmp_path)

    def test_the_schedule_reaches_the_optimizer(self, folder: Path, tmp_path: Path) -> None:
        train_gains(tiny_config(folder), tmp_path)  # 6 steps, of which 2 warm up, peak 1e-3
        rates = [float(row["learning_rate"]) for row in read_log(tmp_path)]
        step = torch.arange(6).double()
        decay = 0.5 + 0.5 * (torch.pi * step / 6).cos()
        wanted = 1e-3 * decay * ((step + 1) / 3).clamp(max=1)
        assert rates == pytest.approx(wanted.tolist(), rel=1e-4)

    def test_gradients_are_clipped(self, folder: Path, tmp_path: Path) -> None:
        train_gains(tiny_config(folder, "optimizer.clip_norm=1e-8", "schedule.total_steps=1"), tmp_path)
        state = load_file(tmp_path / "checkpoints" / "step-000000001.safetensors")
        moments = [value.flatten() for name, value in state.items() if name.endswith("/exp_avg")]
        assert 0 < torch.cat(moments).norm().item() <= 0.1 * 1.01e-8  # (1 - beta1) of the clipped gradient

    def test_budget_in_seconds(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = itertools.count()  # every look at it is a second later
        monkeypatch.setattr(loop, "perf_counter", lambda: float(next(clock)))
        train_gains(tiny_config(folder, "schedule.total_steps=0", "schedule.max_seconds=5"), tmp_path)
        assert [row["step"] for row in read_log(tmp_path)] == ["1", "2", "3", "4", "5"]
        with pytest.raises(ConfigError, match="no budget"):
            train_gains(tiny_config(folder, "schedule.total_steps=0"), tmp_path / "none")

    def test_steps_without_a_finite_gradient_are_skipped(self, folder: Path, tmp_path: Path) -> None:
        class Broken(Gains):
            num_calls = 0

            def forward(self, batch: Batch, *, cycle: bool) -> dict[str, Tensor]:
                self.num_calls += 1
                terms = super().forward(batch, cycle=cycle)
                return terms | {
                    "total": terms["total"] * (float("nan") if self.num_calls in self.bad else 1.0)
                }

            def __init__(self, bad: range) -> None:
                super().__init__()
                self.bad = bad

        config = tiny_config(folder)
        train(config, tmp_path / "a", build=lambda _: Broken(range(2, 4)), progress=False)
        rows = read_log(tmp_path / "a")
        assert [row["skipped_steps"] for row in rows] == ["0", "1", "2", "2", "2", "2"]
        assert rows[1]["total"] == "" and "nan" not in (tmp_path / "a" / "log.csv").read_text()
        assert all(
            map(
                torch.isfinite,
                torch.tensor(json.loads((tmp_path / "a" / "reverberator.safetensors").read_text())),
            )
        )
        config = tiny_config(folder, "schedule.total_steps=200")
        with pytest.raises(MvsdError, match="100 steps up to 105 had no finite gradient"):
            train(config, tmp_path / "b", build=lambda _: Broken(range(6, 300)), progress=False)
        kept = json.loads((tmp_path / "b" / "reverberator.safetensors").read_text())
        assert torch.tensor(kept).isfinite().all()  # what was learned before can be gone on from

    def test_auto_computes_in_bf16_where_that_is_faster(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        losses = []
        for number, (precision, faster) in enumerate(
            [("fp32", True), ("auto", False), ("bf16", False), ("auto", True)]
        ):
            monkeypatch.setattr("mvsd.training.loop.bf16_is_faster", lambda device, faster=faster: faster)
            config = tiny_config(
                folder, f"precision={precision}", "schedule.total_steps=2", "schedule.log_every=1"
            )
            train(config, tmp_path / str(number), progress=False)
            AcceleratorState._reset_state(reset_partial_state=True)
            losses.append(read_log(tmp_path / str(number))[-1]["gradient_norm"])
        assert losses[0] == losses[1] != losses[2] == losses[3]
        # Where a run goes on, it goes on as it began, whatever is faster there.
        config = tiny_config(folder, "precision=auto", "schedule.total_steps=3", "schedule.log_every=1")
        monkeypatch.setattr("mvsd.training.loop.bf16_is_faster", lambda device: False)
        train(config, tmp_path / "3", progress=False)
        assert json.loads((tmp_path / "3" / "config.json").read_text())["precision"] == "bf16"

    def test_bf16(self, folder: Path, tmp_path: Path) -> None:
        train(tiny_config(folder, "precision=bf16", "schedule.total_steps=4"), tmp_path, progress=False)
        weights = load_file(tmp_path / "checkpoints" / "step-000000004.safetensors")
        assert all(value.dtype != torch.bfloat16 for value in weights.values())
        assert all(float(row["total"]) > 0 for row in read_log(tmp_path))

    def test_bf16_teaches_the_reverberator_without_pairs(self, folder: Path, tmp_path: Path) -> None:
        """Its loop calls the network without gradient first: weights cast then must not be taken for the last call."""
        changes = ("precision=bf16", "data.num_paired=0", "mutual.reverberator_loop_steps=2")
        steps = ("schedule.paired_steps=0", "schedule.total_steps=4", "optimizer.weight_decay=0")
        config = tiny_config(folder, *changes, *steps)
        train(config, tmp_path, progress=False)
        torch.manual_seed(config.seed)
        before = dict(loop.build_mutual_learning(config).named_parameters())
        after = load_file(tmp_path / "checkpoints" / "step-000000004.safetensors")
        learned = {name: not torch.equal(after[f"model/{name}"], value) for name, value in before.items()}
        layers = [
            name
            for name, value in before.items()
            if value.ndim == 4 and name.startswith("reverberator.denoiser")
        ]
        assert [name for name in layers if not learned[name]] == [] != layers

    def test_other_arithmetic_in_one_process_is_refused(self, folder: Path, tmp_path: Path) -> None:
        train(tiny_config(folder, "schedule.total_steps=1"), tmp_path / "a", progress=False)
        with pytest.raises(ConfigError, match="start another process"):
            train(tiny_config(folder, "precision=bf16"), tmp_path / "b", progress=False)

    @pytest.mark.slow
    def test_two_processes_give_the_losses_of_one(self, folder: Path, tmp_path: Path) -> None:
        train(tiny_config(folder), tmp_path / "one", progress=False)
        run_together(2, str(folder), str(tmp_path / "two"), "precision=auto")
        for one, two in zip(read_log(tmp_path / "one"), read_log(tmp_path / "two"), strict=True):
            assert one.keys() == two.keys()
            for name in one:
                # The norm is of gradients of absolute values: one that is nearly 0 may change its sign.
                near = 2e-3 if name == "gradient_norm" else 1e-4
                if one[name] or two[name]:
                    assert float(two[name]) == pytest.approx(float(one[name]), rel=near, abs=1e-6), (
                        name,
                        one["step"],
                    )
