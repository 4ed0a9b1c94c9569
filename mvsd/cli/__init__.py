"""The command line: one verb per command, thin over the library.

Results go to stdout, talk and progress to stderr. The exit status is 0, or 1 for input that cannot be used, 2 for
wrong usage, 130 when interrupted; each of these comes with one line on stderr.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

import mvsd
from mvsd.cli import convert, data, demo, evaluate, export, inspect, train
from mvsd.errors import MvsdError

# Typer exports only this subclass of the class of all usage errors.
_UsageError: Any = typer.BadParameter.__bases__[0]
_INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mvsd {mvsd.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Move a voice into the room on a photo, and out of it again."""


for _command in (
    convert.reverb,
    convert.dereverb,
    convert.transfer,
    convert.response,
    convert.example,
    train.simulate,
    train.train,
    evaluate.evaluate,
    inspect.inspect,
    export.export,
    demo.demo,
):
    app.command()(_command)
app.add_typer(data.app, name="data")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; what a user can mend becomes one line, without a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may have bytes that are no text
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        command = typer.main.get_command(app)
        status = command.main(arguments, prog_name="mvsd", standalone_mode=False)
    except MvsdError as error:
        return _fail(str(error))
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "mvsd"
        message = error.format_message().rstrip(".")
        if "unexpected extra argument" in message and where.split()[-1] in ("reverb", "dereverb", "transfer"):
            message += "; one IN at a time, or the folder that holds them"
        return _fail(f"{message}; see {where} --help", error.exit_code)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}" if error.filename else str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        typer.echo("interrupted", err=True)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int = 1) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return status
