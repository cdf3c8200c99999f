"""Import of mandates: brings a file in force beside a running gateway, by its differences, in short transactions.

Theory of operation. The file is checked to its end before anything is written (`mandates.read_csv`), and compared with
the ledger. Only what differs is written, a few hundred rows a transaction, because a second copy that is switched to at
once would need every key of two tables twice, for the sake of readers that never ask for more than one mandate. What a
reader can see is kept true for each of them: at every moment a credential is the old file's, the new file's, or
nobody's, and never leads to a payer that neither file gave it. So of each mandate what it loses goes first, then its
own row changes, then it gets what is new; all in one transaction unless it has hundreds of cards.

An import is numbered when it begins and noted when it has ended, both in the journal and in two counters. While the two
differ the mandates are neither the old ones nor the new: commands and the gateway's start say so. Cut short by whatever
it be, it is finished by giving the file again, or undone by giving the old one: an import writes what is missing and
does nothing twice. Of two at once the one that began later goes on, and the other one stops at its next transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, bindparam, delete, select

from gateway.ledger import tables
from gateway.ledger.pace import Pace
from gateway.ledger.transaction import Change, Transaction
from gateway.payers import fuel_terms
from gateway.payers.fuel_terms import NO_TERMS, read_terms, terms_row
from gateway.payers.mandates import (
    Credential,
    CredentialKind,
    Mandate,
    credential_row,
    mandate_row,
    read_credential,
    read_mandate,
)
from gateway.texts.catalogue import Words

BEGUN: Final = "mandate_import"
"""Counter of imports that began."""

ENDED: Final = "mandate_import_ended"
"""Counter of the last import that ended."""

UNIT_ROWS_MAX: Final = 200
"""Rows of one mandate that change together; the cards of a whole fleet come and go in several transactions."""

ROWS_READ: Final = 5_000
"""Rows of the ledger in memory at a time."""

Name: TypeAlias = tuple[CredentialKind, str]
"""Name of a credential, by which it is found."""

T = TypeVar("T")

_m, _c, _f = tables.mandate, tables.credential, tables.mandate_fuel
_DROP = delete(_c).where(
    _c.c.kind == bindparam("of_kind"), _c.c.key == bindparam("of_key"), _c.c.mandate_id == bindparam("mandate")
)
_TAKE = delete(_c).where(_c.c.kind == bindparam("of_kind"), _c.c.key == bindparam("of_key"))
_END = delete(_m).where(_m.c.id == bindparam("mandate"))
_END_FUEL = delete(_f).where(_f.c.mandate_id == bindparam("mandate"))


class ImportOvertaken(Exception):
    """Stop of an import because another began after it."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of an import, in mandates. One is changed when it or one of its credentials is."""

    added: int
    changed: int
    removed: int
    unchanged: int

    @property
    def none(self) -> bool:
        """True when the ledger has all of it already."""
        return not (self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Unit:
    """Unit of changes of one mandate, in the order of the fields."""

    mandate_id: str
    drops: Sequence[Name] = ()
    """Credentials it loses, or that change; what another mandate has taken meanwhile stays there."""
    row: Mandate | None = None
    """Row of the mandate as it is to stand; None: it stays as it is."""
    new: bool = False
    takes: Sequence[Name] = ()
    """Names of `puts` that another mandate may still have."""
    puts: Sequence[Credential] = ()
    gone: bool = False

    @property
    def rows(self) -> int:
        own = 0 if self.row is None else 1 + (self.row.fuel != NO_TERMS)
        return len(self.drops) + own + len(self.takes) + len(self.puts) + self.gone

    def parts(self) -> Iterator[Unit]:
        """Split it into parts that fit into a transaction, to be applied in this order."""
        if self.rows <= UNIT_ROWS_MAX:
            yield self
            return
        for some in _chunks(self.drops):
            yield Unit(self.mandate_id, drops=some)
        if self.row is not None:
            yield Unit(self.mandate_id, row=self.row, new=self.new)
        taken = frozenset(self.takes)
        for puts in _chunks(self.puts):
            yield Unit(self.mandate_id, takes=[put.name for put in puts if put.name in taken], puts=puts)
        if self.gone:
            yield Unit(self.mandate_id, gone=True)


@dataclass(slots=True)
class Plan:
    """Plan: the differences of the ledger from a file."""

    mandates: Mapping[str, Mandate]
    """Mandates of the file, by id."""
    known: set[str] = field(default_factory=set)
    """Mandates of the file that the ledger has."""
    rewritten: set[str] = field(default_factory=set)
    """Known mandates whose own row differs."""
    removed: list[str] = field(default_factory=list)
    drops: dict[str, list[Name]] = field(default_factory=dict)
    """Credentials to remove, by the mandate that has them now."""
    taken: set[Name] = field(default_factory=set)
    """Credentials that pass from one mandate to another."""
    puts: dict[str, list[Credential]] = field(default_factory=dict)
    """Credentials to add, by the mandate that gets them."""
    begun: int = 0
    """Number of the last import that had begun when the ledger was read."""
    under_way: bool = False
    """True when that import had not ended."""

    @property
    def changes(self) -> Changes:
        """Numbers of changes."""
        changed = sum(1 for _ in self._changed())
        added = len(self.mandates) - len(self.known)
        return Changes(added, changed, len(self.removed), len(self.known) - changed)

    def units(self) -> Iterator[Unit]:
        """Units to write. New mandates come first, so that a credential that passes to one is never nobody's."""
        for mandate_id, mandate in self.mandates.items():
            if mandate_id not in self.known:
                yield from self._unit(mandate_id, row=mandate, new=True).parts()
        for mandate_id in self._changed():
            row = self.mandates[mandate_id] if mandate_id in self.rewritten else None
            yield from self._unit(mandate_id, row=row).parts()
        for mandate_id in self.removed:
            yield from self._unit(mandate_id, gone=True).parts()

    def _unit(self, mandate_id: str, *, row: Mandate | None = None, new: bool = False, gone: bool = False) -> Unit:
        puts = self.puts.get(mandate_id, ())
        takes = [credential.name for credential in puts if credential.name in self.taken]
        return Unit(mandate_id, self.drops.get(mandate_id, ()), row, new, takes, puts, gone)

    def _changed(self) -> Iterator[str]:
        touched = self.rewritten, self.drops, self.puts
        return (name for name in self.mandates if name in self.known and any(name in some for some in touched))


def compare(connection: Connection, mandates: Mapping[str, Mandate], credentials: Iterable[Credential]) -> Plan:
    """Compare the ledger with these mandates and credentials."""
    plan = Plan(mandates, begun=_counted(connection, BEGUN))
    plan.under_way = plan.begun != _counted(connection, ENDED)
    for row in connection.execute(fuel_terms.mandates().execution_options(yield_per=ROWS_READ)):
        wanted = mandates.get(row.id)
        if wanted is None:
            plan.removed.append(row.id)
            continue
        plan.known.add(row.id)
        if read_mandate(row, fuel=read_terms(row)) != wanted:
            plan.rewritten.add(row.id)
    missing = {credential.name: credential for credential in credentials}
    for row in connection.execute(select(_c).execution_options(yield_per=ROWS_READ)):
        found = read_credential(row)
        other = missing.get(found.name)
        if found == other:
            del missing[found.name]
            continue
        plan.drops.setdefault(found.mandate_id, []).append(found.name)
        if other is not None and other.mandate_id != found.mandate_id:
            plan.taken.add(found.name)
    for credential in missing.values():
        plan.puts.setdefault(credential.mandate_id, []).append(credential)
    return plan


def bring_in(
    reader: Engine,
    commit: Callable[[Change[Any]], Any],
    mandates: Mapping[str, Mandate],
    credentials: Sequence[Credential],
    *,
    name: str,
    pace: Pace,
    show: Callable[[Plan], None],
    tell: Callable[[int, int], None],
) -> Changes:
    """Import the mandates of a checked file; returns what that changed. Raises `ImportOvertaken`.

    `name` of the file goes into the journal. `commit` makes one change durable. `show` hears what comes and goes before
    anything is written, `tell` after each transaction how many rows are written, of how many.
    """
    with reader.connect() as connection:
        plan = compare(connection, mandates, credentials)
    show(plan)
    changes = plan.changes
    if changes.none and not plan.under_way:
        return changes
    told = f"{name[:200]}: {changes.added} added, {changes.changed} changed, {changes.removed} removed"
    number = commit(partial(_begin, told=told))
    if plan.under_way or number != plan.begun + 1:
        # Whoever was at it has written until we began, and writes no more.
        with reader.connect() as connection:
            plan = compare(connection, mandates, credentials)
    total, done = sum(unit.rows for unit in plan.units()), 0
    for units in pace.slices(plan.units(), lambda unit: unit.rows):
        commit(partial(_go_on, number=number, units=units))
        done += sum(unit.rows for unit in units)
        tell(done, total)
    commit(partial(_end, number=number))
    return changes


def put_all(tx: Transaction, mandates: Mapping[str, Mandate], credentials: Iterable[Credential]) -> None:
    """Import all in the caller's own transaction: for a ledger that no gateway works on yet."""
    tx.flush()
    _apply(tx, list(compare(tx.connection, mandates, credentials).units()))


def is_under_way(connection: Connection) -> bool:
    """True when an import has begun and not ended: one is running now, or was cut short."""
    return _counted(connection, BEGUN) != _counted(connection, ENDED)


def _counted(connection: Connection, name: str) -> int:
    counter = tables.counter
    found = connection.execute(select(counter.c.value).where(counter.c.name == name)).scalar_one_or_none()
    return 0 if found is None else int(found)


def _begin(tx: Transaction, told: str) -> int:
    number = tx.next_number(BEGUN)
    tx.note("mandates", f"import {number}", "begun", detail=told)
    return number


def _go_on(tx: Transaction, number: int, units: Sequence[Unit]) -> None:
    begun = tx.find(tables.counter, name=BEGUN)
    if begun is None or begun.value != number:
        raise ImportOvertaken(Words("mandates.overtaken"))
    _apply(tx, units)


def _end(tx: Transaction, number: int) -> None:
    _go_on(tx, number, ())
    if not tx.update(tables.counter, {"name": ENDED}, value=number):
        tx.insert(tables.counter, name=ENDED, value=number)
    tx.note("mandates", f"import {number}", "ended")


def _apply(tx: Transaction, units: Sequence[Unit]) -> None:
    """Apply units: credentials that go before those that come, so that new rows are written many at a time."""
    for unit in units:
        for kind, key in unit.drops:
            tx.execute(_DROP, of_kind=kind.value, of_key=key, mandate=unit.mandate_id)
        for kind, key in unit.takes:
            tx.execute(_TAKE, of_kind=kind.value, of_key=key)
    for unit in units:
        if unit.row is not None:
            values = mandate_row(unit.row, tx.now_us)
            if unit.new:
                tx.insert(_m, **values)
            else:
                tx.update(_m, {"id": values.pop("id")}, **values)
                tx.execute(_END_FUEL, mandate=unit.mandate_id)
            if unit.row.fuel != NO_TERMS:
                tx.insert(_f, **terms_row(unit.mandate_id, unit.row.fuel))
    for unit in units:
        for credential in unit.puts:
            tx.insert(_c, **credential_row(credential))
    for unit in units:
        if unit.gone:
            tx.execute(_END_FUEL, mandate=unit.mandate_id)
            tx.execute(_END, mandate=unit.mandate_id)


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Chunks of half a unit each: a credential that another mandate may still have is two rows."""
    size = max(UNIT_ROWS_MAX // 2, 1)
    return (values[at : at + size] for at in range(0, len(values), size))
