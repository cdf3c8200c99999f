"""Mandates: who may be charged, what proves them, and how far each is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from gateway.ledger import tables
from gateway.model.passage import Funding
from gateway.model.states import MandateStatus
from gateway.payers import fuel_terms
from gateway.payers.fuel_terms import NO_TERMS, FuelTerms
from gateway.views.masks import key_shown, number_shown, plate_shown
from gateway.views.rows import by_pages, view_of

DEBITS_SHOWN: Final = 10
"""Newest debits shown with a mandate: enough to see whether it works."""

_m, _c, _l, _d = tables.mandate, tables.credential, tables.mandate_limit, tables.debit


@dataclass(frozen=True, slots=True)
class Credential:
    """Credential of a payer: card, contract or plate. `key`: masked like any number, or the plate with its colour."""

    kind: str
    key: str | None
    plate: str | None
    plate_colour: int | None


@dataclass(frozen=True, slots=True)
class Mandate:
    """A payer's permission. `limit_fen`: most that may be owed at once, None for no such limit of ours."""

    mandate_id: str
    status: str
    funding: Funding
    bank: str | None
    contract_ref: str | None
    limit_fen: int | None
    stand_in_limit_fen: int
    imported_us: int
    fuel: FuelTerms | None
    """Terms at a pump; None where it has none."""
    credentials: Sequence[Credential]


@dataclass(frozen=True, slots=True)
class Limit:
    """Limit stated for one service of a mandate (`*`: all together); None for no such limit."""

    service: str
    per_debit_fen: int | None
    per_day_fen: int | None
    per_day_count: int | None


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure of a mandate's payer: reserved, owed as released, and owed as debt."""

    held_fen: int
    open_fen: int
    debt_fen: int


@dataclass(frozen=True, slots=True)
class Charge:
    """A debit of a mandate, in short."""

    debit_id: str
    passage_id: str
    state: str
    amount_fen: int
    created_us: int


@dataclass(frozen=True, slots=True)
class Use:
    """A mandate with its limits, what its payer owes, and its newest debits. Where a service has no limits of the
    mandate's own, those of the rules bind."""

    mandate: Mandate
    limits: tuple[Limit, ...]
    exposure: Exposure
    debits: tuple[Charge, ...]


def mandates(connection: Connection, last: int, *, state: str | None, unmask: bool) -> tuple[Mandate, ...]:
    """The newest mandates in this state, or in any; those of the newest import first."""
    chosen = [] if state is None else [_m.c.status == state]
    query = fuel_terms.mandates().where(*chosen).order_by(_m.c.imported_at.desc(), _m.c.id).limit(last)
    rows = connection.execute(query).all()
    credentials = _credentials_of(connection, [row.id for row in rows], unmask=unmask)
    return tuple(_mandate(row, credentials, unmask=unmask) for row in rows)


def counts(connection: Connection) -> Mapping[str, int]:
    """Mandates by state."""
    rows = connection.execute(select(_m.c.status, func.count()).group_by(_m.c.status))
    return {state: count for state, count in rows}


def mandate_of(connection: Connection, mandate_id: str, *, unmask: bool) -> Mandate | None:
    """One mandate; None when there is none of this id."""
    row = connection.execute(fuel_terms.mandates().where(_m.c.id == mandate_id)).one_or_none()
    if row is None:
        return None
    return _mandate(row, _credentials_of(connection, [mandate_id], unmask=unmask), unmask=unmask)


def use_of(connection: Connection, mandate_id: str, *, unmask: bool) -> Use | None:
    """Use of a mandate; None when there is none of this id."""
    mandate = mandate_of(connection, mandate_id, unmask=unmask)
    if mandate is None:
        return None
    debits = select(_d).where(_d.c.mandate_id == mandate_id).order_by(_d.c.created_at.desc(), _d.c.id.desc())
    rows = connection.execute(debits.limit(DEBITS_SHOWN))
    charges = tuple(view_of(Charge, row, debit_id=row.id) for row in rows)
    return Use(mandate, limits_of(connection, mandate_id), exposure_of(connection, mandate_id), charges)


def limits_of(connection: Connection, mandate_id: str) -> tuple[Limit, ...]:
    """Limits stated for the mandate itself."""
    rows = connection.execute(select(_l).where(_l.c.mandate_id == mandate_id).order_by(_l.c.service))
    return tuple(view_of(Limit, row) for row in rows)


def charged_banks(connection: Connection) -> Mapping[str, int]:
    """Mandates that are charged online and not closed, by bank; "" for those without one."""
    bank = func.coalesce(_m.c.channel, "")
    rows = connection.execute(
        select(bank, func.count())
        .where(_m.c.funding == Funding.BANK_ONLINE, _m.c.status != MandateStatus.CLOSED)
        .group_by(bank)
    )
    return {name: count for name, count in rows}


def _mandate(row: Row[Any], credentials: Mapping[str, Sequence[Credential]], *, unmask: bool) -> Mandate:
    shown = number_shown(row.contract_ref, unmask=unmask)
    terms = fuel_terms.read_terms(row)
    fuel, proofs = None if terms == NO_TERMS else terms, credentials.get(row.id, ())
    return view_of(Mandate, row, mandate_id=row.id, contract_ref=shown, fuel=fuel, credentials=proofs)


def _credentials_of(
    connection: Connection, mandate_ids: Sequence[str], *, unmask: bool
) -> Mapping[str, Sequence[Credential]]:
    found: defaultdict[str, list[Credential]] = defaultdict(list)
    for page in by_pages(mandate_ids):
        query = select(_c).where(_c.c.mandate_id.in_(page)).order_by(_c.c.kind, _c.c.key)
        for row in connection.execute(query):
            key, plate = key_shown(row.kind, row.key, unmask=unmask), plate_shown(row.plate, unmask=unmask)
            found[row.mandate_id].append(Credential(row.kind, key, plate, row.plate_colour))
    return found


def exposure_of(connection: Connection, mandate_id: str) -> Exposure:
    """Exposure of the payer of a mandate."""
    a, o = tables.account, tables.obligor
    rows = connection.execute(
        select(a.c.kind, func.sum(a.c.balance), func.sum(a.c.held))
        .join_from(a, o, o.c.id == a.c.owner)
        .where(o.c.mandate_id == mandate_id, a.c.kind.in_(("open", "debt")))
        .group_by(a.c.kind)
    )
    found = {kind: (balance, held) for kind, balance, held in rows}
    (balance, held), (debt, _) = found.get("open", (0, 0)), found.get("debt", (0, 0))
    return Exposure(held, -balance, -debt)
