"""Models on the Hugging Face Hub: a repository per converter, with its safetensors file and a card of its training."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, final

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download

from mvsd.config import flatten, to_dict
from mvsd.errors import DataError, ModelFileError
from mvsd.model_file import is_model_file
from mvsd.shipped import SHIPPED
from mvsd.whole_file import stop_signals_raise

MODEL_FILE = "model.safetensors"
_CARD_FILE = "README.md"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TAGS = ["acoustics", "audio-to-audio", "dereverberation", "diffusion", "reverberation", "speech"]
_TASKS = {
    "response": "Draws the impulse response of the room on a photo, with which a dry recording is convolved.",
    "speech": "Converts a recording of speech, with or without a photo of its room.",
}
_CARD = """
# {title}

{task} A converter of [MVSD](https://arxiv.org/abs/2407.10373) (Ma et al., ECCV 2024) as implemented in `mvsd`;
{num_parameters} parameters, 16 kHz.

```python
import mvsd

converter = mvsd.load("{repo_id}")
voice, sample_rate = mvsd.load_audio("voice.wav")
estimate = converter.convert(voice, sample_rate, mvsd.Scene.open("room.jpg"))
```

## Training

{training}

## Held-out figures

{figures}

## Configuration

The whole of it is in the metadata of `{file}`, which holds weights and configuration and no pickle.

{config}
"""


class Savable(Protocol):
    """What is asked of a model here."""

    config: Any

    def save(self, path: str | Path) -> None:
        """Write weights and configuration into one file."""
        ...

    def parameters(self) -> Any:
        """The weights."""
        ...


@final
class HubModel(ModelHubMixin):
    """A converter as huggingface_hub's mixin sees it: `save_pretrained` and `push_to_hub` come from there.

    `run` is the folder of the training run that the card tells of, `license_id` a licence's identifier of the Hub.
    """

    def __init__(self, model: Savable, run: str | Path | None = None, license_id: str | None = None) -> None:
        self.model, self.run, self.license_id = model, run, license_id
        self.repo_id = "USER/MODEL"

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save(save_directory / MODEL_FILE)
        config = json.dumps(to_dict(self.model.config), indent=2)
        (save_directory / "config.json").write_text(config + "\n", encoding="utf-8")

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card: what the model is, how the run trained it, and the run's last held-out figures."""
        data = ModelCardData(
            library_name="mvsd", license=self.license_id, pipeline_tag="audio-to-audio", tags=_TAGS
        )
        return ModelCard(f"---\n{data.to_yaml()}\n---\n{self._card()}")

    def _card(self) -> str:
        config = self.model.config
        return _CARD.format(
            title=self.repo_id.rpartition("/")[2],
            repo_id=self.repo_id,
            file=MODEL_FILE,
            task=_TASKS[config.generates],
            num_parameters=f"{sum(parameter.numel() for parameter in self.model.parameters()):,}",
            training=_training(self.run),
            figures=_figures(self.run),
            config=_table(("setting", "value"), flatten(to_dict(config))),
        )


def push(
    model: Savable,
    repo_id: str,
    *,
    run: str | Path | None = None,
    license_id: str | None = None,
    **options: Any,
) -> str:
    """Upload a model and its card; returns the address of the commit.

    `options` are those of huggingface_hub's `push_to_hub`: private, token, branch, create_pr, commit_message.
    """
    hub_model = HubModel(model, run, license_id)
    hub_model.repo_id = repo_id
    return hub_model.push_to_hub(repo_id, **options)


def save_pretrained(
    model: Savable, folder: str | Path, *, run: str | Path | None = None, license_id: str | None = None
) -> None:
    """Write a folder as the Hub has it: model.safetensors, config.json, README.md.

    A model of before is replaced once all of the new one is on the disk; its README.md, which may have been edited,
    stays as it is, whatever `run` and `license_id` say: delete it first for a new card.

    Raises DataError for a folder that holds a training run, for a README.md, config.json or model.safetensors that is
    none of `mvsd` and would be lost, and for what the system refuses; ModelFileError where the model cannot be written.
    """
    folder = Path(folder)
    if (folder / "log.csv").exists():
        raise DataError(f"{folder} holds a training run; give another folder for the model")
    is_ours = is_model_file(folder / MODEL_FILE)
    for name in (_CARD_FILE, "config.json", MODEL_FILE):
        if (folder / name).exists() and not is_ours:
            raise DataError(f"{folder} holds a {name} and no model of mvsd; give another folder")
    hub_model = HubModel(model, run, license_id)
    hub_model.generate_model_card()  # raises before a folder is made
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside what is there, of which the Hub's client would first delete some.
        with stop_signals_raise(), TemporaryDirectory(prefix=".mvsd-", dir=folder) as temporary:
            hub_model.save_pretrained(temporary)
            for path in sorted(Path(temporary).iterdir()):
                if path.name != _CARD_FILE or not (folder / _CARD_FILE).exists():
                    os.replace(path, folder / path.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error


def find_model(name_or_path: str | Path, **options: Any) -> Path:
    """The model file of a path to it, of a folder that `save_pretrained` wrote, or of a Hub id "user/model".

    `options` are those of huggingface_hub's `hf_hub_download`: revision, token, cache_dir, local_files_only.

    Raises:
        ModelFileError: there is no such folder here and no such model on the Hub, or it cannot be reached; or the
            folder is a training run, which has a model for each direction.
    """
    path = Path(name_or_path)
    if path.is_dir():
        of_run = [str(file) for name in SHIPPED if (file := path / f"{name}.safetensors").is_file()]
        if of_run and not (path / MODEL_FILE).is_file():
            raise ModelFileError(f"{path} is a training run; give {' or '.join(of_run)}")
        return path / MODEL_FILE
    if path.exists() or path.suffix == ".safetensors" or not _HUB_ID.fullmatch(path.as_posix()):
        return path
    try:
        return Path(hf_hub_download(path.as_posix(), MODEL_FILE, **options))
    except Exception as error:  # not there, not allowed, no network: the Hub's client has many kinds of it
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFileError(
            f"{name_or_path}: no such folder or model file here, and the Hub did not give it ({reason})"
        ) from error


def _training(run: str | Path | None) -> str:
    """How the run went, from what it left behind."""
    if run is None:
        return "Nothing is known here of the training run."
    try:
        config: Mapping[str, Any] = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
        last = _last_row(Path(run) / "log.csv")
    except (OSError, ValueError) as error:
        raise DataError(f"{run}: not a folder of a training run ({error}); give one of mvsd train") from error
    hours = float(last["elapsed"]) / 3600
    facts = {
        f"{part}.{name}": value
        for part in ("data", "mutual", "optimizer", "schedule")
        for name, value in flatten(config.get(part, {})).items()
    }
    return (
        f"Run `{config.get('run', Path(run).name)}`, {last['step']} steps in {hours:.2f} hours, with\n\n"
        + _table(("setting", "value"), facts)
    )


def _figures(run: str | Path | None) -> str:
    """The last row of the run's validation.csv."""
    path = None if run is None else Path(run) / "validation.csv"
    if path is None or not path.exists():
        return "None were kept."
    last = _last_row(path)
    step = last.pop("step")
    return f"On validation rooms and voices, after step {step}:\n\n" + _table(("figure", "value"), last)


def _last_row(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path.name} has no rows yet")
    return {name: value for name, value in rows[-1].items() if value}


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    """A Markdown table of two columns."""
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])


def _cell(value: Any) -> str:
    """A value as a cell; of a path only the name, as nobody's folders are to be published."""
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return text.rstrip("/").rpartition("/")[2].replace("|", "\\|").replace("\n", " ")
