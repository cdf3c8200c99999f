"""Groups and commands whose help is told in the language chosen.

What a command and its options are for stands in the catalogue under the command's path: `help.debits.refund`, and
`help.debits.refund.key` for an option. What an option of this name means everywhere stands under `help.any`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from gateway.cli.options import HELP_NAMES, screen_of
from gateway.cli.screen import Screen
from gateway.texts import catalogue
from gateway.texts.catalogue import Words

PROGRAM: Final = "help.etcgw"

TITLES: Final = {
    "ARGUMENTS_PANEL_TITLE": Words("help.title.arguments"),
    "OPTIONS_PANEL_TITLE": Words("help.title.options"),
    "COMMANDS_PANEL_TITLE": Words("help.title.commands"),
    "REQUIRED_LONG_STRING": Words("help.title.required"),
    "DEFAULT_STRING": Words("help.title.default"),
    "ENVVAR_STRING": Words("help.title.variable"),
}
"""Names under which the library keeps its own words -> ours."""


class Group(TyperGroup):
    """A group of commands."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - types of the library's own Click
        """Write the line of usage."""
        _write_usage(self, ctx, formatter)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the help of the group, with a line for each of its commands."""
        screen, path = _translate(self, ctx)
        for name in self.list_commands(ctx):
            self.commands[name].help = screen.say(f"{path}.{name}" if path != PROGRAM else f"help.{name}")
        super().format_help(ctx, formatter)


class Command(TyperCommand):
    """A command."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - types of the library's own Click
        """Write the line of usage."""
        _write_usage(self, ctx, formatter)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the help of the command."""
        _translate(self, ctx)
        super().format_help(ctx, formatter)


class Commands(typer.Typer):
    """A group to which commands are added."""

    def __init__(self, name: str, cls: type[Group] = Group, **settings: Any) -> None:  # noqa: ANN401 - the library's
        settings = {"add_completion": False, **settings}
        super().__init__(name=name, cls=cls, context_settings=HELP_NAMES, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:  # noqa: ANN401
        """Decorator that adds a command."""
        return super().command(name, cls=Command, **settings)


def _write_usage(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
    prefix = f"{screen_of(ctx).say('help.title.usage')} "
    formatter.write_usage(ctx.command_path, " ".join(command.collect_usage_pieces(ctx)), prefix=prefix)


def _translate(command: TyperCommand | TyperGroup, ctx: Any) -> tuple[Screen, str]:  # noqa: ANN401
    """Give a command and its options their texts; the screen, and the code of the command's own text."""
    from typer import rich_utils  # heavy, and needed for nothing else

    screen = screen_of(ctx)
    for name, words in TITLES.items():
        setattr(rich_utils, name, screen.word(words))
    names: list[str] = []
    above = ctx
    while above.parent is not None:
        names.insert(0, above.info_name)
        above = above.parent
    path = f"help.{'.'.join(names)}" if names else PROGRAM
    command.help = screen.say(path)
    if path == PROGRAM:
        command.epilog = screen.say("help.exit-codes")
    for parameter in command.get_params(ctx):
        if isinstance(parameter, TyperArgument | TyperOption):
            _translate_parameter(parameter, screen, path)
    return screen, path


def _translate_parameter(parameter: TyperArgument | TyperOption, screen: Screen, path: str) -> None:
    name = (parameter.name or "").replace("_", "-")
    own = f"{path}.{name}"
    parameter.help = screen.say(own if catalogue.has(own) else f"help.any.{name}")
    if isinstance(parameter.show_default, str):
        parameter.show_default = screen.say(f"{own}.default")
