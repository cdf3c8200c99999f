"""Erasure of personal data, while the books stay whole.

Personal data stands beside the books, never in them: `subject` (plate, card, tag), `purchase_file` (file 0019, which
holds a plate), `card_serial` (by card number), and the digest of a plate or card by which an obligor without a mandate
is found again (`obligor.subject_key`: a digest of so few possible plates hides nothing). Chained rows carry random ids
and commitments with a random salt only, and the salt goes with what it hides: after an erasure every chain proves what
it proved before, and no list of plates finds one in it. That something was erased, when and by whom, is itself a row of
the journal.

Only what is settled is erased: a passage whose money is closed, about which nobody still asks, and which happened long
enough ago that no lane needs the card's number any more to tell a vehicle that stands still from one that comes again.
Mandates and their credentials are contracts in force and end by the next import, not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    bindparam,
    case,
    delete,
    exists,
    null,
    select,
    update,
)

from gateway.ledger import tables
from gateway.ledger.pace import Pace
from gateway.ledger.transaction import Change, Transaction
from gateway.model.states import SETTLED_DEBITS, UNRESOLVED, ItemState, RefundState

PAGE: Final = 500
"""Number of passages looked for at a time."""

AGE_MIN_US: Final = 86_400 * 1_000_000
"""Least age of an erased passage, a day: the longest time for which a vehicle that paid keeps its right to pass at a
lane; until then its card's number keeps it from being charged again."""

WHY_KEPT: Final = ("too_young", "debit_open", "bank_in_doubt", "refund_open", "item_open", "undecided")
"""Reasons why a passage that was asked for is not erased, in the order in which they are looked for."""

_s, _g, _d, _p = tables.subject, tables.passage, tables.debit, tables.purchase


@dataclass(frozen=True, slots=True)
class Selection:
    """Selection of passages. Exactly one of the four; times are UTC microseconds."""

    before_us: int | None = None
    """Time before which the passages began."""
    passage_id: str | None = None
    plate: str | None = None
    card_number: str | None = None

    def __post_init__(self) -> None:
        given = (self.before_us, self.passage_id, self.plate, self.card_number)
        if sum(value is not None for value in given) != 1:
            raise ValueError(
                "name passages by their age, or one passage, or one plate, or one card: exactly one of these"
            )


@dataclass(slots=True)
class Erased:
    """Counts of an erasure, done or planned."""

    passages: int = 0
    purchase_files: int = 0
    card_serials: int = 0
    obligors: int = 0
    """Payers without a mandate whose plate or card can no longer be found out."""
    kept: Counter[str] = field(default_factory=Counter)
    """Passages that were asked for and stay, by reason (`WHY_KEPT`)."""

    def __add__(self, other: Erased) -> Erased:
        return Erased(
            self.passages + other.passages,
            self.purchase_files + other.purchase_files,
            self.card_serials + other.card_serials,
            self.obligors + other.obligors,
            self.kept + other.kept,
        )


def look(connection: Connection, selection: Selection, now_us: int) -> Erased:
    """Count what `erase` would do; reads only."""
    found = Erased()
    after = ""
    while True:
        rows = _page_of(connection, selection, after, now_us)
        for row in rows:
            if row.why is not None:
                found.kept[row.why] += 1
                continue
            found.passages += 1
            found.purchase_files += len(connection.execute(_FILES, {"passage": row.id}).all())
        if len(rows) < PAGE:
            return found
        after = rows[-1].id


def erase_all(
    reader: Engine,
    commit: Callable[[Change[Erased]], Erased],
    selection: Selection,
    actor: str,
    progress: Callable[[Erased], None],
    *,
    now_us: int,
    pace: Pace,
) -> Erased:
    """Erase some passages after the other; `commit` runs one change in a database transaction of its own.

    They are looked for outside of it: most of a ledger may be erased already, and is then only passed over.
    """
    total, after = Erased(), ""
    while True:
        with reader.connect() as connection:
            rows = _page_of(connection, selection, after, now_us)
        for some in pace.slices(row.id for row in rows):
            total += commit(partial(_erase_some, passage_ids=some, actor=actor))
            progress(total)
        if len(rows) < PAGE:
            return total
        after = rows[-1].id


def _erase_some(tx: Transaction, passage_ids: Sequence[str], actor: str) -> Erased:
    """Erase those of these that are settled, as they stand now."""
    done = Erased()
    for passage_id in passage_ids:
        for row in tx.rows(_PAGES["passage_id"], wanted=passage_id, after="", now=tx.now_us):
            if row.why is None:
                done += _erase(tx, row, actor)
            else:
                done.kept[row.why] += 1
    return done


