"""Serves the page for a test, in a process of its own: Gradio leaves threads and sockets behind.

    python page_server.py FOLDER REVERBERATOR DEREVERBERATOR PORT

A conversion into a room waits while FOLDER/gate is there. Every address that is connected to goes to FOLDER/called.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvsd.blockwise import Blocks, Request
from mvsd.web.app import serving
from mvsd.web.jobs import Limits, Models

LIMITS = Limits(megabytes=1, seconds=20)


def serve(folder: Path, reverberator: Path, dereverberator: Path, port: int) -> None:
    connect = socket.socket.connect

    def noting_connect(self: socket.socket, address: Any) -> Any:
        with (folder / "called").open("a") as file:
            file.write(f"{address[0] if isinstance(address, tuple) else 'local'}\n")
        return connect(self, address)

    socket.socket.connect = noting_connect  # type: ignore[method-assign]
    models = Models.load(reverberator, dereverberator, "cpu")
    convert_blocks = models.reverberator.convert_blocks

    def waiting_blocks(blocks: Blocks, request: Request) -> Iterator[np.ndarray]:
        while (folder / "gate").exists():
            time.sleep(0.05)
        yield from convert_blocks(blocks, request)

    models.reverberator.convert_blocks = waiting_blocks  # type: ignore[method-assign]
    tempfile.tempdir = str(folder / "temporary")
    with serving(models, LIMITS, port=port) as address:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:4]), int(sys.argv[4]))  # type: ignore[arg-type]
