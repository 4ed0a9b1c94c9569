"""Models come and go by folder and by Hub id; the Hub is a folder here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml
from conftest import Models
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

import mvsd
from mvsd.errors import DataError, ModelFileError, MvsdError
from mvsd.evaluation.systems import Model, parse_system


class FolderHub:
    """What of the Hub is used: repositories are folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.created: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any:
        assert exist_ok
        self.created[repo_id] = private
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id: str, folder_path: Path, **_: object) -> str:
        shutil.copytree(folder_path, self.folder / repo_id)
        return f"https://huggingface.co/{repo_id}/commit/1"

    def download(self, repo_id: str, filename: str, **options: Any) -> str:
        self.asked.append(options)
        path = self.folder / repo_id / filename
        if not path.exists():
            raise LocalEntryNotFoundError(f"{repo_id} is not there\nand more lines")
        return str(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderHub:
    hub = FolderHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", lambda token: hub)
    monkeypatch.setattr("mvsd.hub.hf_hub_download", hub.download)
    return hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a training run leaves behind."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    config = {
        "run": "mine",
        "data": {"speech": "/home/someone/speech", "rooms": ["data/rooms/train"], "num_paired": 8},
        "optimizer": {"learning_rate": 7e-4},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.csv").write_text("step,elapsed,total\n1,2.0,9\n90,5400.0,3\n")
    (folder / "validation.csv").write_text("step,elapsed,dereverberator/si_sdr_db,added\n80,5000,4.25,\n")
    return folder


def card(folder: Path) -> tuple[dict[str, Any], str]:
    _, metadata, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(metadata), text


def same(first: mvsd.Converter, second: mvsd.Converter) -> bool:
    source = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    return first.config == second.config and np.array_equal(
        first.convert(source, 16_000), second.convert(source, 16_000)
    )


def test_push_and_pull(tiny_models: Models, hub: FolderHub, run: Path) -> None:
    converter = mvsd.load(tiny_models.dereverberator)
    address = converter.push_to_hub("me/dry", run=run, private=True)
    assert address == "https://huggingface.co/me/dry/commit/1"
    assert hub.created == {"me/dry": True}
    assert {path.name for path in (hub.folder / "me/dry").iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
    }
    assert same(mvsd.Converter.from_pretrained("me/dry", revision="v2", token="secret"), converter)
    assert hub.asked == [{"revision": "v2", "token": "secret", "local_files_only": False}]
    assert same(mvsd.load("me/dry"), converter)
    assert 'mvsd.load("me/dry")' in card(hub.folder / "me/dry")[1]


def test_a_hub_id_is_a_system_to_evaluate(tiny_models: Models, hub: FolderHub) -> None:
    mvsd.load(tiny_models.dereverberator).push_to_hub("me/dry")
    file = str(hub.folder / "me/dry" / "model.safetensors")
    assert parse_system("mine=me/dry", "dereverberation") == Model("mine", file)
    assert parse_system("me/dry", "dereverberation").name == "dry"
    with pytest.raises(ModelFileError, match="me/nothing: .*the Hub did not give it"):
        parse_system("mine=me/nothing", "dereverberation")


def test_a_local_folder_and_a_file(tiny_models: Models, tmp_path: Path) -> None:
    converter = mvsd.load(tiny_models.reverberator)
    converter.save_pretrained(tmp_path / "mine")
    for name in (tmp_path / "mine", str(tmp_path / "mine"), tmp_path / "mine" / "model.safetensors"):
        assert same(mvsd.Converter.from_pretrained(name), converter)
        assert same(mvsd.load(name), converter)
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert config["generates"] == "response"
    metadata, text = card(tmp_path / "mine")
    assert metadata["library_name"] == "mvsd"
    assert "license" not in metadata
    assert "Draws the impulse response" in text
    assert "Nothing is known here of the training run." in text


def test_the_card_tells_of_the_run(tiny_models: Models, tmp_path: Path, run: Path) -> None:
    converter = mvsd.load(tiny_models.dereverberator)
    converter.save_pretrained(tmp_path / "mine", run=run)
    metadata, text = card(tmp_path / "mine")
    assert "dereverberation" in metadata["tags"]
    assert f"{sum(p.numel() for p in converter.parameters()):,} parameters" in text
    assert "Run `mine`, 90 steps in 1.50 hours" in text
    assert "| optimizer.learning_rate | 0.0007 |" in text
    assert "after step 80" in text
    assert "| dereverberator/si_sdr_db | 4.25 |" in text
    assert "| unet.channels | 8, 16 |" in text
    assert "| data.speech | speech |" in text, "only the name of a folder is published"
    assert "someone" not in text


def test_a_licence_is_stated_where_given(tiny_models: Models, hub: FolderHub) -> None:
    from mvsd.hub import push

    push(mvsd.load(tiny_models.reverberator), "me/room", license_id="cc-by-4.0")
    assert card(hub.folder / "me/room")[0]["license"] == "cc-by-4.0"


def test_a_training_run_is_not_overwritten(tiny_models: Models, run: Path, tmp_path: Path) -> None:
    converter, before = mvsd.load(tiny_models.reverberator), (run / "config.json").read_text()
    with pytest.raises(DataError, match="holds a training run"):
        converter.save_pretrained(run)
    assert (run / "config.json").read_text() == before
    with pytest.raises(DataError, match="not a folder of a training run"):
        converter.save_pretrained(tmp_path / "mine", run=tmp_path)


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_a_file_of_somebody_else_is_not_overwritten(tiny_models: Models, tmp_path: Path, name: str) -> None:
    converter = mvsd.load(tiny_models.reverberator)
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds a {name}"):
        converter.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
    (tmp_path / name).rename(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="holds a model.safetensors and no model of mvsd"):
        converter.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_a_model_of_before_is_replaced_and_its_card_kept(tiny_models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    mvsd.load(tiny_models.dereverberator).save_pretrained(folder)
    (folder / "README.md").write_text("edited by hand")
    converter = mvsd.load(tiny_models.reverberator)
    converter.save_pretrained(folder)
    assert same(mvsd.load(folder), converter)
    assert json.loads((folder / "config.json").read_text())["generates"] == "response"
    assert (folder / "README.md").read_text() == "edited by hand"
    assert len(list(folder.iterdir())) == 3


def test_a_model_of_before_is_whole_where_the_new_one_cannot_be_written(
    tiny_models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    mvsd.load(tiny_models.dereverberator).save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    converter = mvsd.load(tiny_models.reverberator)
    with pytest.raises(DataError, match="not a folder of a training run"):
        converter.save_pretrained(folder, run=tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("mvsd.model_file._ordered", "mvsd.hub.ModelCard.save"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(MvsdError, match="cannot be written: No space left on device"):
                converter.save_pretrained(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file cannot be written"):
        converter.save_pretrained(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("me/nothing", "me/nothing is not there"),
        ("nothing", "no such model file"),
        ("folder", "no such model file"),
        ("nothing.safetensors", "no such model file"),
        ("me/nothing.safetensors", "no such model file"),
        ("a/b/c", "no such model file"),
    ],
)
def test_what_is_not_there_is_one_line(
    tmp_path: Path, hub: FolderHub, name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=says) as caught:
        mvsd.load(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise OfflineModeIsEnabled("Cannot reach https://huggingface.co: offline mode is enabled.")

    monkeypatch.setattr("mvsd.hub.hf_hub_download", offline)
    with pytest.raises(ModelFileError, match=r"the Hub did not give it \(Cannot reach"):
        mvsd.load("me/dry")


def test_the_real_client_is_called_as_it_wants_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fake: huggingface_hub itself, told to look into an empty cache only."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelFileError, match="me/dry: no such folder or model file here"):
        mvsd.Converter.from_pretrained("me/dry", local_files_only=True)