def _page_of(connection: Connection, selection: Selection, after: str, now_us: int) -> Sequence[Row[Any]]:
    """Find the next passages after id `after` that were asked for and are not erased."""
    how = _how(selection)
    values = {"wanted": getattr(selection, how), "after": after, "now": now_us}
    return connection.execute(_PAGES[how], values).all()


def _erase(tx: Transaction, row: Any, actor: str) -> Erased:  # noqa: ANN401 - a row of `_PAGES`
    nothing = dict.fromkeys(("obu_id", "contract", "card_number", "plate", "plate_colour", "salt"))
    tx.update(_s, {"id": row.id}, **nothing, erased_at=tx.now_us)
    files = tx.execute(_DROP_FILES, passage=row.id)
    serials = 0 if row.card_number is None else tx.execute(_DROP_SERIAL, card=row.card_number)
    obligors = tx.execute(_FORGET_OBLIGOR, passage=row.id)
    tx.note("passage", row.id, "erased", actor=actor)
    return Erased(1, files, serials, obligors)


# --- statements -----------------------------------------------------------------------------------------------------


def _of_passage(table: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:  # noqa: ANN401 - any table with `debit_id`
    """Condition that a debit of the passage has such a row."""
    return exists(
        select(table.c.id).join(_d, _d.c.id == table.c.debit_id).where(_d.c.passage_id == _g.c.id, *conditions)
    )


_a, _r, _i = tables.attempt, tables.refund, tables.item
_WHY = case(
    (_g.c.opened_at > bindparam("now") - AGE_MIN_US, "too_young"),
    (exists(select(_d.c.id).where(_d.c.passage_id == _g.c.id, _d.c.state.not_in(SETTLED_DEBITS))), "debit_open"),
    (
        _of_passage(_a, _a.c.state.in_(UNRESOLVED) | (_a.c.late_approval == 1)),
        "bank_in_doubt",
    ),
    (_of_passage(_r, _r.c.state != RefundState.PAID), "refund_open"),
    (_of_passage(_i, _i.c.state == ItemState.OPEN), "item_open"),
    (~exists(select(tables.decision.c.record_no).where(tables.decision.c.passage_id == _g.c.id)), "undecided"),
    else_=None,
).label("why")


def _page(condition: ColumnElement[bool]) -> Select[Any]:
    return (
        select(_g.c.id, _s.c.card_number, _WHY)
        .join_from(_g, _s, _s.c.id == _g.c.id)
        .where(_s.c.erased_at.is_(None), _g.c.id > bindparam("after"), condition)
        .order_by(_g.c.id)
        .limit(PAGE)
    )


_PAGES: Final = {
    "before_us": _page(_g.c.opened_at < bindparam("wanted")),
    "passage_id": _page(_g.c.id == bindparam("wanted")),
    "plate": _page(_s.c.plate == bindparam("wanted")),
    "card_number": _page(_s.c.card_number == bindparam("wanted")),
}
_FILES = (
    select(tables.purchase_file.c.purchase_id)
    .join(_p, _p.c.id == tables.purchase_file.c.purchase_id)
    .join(_d, _d.c.id == _p.c.debit_id)
    .where(_d.c.passage_id == bindparam("passage"))
)
_DROP_FILES = delete(tables.purchase_file).where(
    tables.purchase_file.c.purchase_id.in_(
        select(_p.c.id).join(_d, _d.c.id == _p.c.debit_id).where(_d.c.passage_id == bindparam("passage"))
    )
)
_DROP_SERIAL = delete(tables.card_serial).where(
    tables.card_serial.c.card_number == bindparam("card"),
    ~exists(select(_s.c.id).where(_s.c.card_number == tables.card_serial.c.card_number)),
)
"""Deletes the last serial of a card with the last passage that names it."""

_other_debit, _other_passage, _other_subject = (
    _d.alias("other_debit"),
    _g.alias("other_passage"),
    _s.alias("other_subject"),
)
_FORGET_OBLIGOR = (
    update(tables.obligor)
    .where(
        tables.obligor.c.subject_key.is_not(None),
        tables.obligor.c.listed_at.is_(None),
        tables.obligor.c.id.in_(select(_d.c.obligor_id).where(_d.c.passage_id == bindparam("passage"))),
        ~exists(
            select(_other_debit.c.id)
            .join(_other_passage, _other_passage.c.id == _other_debit.c.passage_id)
            .join(_other_subject, _other_subject.c.id == _other_passage.c.id)
            .where(_other_debit.c.obligor_id == tables.obligor.c.id, _other_subject.c.erased_at.is_(None))
        ),
    )
    .values(subject_key=null(), salt=null())
)
"""Makes an obligor known by plate or card unknown with the last of its passages; the next one opens a new obligor."""


def _how(selection: Selection) -> str:
    return next(name for name in _PAGES if getattr(selection, name) is not None)
