"""The commands around data sets, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from command_line import RATE, run_here, write_wav

from mvsd.data.shards import Shards


def test_a_bad_example_does_not_end_a_conversion(tmp_path: Path) -> None:
    (tmp_path / "mine" / "reverberant").mkdir(parents=True)
    for index in range(3):
        write_wav(tmp_path / "mine" / "reverberant" / f"{index}.wav")
    (tmp_path / "mine" / "reverberant" / "1.wav").write_bytes(b"RIFF, but nothing else")
    result = run_here("data", "convert", tmp_path / "mine", "-o", tmp_path / "shards")
    failed, said = result.stderr.splitlines()
    assert result.returncode == 1 and failed.startswith("failed: ") and "1.wav" in failed
    assert said == "error: 1 of 3 examples failed; the reasons are above"
    (path,) = map(Path, result.stdout.splitlines())
    found = list(Shards(path))
    assert [example.key for example in found] == ["0", "2"]
    assert all(np.shape(example.reverberant) == (RATE,) for example in found)
