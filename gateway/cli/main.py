"""Program `etcgw`: its own options and its commands."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import typer

from gateway import private_files
from gateway.cli.help import Commands
from gateway.cli.options import show_version
from gateway.cli.program import LANGUAGE, NAME, TRACEBACK, Program
from gateway.texts.catalogue import Language

MODULES: Final = MappingProxyType(
    {
        "run": "gateway.cli.run",
        "init": "gateway.cli.init",
        "check-config": "gateway.cli.check",
        "status": "gateway.cli.status",
        "passages": "gateway.cli.passages",
        "debits": "gateway.cli.debits",
        "debts": "gateway.cli.debts",
        "sales": "gateway.cli.sales",
        "pumps": "gateway.cli.pumps",
        "clearing": "gateway.cli.clearing",
        "mandates": "gateway.cli.mandates",
        "lists": "gateway.cli.lists",
        "ledger": "gateway.cli.ledger",
        "rules": "gateway.cli.rules",
        "privacy": "gateway.cli.privacy",
        "rsu": "gateway.cli.rsu",
        "pump": "gateway.cli.pump",
        "readers": "gateway.cli.readers",
        "card": "gateway.cli.card",
        "tag": "gateway.cli.tag",
        "psam": "gateway.cli.psam",
        "tac": "gateway.cli.tac",
    }
)
"""Commands in the order of the help -> module with the `app` of each."""


class Etcgw(Program):
    """The program with its commands."""

    modules = MODULES


app = Commands(
    NAME,
    Etcgw,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def program(
    *,
    lang: Annotated[  # read before everything else: an error needs it
        Language | None,
        typer.Option(
            LANGUAGE,
            show_default="by LC_ALL or LANG, else en",
        ),
    ] = None,
    show_traceback: Annotated[bool, typer.Option(TRACEBACK)] = False,
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True)] = False,
) -> None:
    """Charge tolls to the account behind a tag or card, and look into everything that takes part in it."""


def _open_streams() -> None:
    """Standard streams that were closed before us lead nowhere: nothing else may be opened in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open to the end


def main() -> None:
    """Entry point. Exits with an `ExitCode`."""
    private_files.make_private()
    _open_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show Chinese gets escapes, and so do we from input that is no text: no crash.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name=NAME)


if __name__ == "__main__":
    main()
