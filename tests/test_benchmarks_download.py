"""Downloads that break and go on, archives that lie, shards on the web: against a server in this process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_fixtures import (
    soundspaces_record,
    synthetic_room,
    synthetic_voice,
    write_avspeech,
    write_soundspaces,
)

from mvsd.cli import _run
from mvsd.data import download, remote
from mvsd.data.datasets import open_dataset
from mvsd.data.download import BENCHMARKS, download_benchmark, unpack
from mvsd.data.example import Example
from mvsd.data.remote import download_file, expand, local_path
from mvsd.data.shards import Shards, write_shards
from mvsd.errors import ConfigError, DataError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Files in memory, served with ranges; `breaks_after` bytes of each answer the connection is cut."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tag = '"first"'
        self.breaks_after: int | None = None
        self.has_ranges = True
        self.requests: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        content = self.files.get(request.path)
        if content is None:
            request.send_error(404)
            return
        start = 0
        if wanted and self.has_ranges and request.headers.get("If-Range") == self.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                request.send_error(416)
                return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("ETag", self.tag)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        request.wfile.write(content[start:][: self.breaks_after])
        request.close_connection = True

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    server.files["/x.bin"] = CONTENT
    yield server
    server.http.shutdown()
    server.thread.join()
    server.http.server_close()


class TestDownloadFile:
    def test_whole(self, server: Server, tmp_path: Path) -> None:
        seen: list[tuple[float, float | None]] = []
        path = tmp_path / "deep" / "x.bin"
        found = download_file(server.url("/x.bin"), path, progress=lambda *facts: seen.append(facts))
        assert path.read_bytes() == CONTENT and found == SHA256
        assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) == 3
        assert list(path.parent.iterdir()) == [path]

    def test_broken_connections_are_gone_on_with(self, server: Server, tmp_path: Path) -> None:
        server.breaks_after = 1_000_000
        assert download_file(server.url("/x.bin"), tmp_path / "x", sha256=SHA256) == SHA256
        assert [start for _, start in server.requests] == [
            None,
            *(f"bytes={start}-" for start in (999_999, 1_999_998, 2_999_997)),
        ]

    def test_same_call_goes_on(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "x.part").write_bytes(CONTENT[:10])
        (tmp_path / "x.part.tag").write_text('"first"')
        download_file(server.url("/x.bin"), tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == CONTENT and server.requests == [("/x.bin", "bytes=9-")]

    def test_a_part_that_is_complete_is_taken(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "x.part").write_bytes(CONTENT)
        (tmp_path / "x.part.tag").write_text('"first"')
        assert download_file(server.url("/x.bin"), tmp_path / "x") == SHA256
        assert server.requests == [("/x.bin", f"bytes={len(CONTENT) - 1}-")]

    @pytest.mark.parametrize("change", ["tag", "no ranges", "too long", "no tag"])
    def test_starts_anew_where_it_must(self, server: Server, tmp_path: Path, change: str) -> None:
        (tmp_path / "x.part").write_bytes(b"!" * (10 if change != "too long" else len(CONTENT) + 5))
        if change != "no tag":
            (tmp_path / "x.part.tag").write_text('"first"')
        server.tag = '"second"' if change == "tag" else '"first"'
        server.has_ranges = change != "no ranges"
        if change == "too long":
            with pytest.raises(DataError, match="changed; run the same command again"):
                download_file(server.url("/x.bin"), tmp_path / "x")
        download_file(server.url("/x.bin"), tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == CONTENT

    def test_a_connection_without_progress_ends_it(self, server: Server, tmp_path: Path) -> None:
        server.breaks_after = 0
        with pytest.raises(DataError, match="ended after 0 of 3000000 bytes; run the same command"):
            download_file(server.url("/x.bin"), tmp_path / "x")
        assert not (tmp_path / "x").exists()

    def test_checksum(self, server: Server, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=f"has SHA-256 {SHA256}, not 00"):
            download_file(server.url("/x.bin"), tmp_path / "x", sha256="00")
        assert not list(tmp_path.glob("x"))

    def test_gone_and_unreachable(self, server: Server, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"is gone \(HTTP 404\)"):
            download_file(server.url("/y.bin"), tmp_path / "y")
        with pytest.raises(DataError, match="cannot be reached"):
            download_file("http://127.0.0.1:1/x", tmp_path / "y")
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DataError, match="cannot be written"):
            download_file(server.url("/x.bin"), tmp_path / "file" / "x")


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(folder: Path, *, mode: str = "w:xz", prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for path in sorted(folder.rglob("*.pkl")):
            archive.add(path, prefix + path.relative_to(folder).as_posix())
    return buffer.getvalue()


class TestUnpack:
    def test_paths_cannot_lead_out(self, tmp_path: Path) -> None:
        names = [
            "val/a.pkl",
            "../out.pkl",
            "/val/b.pkl",
            "val/../../c.pkl",
            "C:/d.pkl",
            "val\\e.pkl",
            "deep/val/f.pkl",
        ]
        names += ["__MACOSX/val/g.pkl", "val/._h.pkl", "i.pkl"]
        (tmp_path / "x.zip").write_bytes(zipped(dict.fromkeys(names, b"x")))
        assert unpack(tmp_path / "x.zip", tmp_path / "in", ("val",), below="val") == 5
        found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.pkl")}
        assert found == {f"in/val/{name}.pkl" for name in "abefi"}

    def test_links_and_devices_are_left_out(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            for name, kind in (("a", tarfile.SYMTYPE), ("b", tarfile.LNKTYPE), ("c", tarfile.FIFOTYPE)):
                info = tarfile.TarInfo(f"val/{name}")
                info.type, info.linkname = kind, "/etc/passwd"
                archive.addfile(info)
            info = tarfile.TarInfo("val/d")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
        assert unpack(tmp_path / "x.tar", tmp_path / "in", ("val",)) == 1
        assert [path.name for path in (tmp_path / "in" / "val").iterdir()] == ["d"]

    def test_goes_on_where_it_stopped(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(zipped({"val/a": b"new", "val/b": b"abc"}))
        (tmp_path / "val").mkdir()
        (tmp_path / "val" / "a").write_bytes(b"old")  # of the right size: kept
        (tmp_path / "val" / "b").write_bytes(b"cut off by the power")
        unpack(tmp_path / "x.zip", tmp_path, ("val",))
        assert (tmp_path / "val" / "a").read_bytes() == b"old" and (
            tmp_path / "val" / "b"
        ).read_bytes() == b"abc"

    @pytest.mark.parametrize("cut", [10, 100, 300, 1000])
    @pytest.mark.parametrize("kind", ["zip", "tar.xz", "tar.gz"])
    def test_damaged(self, tmp_path: Path, cut: int, kind: str) -> None:
        write_soundspaces(tmp_path, {"val": {"a/1": {"x": np.random.default_rng(0).bytes(5000)}}})
        if kind == "zip":
            content = zipped({"val/a/1.pkl": (tmp_path / "val" / "a" / "1.pkl").read_bytes()})
        else:
            content = tarred(tmp_path, mode=f"w:{kind[4:]}")
        path = tmp_path / f"x.{kind}"
        path.write_bytes(content[:-cut])
        with pytest.raises(DataError, match="damaged"):
            unpack(path, tmp_path / "in", ("val",))
        assert not list((tmp_path / "in").rglob("*.pkl")) and not list((tmp_path / "in").rglob("*.part"))

    def test_damaged_before_and_after_an_interruption(self, tmp_path: Path) -> None:
        write_soundspaces(tmp_path, {"val": {"a/1": {"x": np.random.default_rng(0).bytes(5000)}}})
        content = (tmp_path / "val" / "a" / "1.pkl").read_bytes()
        (tmp_path / "x.tar.xz").write_bytes(tarred(tmp_path)[:-10])
        (tmp_path / "in" / "val" / "a").mkdir(parents=True)
        (tmp_path / "in" / "val" / "a" / "1.pkl").write_bytes(content)  # by the run that was interrupted
        with pytest.raises(DataError, match="damaged"):
            unpack(tmp_path / "x.tar.xz", tmp_path / "in", ("val",))
        assert not list((tmp_path / "in").rglob("*.pkl"))


@pytest.fixture
def published(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with small archives of both benchmarks, in the place of the publisher's."""
    source = tmp_path / "source"
    records = {"a/1-2-3": soundspaces_record(synthetic_room(0), synthetic_voice(0, 0.2))}
    write_soundspaces(source / "ss", {"val-mini": records})
    clips = [(f"{number:03d}", synthetic_room(0), synthetic_voice(0, 0.05)) for number in range(50)]
    write_avspeech(source / "av", clips, [np.ones(3)])
    names = {path.relative_to(source / "av").as_posix(): path for path in (source / "av").rglob("*.*")}
    server.files["/ss/val-mini.tar.xz"] = tarred(source / "ss", prefix="./data/")
    server.files["/ss/metadata.zip"] = zipped({"metadata/val/a.pkl": b"N."})
    server.files["/av/acoustic_avspeech.zip"] = zipped(
        {f"acoustic_avspeech/{name}": path.read_bytes() for name, path in names.items()}
    )
    for name, path in (("soundspaces-speech", "/ss"), ("acoustic-avspeech", "/av")):
        facts = {**vars(BENCHMARKS[name]), "address": server.url(path)}
        monkeypatch.setitem(BENCHMARKS, name, download.Benchmark(**facts))
    return server


