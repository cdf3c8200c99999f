"""The history of a debit: every event in the order of booking."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from gateway.ledger import tables
from gateway.model.states import PurchaseState
from gateway.views.accounts import transfers_of
from gateway.views.rows import view_of


@dataclass(frozen=True, slots=True)
class Event:
    """Event of a debit or of one of its parts. `what`: purchase, transfer, decision, or the kind of the
    journal's row; `number`: its own in its series; `event`: the state entered, or the act; `event_us`: when it
    happened, where that is not `booked_us`; `detail`: codes, accounts, what a person said."""

    what: str
    number: int
    ref: str | None
    event: str
    booked_us: int
    amount_fen: int | None = None
    event_us: int | None = None
    detail: str | None = None
    actor: str | None = None


def history_of(connection: Connection, debit_id: str) -> tuple[Event, ...]:
    """History of a debit: purchases, transfers, journal and decisions, in the order of their booking.

    What was booked in one transaction has one time: money first, then what the journal says of it, then the decision.
    """
    kinds = (_purchases, _transfers, _journal, _decisions)
    found = [(event.booked_us, rank, event) for rank, of in enumerate(kinds) for event in of(connection, debit_id)]
    return tuple(event for *_, event in sorted(found, key=lambda one: (one[0], one[1], one[2].number)))


def _purchases(connection: Connection, debit_id: str) -> list[Event]:
    p, events = tables.purchase, []
    for row in connection.execute(select(p).where(p.c.debit_id == debit_id)):
        intent = Event("purchase", row.attempt_no, row.id, PurchaseState.INTENT.value, row.created_at, row.written_fen)
        events.append(intent)
        if row.state != PurchaseState.INTENT:
            tac = None if row.tac is None else f"TAC {row.tac}"
            events.append(replace(intent, event=row.state, booked_us=row.changed_at, detail=tac))
    return events


def _transfers(connection: Connection, debit_id: str) -> list[Event]:
    return [
        Event(
            "transfer",
            transfer.transfer_id,
            transfer.attempt_id or transfer.reference,
            transfer.event,
            transfer.booked_us,
            transfer.amount_fen,
            transfer.event_us,
            f"{transfer.phase}: {transfer.source.short} -> {transfer.target.short}",
        )
        for transfer in transfers_of(connection, debit_id)
    ]


def _journal(connection: Connection, debit_id: str) -> list[Event]:
    j = tables.journal
    rows = connection.execute(select(j).where(j.c.debit_id == debit_id))
    return [
        view_of(
            Event, row, what=row.kind, ref=row.ref or row.debit_id, booked_us=row.at, amount_fen=None, event_us=None
        )
        for row in rows
    ]


def _decisions(connection: Connection, debit_id: str) -> list[Event]:
    e, d = tables.decision, tables.debit
    # By the passage, which has an index; the debit's own decisions are among them.
    passage = select(d.c.passage_id).where(d.c.id == debit_id).scalar_subquery()
    rows = connection.execute(select(e).where(e.c.passage_id == passage, e.c.debit_id == debit_id))
    return [
        Event(
            "decision",
            row.record_no,
            row.passage_id,
            row.outcome,
            row.decided_at,
            row.amount,
            detail=", ".join(
                part
                for part in (f"release {row.release}", row.reason, row.rules_version and f"rules {row.rules_version}")
                if part
            ),
        )
        for row in rows
    ]
