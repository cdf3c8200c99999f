"""Findings of a verification of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

FINDINGS_MAX: Final = 20
"""Bad rows named per check; the count goes on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Row that breaks a rule."""

    check: str
    row: str
    problem: str
    table: str | None = None
    """Table of the row, where the check knows it."""
    column: str | None = None
    """Column that was changed, where that can be told."""


@dataclass(frozen=True, slots=True)
class Head:
    """Head of a chain: noted elsewhere, it proves later that nothing up to here was rewritten."""

    chain: str
    number: int
    digest: str
    """Link of that row (`gateway.ledger.chain`), hex."""


@dataclass(frozen=True, slots=True)
class Check:
    """Check of the ledger with its findings."""

    name: str
    rows: int
    findings: tuple[Finding, ...]
    more: int = 0
    head: Head | None = None
    """Head of a chain: the last row that holds."""

    @property
    def ok(self) -> bool:
        return not self.findings


def checked(name: str, rows: int, found: Iterable[Finding]) -> Check:
    """Make a check with its first findings named and the rest counted."""
    findings = iter(found)
    named = tuple(islice(findings, FINDINGS_MAX))
    return Check(name, rows, named, sum(1 for _ in findings))


def joined(name: str, rows: int, checks: Iterable[Check]) -> Check:
    """Join checks of parts to the check that would have found all of it, in the same order."""
    named: list[Finding] = []
    more = 0
    for check in checks:
        named += check.findings
        more += check.more
    return Check(name, rows, tuple(named[:FINDINGS_MAX]), more + len(named[FINDINGS_MAX:]))
