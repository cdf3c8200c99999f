"""Planting of bugs in the gateway's code, in this process only.

Most bugs are an edit of a few words in one function: its source is taken, the words are replaced, and the function made
of the result stands in its place until the run ends. An edit that no longer fits raises, so that a bug cannot quietly
become no bug when the gateway's code changes.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

Owner = ModuleType | type


class NoLongerFits(Exception):
    """The gateway's code has changed: the bug must be written anew."""


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug, and the workload in which it shows soonest."""

    what: str
    patch: Callable[[], AbstractContextManager[None]]
    workload: str = "engine"


@contextmanager
def put(owner: Owner, name: str, value: Any) -> Iterator[None]:  # noqa: ANN401 - a function of any kind
    """Have `value` stand in the place of a function."""
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def edited(owner: Owner, name: str, words: Sequence[tuple[str, str]]) -> FunctionType:
    """Make a function of the source of another, with some words replaced. Raises NoLongerFits."""
    function = owner.__dict__[name]
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in words:
        if source.count(old) != 1:
            raise NoLongerFits(f"{owner.__name__}.{name} has {source.count(old)} times {old!r}")
        source = source.replace(old, new)
    code = compile(source, f"<planted in {name}>", "exec", flags=__future__.annotations.compiler_flag)
    made: dict[str, FunctionType] = {}
    exec(code, function.__globals__, made)  # noqa: S102 - our own source with our own words
    return made[name]


def edit(*edits: tuple[Owner, str, str, str]) -> Callable[[], AbstractContextManager[None]]:
    """Patch by edits: where each function stands, its name, the words to replace, and what to put there."""

    @contextmanager
    def patch() -> Iterator[None]:
        words: dict[tuple[Owner, str], list[tuple[str, str]]] = {}
        for owner, name, old, new in edits:
            words.setdefault((owner, name), []).append((old, new))
        with ExitStack() as stack:
            for (owner, name), changes in words.items():
                stack.enter_context(put(owner, name, edited(owner, name, changes)))
            yield

    return patch
