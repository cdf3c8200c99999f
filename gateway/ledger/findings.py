"""What a verification of the ledger says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

FINDINGS_MAX: Final = 20
"""Bad rows named per check; the count goes on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that breaks a rule."""

    check: str
    row: str
    problem: str
    table: str | None = None
    """Of the row, where the check knows it."""
    column: str | None = None
    """The one that is not what it was, where that can be told."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: noted elsewhere, it proves later that nothing up to here was rewritten."""

    chain: str
    number: int
    digest: str
    """The link of that row (`gateway.ledger.chain`), hex."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was checked and what was found."""

    name: str
    rows: int
    findings: tuple[Finding, ...]
    more: int = 0
    head: Head | None = None
    """Of a chain: the last row that holds."""

    @property
    def ok(self) -> bool:
        return not self.findings


def checked(name: str, rows: int, found: Iterable[Finding]) -> Check:
    """A check with its first findings named and the rest counted."""
    findings = iter(found)
    named = tuple(islice(findings, FINDINGS_MAX))
    return Check(name, rows, named, sum(1 for _ in findings))
