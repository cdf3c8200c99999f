"""Program `etcgw`: its own options, its commands, and what it does with errors."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway import private_files
from gateway.cli import (
    check,
    clearing,
    debits,
    debts,
    init,
    ledger,
    lists,
    mandates,
    passages,
    privacy,
    rsu,
    rules,
    run,
    status,
)
from gateway.cli.errors import Fault, explain
from gateway.cli.options import HELP_NAMES, show_version
from gateway.cli.screen import Language, Screen, visible

PROGRAM = "etcgw"


class Program(TyperGroup):
    """The root command: every error of every command passes here and nowhere else."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - types of the library's own Click
        """Read the command line; what is wrong with it repeats what was typed, made visible."""
        with _visible_usage():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - types of the library's own copy of Click
        """Run the command; an error becomes a fault on stderr and its exit code."""
        try:
            with _visible_usage():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise  # How the library ends a command, tells wrong usage, and takes a reader that left.
        except Exception as error:
            screen = ctx.find_object(Screen) or Screen(Language.of_environment())
            if ctx.params.get("show_traceback"):
                for line in "".join(traceback.format_exception(error)).splitlines():
                    screen.note(line)
            fault = explain(error)
            _tell(screen, fault)
            raise typer.Exit(fault.code) from error


@contextlib.contextmanager
def _visible_usage() -> Iterator[None]:
    """The library prints its own errors, so their text passes the screen's rule on the way to it."""
    try:
        yield
    except typer.TyperException as error:
        error.message = visible(error.message)
        raise


def _tell(screen: Screen, fault: Fault) -> None:
    screen.note(f"{PROGRAM}: {fault.what}")
    for line in fault.more:
        screen.note(line)
    if fault.likely is not None:
        screen.note(f"  {screen.say('likely', '可能原因')}: {screen.word(fault.likely)}")
    if fault.next_step is not None:
        screen.note(f"  {screen.say('next', '下一步')}: {screen.word(fault.next_step)}")


app = typer.Typer(
    name=PROGRAM,
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
    epilog="Exit codes: 0 done; 1 tag, card, file or ledger said no; 2 usage or site file; 3 device, gateway or ledger "
    "not available; 4 no answer, outcome unknown; 5 protocol error; 70 a mistake of ours.",
)


@app.callback()
def program(
    context: typer.Context,
    *,
    lang: Annotated[
        Language | None,
        typer.Option(
            "--lang",
            help="Language of texts for people; JSON keys and codes never change.",
            show_default="by LC_ALL or LANG, else en",
        ),
    ] = None,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="With an error, show where in the program it arose.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Charge tolls to the account behind a tag or card, and look into everything that takes part in it."""
    context.obj = Screen(lang or Language.of_environment())


app.command("run")(run.run)
app.command("init")(init.init)
app.command("check-config")(check.check_config)
app.command("status")(status.status)
app.add_typer(passages.app)
app.add_typer(debits.app)
app.add_typer(debts.app)
app.add_typer(clearing.app)
app.add_typer(mandates.app)
app.add_typer(lists.app)
app.add_typer(ledger.app)
app.add_typer(rules.app)
app.add_typer(privacy.app)
app.add_typer(rsu.app)


def main() -> None:
    """Entry point. Exits with an `ExitCode`."""
    private_files.make_private()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show Chinese gets escapes, and so do we from input that is no text: no crash.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
