"""Health of a gateway, from the file it keeps: whether it runs, and which parts of it do not work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

AGE_MAX_S: Final = 5.0
"""A gateway renews its file every second; five missed renewals mean that it hangs or is gone."""


class ForeignState(Exception):
    """The file is no state file of a gateway."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a gateway. `works`: None of a gateway that does not run, where it worked last; `zh`, `en` and the
    next steps: of the reason, where there is one."""

    name: str
    works: bool | None
    cause: str | None
    zh: str | None
    en: str | None
    next_step_zh: str | None
    next_step_en: str | None
    since_us: int | None


@dataclass(frozen=True, slots=True)
class Health:
    """Health of a gateway. `stopped`: it ended in order; `age_s`: of its last sign of life; `state`: all it says of
    itself, with what does not run marked so."""

    running: bool
    stopped: bool
    age_s: float
    parts: tuple[Part, ...]
    state: Mapping[str, Any]

    @property
    def faults(self) -> int:
        """Parts that do not work."""
        return sum(part.works is False for part in self.parts)


def health_of(path: Path, now_us: int) -> Health:
    """Read the state file. Raises FileNotFoundError where there is none, `ForeignState` where it is another's."""
    try:
        state = dict(json.loads(path.read_text(encoding="utf-8")))
        written_us, running, parts = state["written_us"], bool(state["running"]), dict(state["parts"])
    except (ValueError, KeyError, TypeError) as error:
        raise ForeignState(str(path)) from error
    if not isinstance(written_us, int):
        raise ForeignState(str(path))
    age_s = (now_us - written_us) / 1e6
    # A file from the future is as good as none: the clock was set back, and nobody renewed the file since.
    alive = running and abs(age_s) <= AGE_MAX_S
    if not alive:
        # What worked does nothing now, what was at fault may be so still.
        parts = {name: {**part, "works": None} if part["works"] else part for name, part in parts.items()}
        state |= {"works": False, "parts": parts}
    known = tuple(Part(name, *(part.get(field) for field in Part.__slots__[1:])) for name, part in parts.items())
    return Health(alive, not running, age_s, known, state)