class TestDownloadBenchmark:
    def test_soundspaces(self, published: Server, tmp_path: Path) -> None:
        out = tmp_path / "out"
        (archive,) = download_benchmark("soundspaces-speech", out, ["val-mini"], accept_licence=True)
        assert archive == out / "val-mini.tar.xz" and len(open_dataset(out)) == 1
        facts = json.loads((out / "checksums.json").read_text())[archive.name]
        assert facts["unpacked"] and facts["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
        archive.unlink()  # to save space; nothing is to be done any more
        download_benchmark("soundspaces-speech", out, ["val-mini"], accept_licence=True)
        assert len(published.requests) == 1

    def test_avspeech(self, published: Server, tmp_path: Path) -> None:
        download_benchmark("acoustic-avspeech", tmp_path / "out", accept_licence=True)
        assert len(open_dataset(tmp_path / "out", split="train")) == 47

    def test_a_damaged_archive_does_not_stand_in_the_way(self, published: Server, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "metadata.zip").write_bytes(published.files["/ss/metadata.zip"][:-30])
        with pytest.raises(DataError, match="delete it and download it again"):
            download_benchmark("soundspaces-speech", out, ["metadata"], accept_licence=True)
        (out / "metadata.zip").unlink()
        download_benchmark("soundspaces-speech", out, ["metadata"], accept_licence=True)
        assert json.loads((out / "checksums.json").read_text())["metadata.zip"]["unpacked"]

    def test_archive_that_changed(self, published: Server, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "checksums.json").write_text(json.dumps({"metadata.zip": {"sha256": "00"}}))
        with pytest.raises(DataError, match="not 00"):
            download_benchmark("soundspaces-speech", out, ["metadata"], accept_licence=True)
        (out / "metadata.zip").write_bytes(b"mine")
        with pytest.raises(DataError, match="delete it"):
            download_benchmark("soundspaces-speech", out, ["metadata"], accept_licence=True)
        (out / "checksums.json").write_text("[")
        with pytest.raises(DataError, match="damaged"):
            download_benchmark("soundspaces-speech", out, ["metadata"], accept_licence=True)

    def test_archive_that_is_there_already(self, published: Server, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "metadata.zip").write_bytes(published.files["/ss/metadata.zip"])
        download_benchmark("soundspaces-speech", out, ["metadata"], accept_licence=True)
        assert not published.requests and (out / "metadata" / "val" / "a.pkl").exists()

    def test_refusals(self, published: Server, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="not accepted"):
            download_benchmark("soundspaces-speech", tmp_path)
        with pytest.raises(ConfigError, match="no part 'test'"):
            download_benchmark("soundspaces-speech", tmp_path, ["test"], accept_licence=True)
        with pytest.raises(ConfigError, match="no benchmark"):
            download_benchmark("imagenet", tmp_path, accept_licence=True)
        with pytest.raises(DataError, match=r"gone \(HTTP 404\).*If you have train\.tar\.xz"):
            download_benchmark("soundspaces-speech", tmp_path, ["train"], accept_licence=True)

    def test_command(self, published: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        command = [
            "data",
            "download",
            "soundspaces-speech",
            "-o",
            str(tmp_path / "out"),
            "--part",
            "val-mini",
        ]
        assert _run(command) == 1
        said = capfd.readouterr()
        assert "Matterport3D" in said.err and "--accept-licence" in said.err and not published.requests
        assert _run([*command, "--accept-licence"]) == 0
        assert capfd.readouterr().out.strip() == str(tmp_path / "out" / "val-mini.tar.xz")


def test_published_addresses() -> None:
    urls = [f"{kind.address}/{name}" for kind in BENCHMARKS.values() for name in kind.archives.values()]
    host = "https://dl.fbaipublicfiles.com"
    names = ["metadata.zip", "train.tar.xz", "val-mini.tar.xz", "test-seen.zip", "test-unseen.tar.xz"]
    assert urls[:5] == [f"{host}/SoundSpaces/av_dereverb/{name}" for name in names]
    assert urls[5:] == [f"{host}/vam/acoustic_avspeech.zip"]


class TestShardsOnTheWeb:
    @pytest.fixture(autouse=True)
    def shards(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MVSD_CACHE", str(tmp_path / "cache"))
        examples = [Example(f"k{number}", rir=np.full(4, number + 1.0, np.float32)) for number in range(4)]
        for path in write_shards(examples, tmp_path, prefix="x", examples_per_shard=2):
            server.files[f"/data/{path.name}"] = path.read_bytes()

    def test_read(self, server: Server, tmp_path: Path) -> None:
        stored = open_dataset(server.url("/data/x-{000000..000001}.tar"))
        assert [example.key for example in stored] == ["k0", "k1", "k2", "k3"]
        assert stored[3].rir[0] == 4.0 and len(server.requests) == 2
        assert Shards([server.url("/data/x-000001.tar"), str(tmp_path)]).keys == [
            "k2",
            "k3",
            "k0",
            "k1",
            "k2",
            "k3",
        ]
        assert len(server.requests) == 2

    def test_address_that_is_not_ascii(self, server: Server) -> None:
        server.files["/r%C3%A4ume/x.tar"] = server.files["/data/x-000000.tar"]
        assert Shards(server.url("/räume/x.tar")).keys == ["k0", "k1"]
        assert Shards(server.url("/r%C3%A4ume/x.tar")).keys == ["k0", "k1"]

    def test_small_cache(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MVSD_CACHE_GB", "0")
        stored = Shards(server.url("/data/x-{000000..000001}.tar"))
        assert len(list((tmp_path / "cache" / "shards").iterdir())) == 1
        assert [example.rir[0] for example in stored] == [1.0, 2.0, 3.0, 4.0]
        assert len(list((tmp_path / "cache" / "shards").iterdir())) == 1
        monkeypatch.setenv("MVSD_CACHE_GB", "much")
        with pytest.raises(ConfigError, match="MVSD_CACHE_GB"):
            stored[0]

    def test_what_was_not_used_for_longest_goes_and_who_downloads_is_left_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MVSD_CACHE_GB", "0.000002")  # 2000 bytes
        cache, now = tmp_path / "shards", time.time()
        for name, age in (
            ("new", 0),
            ("middle", 60),
            ("old", 120),
            (".at work", 60),
            (".forgotten", 172_800),
        ):
            if name.startswith("."):
                (cache / name).mkdir(parents=True)
            else:
                cache.mkdir(exist_ok=True)
                (cache / name).write_bytes(bytes(900))
            os.utime(cache / name, (now - age, now - age))
        remote._delete_oldest(cache, keep=cache / "new")
        assert {path.name for path in cache.iterdir()} == {"new", "middle", ".at work"}

    def test_gone(self, server: Server, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"gone \(HTTP 404\)"):
            Shards(server.url("/data/y.tar"))
        assert not any((tmp_path / "cache" / "shards").iterdir())
        server.files["/data/y.tar"] = b"no shard"
        with pytest.raises(DataError, match="not a readable tar shard"):
            Shards(server.url("/data/y.tar"))
        server.files["/data/y.tar"] = server.files["/data/x-000000.tar"]  # what came first is not kept
        assert Shards(server.url("/data/y.tar")).keys == ["k0", "k1"]
        with pytest.raises(DataError, match="address of a folder"):
            Shards(server.url("/data/"))

    def test_names(self, tmp_path: Path) -> None:
        assert expand("https://a/b.tar") == ["https://a/b.tar"]
        assert expand("https://a/{08..10}/b") == ["https://a/08/b", "https://a/09/b", "https://a/10/b"]
        with pytest.raises(DataError, match="at most"):
            expand("https://a/{0..99999999}")
        assert local_path(tmp_path) == tmp_path and remote.is_url("http://a") and not remote.is_url(tmp_path)
