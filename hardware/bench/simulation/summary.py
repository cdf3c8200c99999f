"""Sum of what many seeds hit, for people or programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hardware.bench.simulation.declared import FAULTS, FULL, LEAST, TRANSITIONS
from hardware.bench.simulation.world import RunResult

NAME_WIDTH = 44
COUNTED = {"lanes": "passages", "engine": "debits", "fuel": "fillings"}
"""Workloads, and what their size counts."""


@dataclass(slots=True)
class Summary:
    """Totals over all runs so far."""

    runs: int = 0
    done: Counter[str] = field(default_factory=Counter)
    """Passages, debits and fillings, by workload."""
    commits: int = 0
    virtual_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    transitions: Counter[str] = field(default_factory=Counter)
    broken: list[RunResult] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    """Digests by workload and seed."""

    def add(self, outcome: RunResult) -> None:
        """Count one run."""
        self.runs += 1
        self.done[outcome.workload] += outcome.done
        self.commits += outcome.commits
        self.virtual_s += outcome.virtual_s
        self.outcomes += outcome.outcomes
        self.faults += outcome.faults
        self.transitions += outcome.transitions
        self.digests[f"{outcome.workload} {outcome.seed}"] = outcome.digest
        if outcome.problem is not None:
            self.broken.append(outcome)

    @property
    def full_size(self) -> bool:
        """True when so much was run that everything declared must have been hit."""
        return all(self.done[workload] >= size for workload, size in FULL.items())

    def missing(self) -> list[str]:
        """Declared faults and transitions hit fewer than `LEAST` times."""
        return [
            *(f"fault {name}: {self.faults[name]}" for name in FAULTS if self.faults[name] < LEAST),
            *(f"transition {name}: {self.transitions[name]}" for name in TRANSITIONS if self.transitions[name] < LEAST),
        ]

    @property
    def good(self) -> bool:
        """True when no promise is broken, and in a run of full size nothing declared is left out."""
        return not self.broken and not (self.full_size and self.missing())

    def text(self) -> str:
        """Summary for people."""
        lines = [
            f"{self.runs} runs: {', '.join(f'{self.done[work]} {what}' for work, what in COUNTED.items())}, "
            f"{self.commits} commits, "
            f"{self.virtual_s / 3600:.1f} h of virtual time",
            "simulated at their coils and inputs: relay boards",
        ]
        for title, counts, declared in (
            ("outcomes", self.outcomes, ()),
            ("faults", self.faults, FAULTS),
            ("transitions", self.transitions, TRANSITIONS),
        ):
            lines += ["", title, *_table(counts, declared)]
        missing = self.missing()
        if missing and self.full_size:
            lines += ["", f"hit fewer than {LEAST} times:", *(f"  {name}" for name in missing)]
        lines += ["", f"{len(self.broken)} runs broke a promise"]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Summary for programs."""
        return {
            "runs": self.runs,
            **{what: self.done[work] for work, what in COUNTED.items()},
            "commits": self.commits,
            "virtual_s": round(self.virtual_s, 3),
            "outcomes": dict(sorted(self.outcomes.items())),
            "faults": dict(sorted(self.faults.items())),
            "transitions": dict(sorted(self.transitions.items())),
            "full_size": self.full_size,
            "missing": self.missing(),
            "broken": [{"seed": o.seed, "workload": o.workload, "problem": o.problem} for o in self.broken],
            "digests": self.digests,
        }


def _table(counts: Counter[str], declared: Iterable[str]) -> list[str]:
    return [f"  {name:<{NAME_WIDTH}} {counts[name]:>10}" for name in sorted({*counts, *declared})]
