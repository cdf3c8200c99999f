"""Root command: reads the command line, and every end of every command that is not a good one passes here.

People read an error on stderr. With `--json` programs find it on stdout too, with whatever else the
command knows beside it: `{"error": {"code", "text", "next"}}`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import UserDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, Final, TextIO

import typer
from typer.main import get_command

from gateway.cli import usage
from gateway.cli.errors import ExitCode, Fault, explain
from gateway.cli.help import Group
from gateway.cli.screen import Screen
from gateway.texts.catalogue import Language, Words

NAME: Final = "etcgw"

LANGUAGE, JSON, TRACEBACK = "--lang", "--json", "--traceback"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Arguments in the order that the library wants, and the wishes in them that an error needs to be told.

    Those wishes may stand anywhere. The library gets `--lang` before the command and `--json` behind it.
    """

    arguments: list[str]
    screen: Screen
    as_json: bool
    with_traceback: bool

    @classmethod
    def of(cls, arguments: Sequence[str]) -> CommandLine:
        """Read what stands before a `--`; behind it there are no options."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        language: list[str] = []
        rest: list[str] = []
        with_traceback = False
        waiting = deque(arguments[:end])
        while waiting:
            argument = waiting.popleft()
            if argument == LANGUAGE:
                given = waiting and not waiting[0].startswith("-")
                language = [argument, waiting.popleft() if given else ""]
            elif argument.startswith(f"{LANGUAGE}="):
                language = [argument]
            elif argument == TRACEBACK:
                with_traceback = True
            else:
                rest.append(argument)
        as_json = JSON in rest
        if as_json:
            rest = [*(argument for argument in rest if argument != JSON), JSON]
        chosen = language[-1].removeprefix(f"{LANGUAGE}=") if language else ""
        known = Language(chosen) if chosen in list(Language) else Language.of_environment()
        return cls([*language, *rest, *arguments[end:]], Screen(known), as_json, with_traceback)


class Later(UserDict[str, Any]):
    """Commands by name, each loaded when it is needed.

    Loading all of them took a fifth of the time of a command that reads.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        super().__init__(dict.fromkeys(modules))
        self._modules = modules

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - types of the library's own copy of Click
        if self.data[name] is None:
            self.data[name] = get_command(import_module(self._modules[name]).app)
            self.data[name].name = name
        return self.data[name]


class Program(Group):
    """The root command."""

    modules: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Names of its commands -> modules with the `app` of each."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(*arguments, **settings)
        self.commands = Later(self.modules)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """Names in the order of the help."""
        return list(self.modules)

    def make_context(  # types of the library's own copy of Click
        self,
        info_name: Any,  # noqa: ANN401
        args: list[str],
        *above: Any,  # noqa: ANN401
        **more: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Read the program's own options."""
        line = CommandLine.of(args)
        with _ends_of(line):
            context = super().make_context(info_name, line.arguments, *above, **{**more, "obj": line.screen})
        context.meta[NAME] = line
        return context

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - types of the library's own copy of Click
        """Run the command."""
        with _ends_of(ctx.meta[NAME]):
            result = super().invoke(ctx)
            sys.stdout.flush()  # What cannot be written is an error of the command too.
            return result


@contextmanager
def _ends_of(line: CommandLine) -> Iterator[None]:
    """Tell an error, and end with its exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise  # How the library ends a command, and takes a reader that left.
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError" and not line.as_json:
            raise  # The library shows the help.
        raise _told(line, _usage(error)) from error
    except KeyboardInterrupt as error:
        if not line.as_json:
            raise
        fault = Fault(ExitCode.INTERRUPTED, "interrupted", line.screen.say("program.stopped-ctrl-c"))
        raise _told(line, fault) from error
    except Exception as error:
        if line.with_traceback:
            for text in "".join(traceback.format_exception(error)).splitlines():
                line.screen.note(text)
        raise _told(line, explain(error)) from error


def _told(line: CommandLine, fault: Fault) -> typer.Exit:
    """End of the command, once the fault has been told."""
    screen = line.screen
    with _written(sys.stdout):
        if line.as_json:
            screen.json({**fault.facts, "error": fault.error(screen)})
    with _written(sys.stderr):
        for number, text in enumerate(fault.lines(screen)):
            screen.note(text if number else f"{NAME}: {text}")
        if fault.likely is not None:
            screen.note(f"  {screen.say('program.likely')}: {screen.word(fault.likely)}")
        if fault.next_step is not None:
            screen.note(f"  {screen.say('program.next')}: {screen.word(fault.next_step)}")
    return typer.Exit(fault.code)


@contextmanager
def _written(stream: TextIO) -> Iterator[None]:
    """Writing to a stream that may take nothing any more: with a full disk the exit code alone tells the error."""
    try:
        yield
        stream.flush()
    except OSError:
        # What is left in the stream is written when the program ends, and must not fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _usage(error: typer.TyperException) -> Fault:
    """Fault of a command line that is wrong."""
    names = (usage.NAMES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in usage.NAMES)
    context = getattr(error, "ctx", None)
    command = NAME if context is None else context.command_path
    return Fault(
        ExitCode.USAGE,
        next(names, "wrong_usage"),
        usage.problem_of(error),
        next_step=Words("usage.next", command=command),
    )
