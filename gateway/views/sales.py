"""Sales of fuel: one line each, what a receipt needs, and their sum against what the pumps' totalisers grew by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from gateway.ledger import tables
from gateway.model.states import OPEN_SALES, SaleState
from gateway.views.identity import IDENTITY, Identity, identity_of
from gateway.views.rows import view_of

_s, _d, _p, _u = tables.sale, tables.debit, tables.passage, tables.subject


@dataclass(frozen=True, slots=True)
class Sale:
    """A sale. `volume_before_ml` and `volume_after_ml`: totaliser of its nozzle; `unit_price_milli`: thousandths of a
    yuan a litre; `record_no`: of the decision that stands."""

    sale_id: str
    lane: str
    side: int
    nozzle: int
    grade: str | None
    state: SaleState
    volume_ml: int | None
    amount_fen: int | None
    unit_price_milli: int | None
    limit_fen: int | None
    volume_before_ml: int | None
    volume_after_ml: int | None
    proof: str | None
    reason: str | None
    debit_id: str | None
    debit_state: str | None
    funding: str | None
    payer: str | None
    merchant: str | None
    record_no: int | None
    who: Identity
    created_us: int
    changed_us: int


def sales(connection: Connection, last: int, *, only_open: bool, unmask: bool) -> tuple[Sale, ...]:
    """The newest sales, newest first; `only_open`: those that are not at their end."""
    chosen = [tables.one_of(_s.c.state, *OPEN_SALES)] if only_open else []
    return _sales(connection, chosen, last, unmask=unmask)


def sale(connection: Connection, which: str, *, unmask: bool) -> Sale | None:
    """One sale, by its id or its debit's."""
    found = _sales(connection, [_s.c.id == which], 1, unmask=unmask)
    found = found or _sales(connection, [_s.c.debit_id == which], 1, unmask=unmask)
    return found[0] if found else None


def sales_at(
    connection: Connection, lane: str, side: int, nozzles: Iterable[int], last: int, *, unmask: bool
) -> tuple[Sale, ...]:
    """The newest sales of one side, and those that are not at their end, newest first."""
    here = [_s.c.charge_point == lane, _s.c.side == side]
    found = {
        one.sale_id: one
        for one in _sales(connection, [*here, tables.one_of(_s.c.state, *OPEN_SALES)], last, unmask=unmask)
    }
    for nozzle in nozzles:  # each in the order of its index: a side alone has none
        newest = _sales(connection, [*here, _s.c.nozzle == nozzle], last, unmask=unmask)
        found |= {one.sale_id: one for one in newest}
    ordered = sorted(found.values(), key=lambda one: (one.created_us, one.sale_id), reverse=True)
    return tuple(one for place, one in enumerate(ordered) if place < last or one.state in OPEN_SALES)


def _sales(
    connection: Connection, chosen: Sequence[ColumnElement[bool]], last: int, *, unmask: bool
) -> tuple[Sale, ...]:
    newest = select(func.max(tables.decision.c.record_no)).where(tables.decision.c.passage_id == _d.c.passage_id)
    rows = connection.execute(
        select(_s, _d.c.state.label("debit_state"), _d.c.funding, _d.c.payer, _d.c.merchant, *IDENTITY)
        .add_columns(newest.scalar_subquery().label("record_no"))
        .join_from(_s, _d, _d.c.id == _s.c.debit_id, isouter=True)
        .outerjoin(_u, _u.c.id == _d.c.passage_id)
        .where(*chosen)
        .order_by(_s.c.created_at.desc(), _s.c.id.desc())
        .limit(last)
    )
    return tuple(
        view_of(
            Sale,
            row,
            sale_id=row.id,
            volume_ml=row.volume,
            unit_price_milli=row.unit_price,
            volume_before_ml=row.volume_before,
            volume_after_ml=row.volume_after,
            who=identity_of(row, unmask=unmask),
        )
        for row in rows
    )


@dataclass(frozen=True, slots=True)
class NozzleSum:
    """Sum of a nozzle's sales against its totaliser. `unexplained_ml`: what it grew by and no sale says; None where a
    totaliser is not known. A sale that is not at its end leaves its litres unexplained."""

    lane: str
    side: int
    nozzle: int
    sales: int
    open: int
    volume_ml: int
    amount_fen: int
    first_ml: int | None
    last_ml: int | None

    @property
    def unexplained_ml(self) -> int | None:
        """Litres that no sale explains."""
        if self.first_ml is None or self.last_ml is None:
            return None
        return self.last_ml - self.first_ml - self.volume_ml


def reconcile(connection: Connection, since_us: int | None) -> tuple[NozzleSum, ...]:
    """Compare every nozzle's sales with its totaliser, from a moment on or from the first sale on."""
    chosen = [] if since_us is None else [_s.c.created_at >= since_us]
    sums: dict[tuple[str, int, int], list[Sale]] = {}
    for one in reversed(_sales(connection, chosen, SALES_MAX, unmask=False)):
        sums.setdefault((one.lane, one.side, one.nozzle), []).append(one)
    return tuple(_sum(place, sums[place]) for place in sorted(sums))


SALES_MAX = 1_000_000
"""Sales that one comparison reads at most: years of a nozzle."""


def _sum(place: tuple[str, int, int], found: list[Sale]) -> NozzleSum:
    first, after = found[0], [one.volume_after_ml for one in found if one.volume_after_ml is not None]
    begins = first.volume_before_ml
    if begins is None and first.volume_after_ml is not None:
        begins = first.volume_after_ml - (first.volume_ml or 0)
    return NozzleSum(
        *place,
        sales=len(found),
        open=sum(one.state in OPEN_SALES for one in found),
        volume_ml=sum(one.volume_ml or 0 for one in found),
        amount_fen=sum(one.amount_fen or 0 for one in found),
        first_ml=begins,
        last_ml=after[-1] if after else None,
    )
