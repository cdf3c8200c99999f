"""Known bugs that can be planted in the gateway's code, in this process only, to prove that the simulation bites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """One patch. `workload` is where it shows soonest."""

    what: str
    workload: str
    patch: Callable[[], AbstractContextManager[None]]


BUGS: Mapping[str, Bug] = {}


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Run with the bug of this name. Raises ValueError for one that is not known."""
    bug = BUGS.get(name)
    if bug is None:
        raise ValueError(f"bug {name!r} is not known; known are {', '.join(BUGS)}")
    with bug.patch():
        yield
