"""One door to all data sets: shards, the two published benchmarks, and folders of one's own recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mvsd.data import avspeech, soundspaces
from mvsd.data.avspeech import AcousticAVSpeech
from mvsd.data.example import Example
from mvsd.data.folders import Folder
from mvsd.data.protocols import ProtocolName, ProtocolView, require_protocol
from mvsd.data.remote import is_url
from mvsd.data.shards import Shards
from mvsd.data.soundspaces import SoundSpacesSpeech
from mvsd.errors import DataError

Kind = Literal["shards", "soundspaces", "avspeech", "folder"]


def open_dataset(
    path: str | Path, *, split: str = "", protocol: ProtocolName = "full", limit: int | None = None
) -> Sequence[Example]:
    """The examples of a data set, whatever it is (`recognise`); each is loaded when it is asked for.

    Args:
        path: a folder, a shard, or the http(s) address of one.
        split: of a benchmark, may be left out where the folder holds one only; or a subfolder with shards.
        protocol: "full" gives whole utterances, "first-2.56s" what visual acoustic matching is scored on
            (`apply_protocol`; of SoundSpaces-Speech only where the speaker is in view).
        limit: only that many, from the start.

    Raises:
        DataError: nothing that is known is there, or a file cannot be used.
        ConfigError: the protocol is unknown, or the limit less than 1.
    """
    require_protocol(protocol, limit)
    path, split = without_subfolder(path, split)
    kind = recognise(path)
    examples: Sequence[Example]
    if kind == "soundspaces":
        in_view_only = protocol == "first-2.56s"
        examples = SoundSpacesSpeech(path, split, in_view_only=in_view_only, limit=limit)
    elif kind == "avspeech":
        if not split:
            raise DataError(f"{path} is Acoustic AVSpeech; choose a split: {', '.join(avspeech.SPLITS)}")
        examples = AcousticAVSpeech(path, split, protocol=protocol)
    else:
        require_no_split(path, split)
        examples = Folder(path) if kind == "folder" else Shards(path)
        if isinstance(examples, Shards):
            require_unique_keys(examples, path)
    return ProtocolView(examples, protocol, limit)


def require_no_split(path: str | Path, split: str) -> None:
    """Raises DataError for a split of shards or of a folder of one's own."""
    if split:
        raise DataError(f"{path} has no splits; leave {split!r} out, or give the folder of that split")


def require_unique_keys(shards: Shards, path: str | Path) -> None:
    """Raises DataError for shards of which two examples have one key."""
    if repeated := shards.repeated_keys:
        raise DataError(
            f"{path}: {len(repeated)} keys occur more than once, {repeated[0]} first; keep each set of examples in a "
            "folder of its own"
        )


def without_subfolder(path: str | Path, split: str) -> tuple[str | Path, str]:
    """Path and split, where the split is a subfolder with shards: that folder and no split."""
    if split and not is_url(path) and any(Path(path, split).glob("[!.]*.tar")):
        return Path(path, split), ""
    return path, split


def recognise(path: str | Path) -> Kind:
    """What kind of data set a path is; a folder that is nothing else is one of the user's own.

    Raises DataError where nothing is there.
    """
    if is_url(path):
        return "shards"
    path = Path(path)
    if path.is_file() and path.suffix == ".tar":
        return "shards"
    if not path.is_dir():
        raise DataError(f"{path} is no folder and no .tar shard; give one of these")
    if any(path.glob("[!.]*.tar")):
        return "shards"
    if soundspaces.splits_in(path.resolve()):
        return "soundspaces"
    if (path / "img").is_dir() and (path / "audio").is_dir():
        return "avspeech"
    return "folder"
