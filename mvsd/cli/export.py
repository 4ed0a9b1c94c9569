"""The command that writes a model for programs without PyTorch: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mvsd.cli.options import Force, Steps


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="dereverberator, reverberator, or a model file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="MODEL.onnx", help="ONNX file to write.")],
    steps: Steps = None,
    force: Force = False,
) -> None:
    """Write a model as an ONNX file, which runs without PyTorch; needs the extra onnx."""
    from mvsd.converter import load
    from mvsd.onnx_file import OPSET, export_onnx

    export_onnx(load(model), out, steps=steps, force=force)
    typer.echo(out)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, opset {OPSET}", err=True)
