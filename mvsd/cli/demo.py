"""The command that serves a page: demo."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

import typer

from mvsd.cli.options import Device, Model, Where, choose_device

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def demo(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen at.")] = 7860,
    device: Where = Device.auto,
    model_reverberator: Model = None,
    model_dereverberator: Model = None,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest upload.")] = 200,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest recording.")] = 300,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Serve a page on this machine that converts, compares and reports; Ctrl-C ends it."""
    from mvsd.web.app import serving
    from mvsd.web.jobs import Limits, Models
    from mvsd.whole_file import stop_signals_raise

    if host not in _LOOPBACK:
        typer.echo(
            f"warning: whoever reaches {host}:{port} can use the page and this machine's time", err=True
        )
    models = Models.load(model_reverberator, model_dereverberator, choose_device(device))
    limits = Limits(megabytes=max_megabytes, seconds=max_seconds)
    with (
        stop_signals_raise(),
        serving(models, limits, host=host, port=port, open_browser=open_browser) as address,
    ):
        typer.echo(address)
        sys.stdout.flush()
        threading.Event().wait()
