"""Section of the site file for every charge point, whatever its kind. Each kind adds its own section to this.

`gateway.config` has the list of kinds; what only a kind knows (its keys, what it needs, what it has for itself alone)
stands in its own `config` module.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field

from gateway.documents import Name, Problem, Section, known_are
from gateway.model.passage import DeclinePolicy
from gateway.texts.catalogue import Pair, Text, Words

TerminalNumber = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{8}$")]


class Need(Enum):
    """Needs of a charge point, which its site must fulfil."""

    ISSUERS = "issuers"
    LISTS = "lists"
    TARIFFS = "tariffs"


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim to something that a charge point has for itself alone: a coil, an antenna, a terminal number."""

    what: tuple[Hashable, ...]
    key: str
    """Key below the charge point's own section."""
    value: str
    owner: Text
    problem: Callable[[Text], Text]
    """Problem of another section that claims it, too, from its owner."""
    cure: Text


@dataclass(frozen=True, slots=True)
class SecretFile:
    """File with a secret that a section names."""

    key: str
    """Key below the section."""
    path: Path
    read: Callable[[str, Path], object]
    """Reader of `gateway.secret_files`: it checks what stands there."""


def belongs_to(owner: Text) -> Text:
    """Problem of what another one has."""
    return Words("claim.belongs-to", owner=owner)


class ChargePoint(Section):
    """[[charge_points]] of any kind"""

    needs: ClassVar[frozenset[Need]] = frozenset()

    name: Name
    """name of the charge point; decisions carry it"""
    station: str | None = None
    """code of the place it belongs to, for reports and splits"""
    terminals: dict[str, list[TerminalNumber]] = Field(default_factory=dict)
    """terminal numbers (field 41, 8 characters) by bank; an open reversal blocks one terminal, so give two or more"""
    bank_declines: DeclinePolicy = DeclinePolicy.RELEASE_AS_DEBT
    """"release_as_debt" or "hold_for_attendant" when the bank says no after the card has paid"""
    deadline_ms: int = Field(2000, ge=500, le=10_000)
    """time from the first report to the committed decision"""

    def problems(self, boards: frozenset[str], banks: frozenset[str]) -> Iterator[Problem]:
        """Problems of this section with the rest of the site file; keys count from the section."""
        for bank, numbers in self.terminals.items():
            if bank not in banks:
                yield Problem("terminals", repr(bank), Words("points.no-bank"), known_are(sorted(banks)))
            for number in sorted({n for n in numbers if numbers.count(n) > 1}):
                yield Problem(
                    f"terminals.{bank}", repr(number), Words("points.named-twice"), Words("points.name-terminal-once")
                )

    def claims(self) -> Iterator[Claim]:
        """Claims to what no other charge point may have."""
        cure, owner = Words("claim.own-terminals"), Pair.same(self.name)
        for bank, numbers in self.terminals.items():
            for number in dict.fromkeys(numbers):
                key = f"terminals.{bank}"
                yield Claim(("terminal", bank, number), key, repr(number), owner, belongs_to, cure)

    def secrets(self) -> Iterator[SecretFile]:
        """Secret files that it names."""
        return iter(())

    def callers(self) -> Iterator[tuple[str, str]]:
        """Machines that come to the gateway over HTTP: key that names each, and the address that it comes from."""
        return iter(())

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        del folder
        return self
