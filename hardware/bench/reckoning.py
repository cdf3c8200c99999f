"""Proves a run against the world outside the gateway: bank's book, purses of the cards, prices made by hand, the wire.

Every line compares two numbers from sources that share no code. A run is good when all lines agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hardware.bench.ledger_view import DebitRow, DecisionRow, LedgerView
from hardware.bench.scenario import LATE, Vehicle

RELEASED = ("released", "owed", "funded", "debt")


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison; amounts in fen unless the name says otherwise."""

    name: str
    ours: int
    outside: int
    outside_source: str
    note: str = ""

    @property
    def agrees(self) -> bool:
        return self.ours == self.outside


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one vehicle, against what was expected."""

    vehicle: Vehicle
    decisions: tuple[DecisionRow, ...]
    problems: tuple[str, ...]

    @property
    def right(self) -> bool:
        return not self.problems


def judge(
    vehicle: Vehicle, decisions: Sequence[DecisionRow], debits: Sequence[DebitRow], *, final: bool = True
) -> Result:
    """Compare decisions, fare and, at the end of a run, the final state of one vehicle with the scenario."""
    expected = vehicle.expected
    problems = []
    seen = tuple((d.outcome, d.release, d.reason) for d in decisions)
    if expected.through_doubt:
        seen = tuple(decision for decision in seen if decision[0] != "unknown")
    if seen != expected.decisions:
        problems.append(f"decisions {seen}, expected {expected.decisions}")
    if any(d.charge_point not in (vehicle.lane, vehicle.enters_at) for d in decisions):
        problems.append("decided at another lane")
    if not expected.charged and debits:
        problems.append(f"charged although it must not be: {debits[0].amount} fen, {debits[0].state}")
    if expected.charged:
        if len(debits) != 1:
            problems.append(f"{len(debits)} debits, expected one")
        elif debits[0].amount != vehicle.fare_fen or (final and debits[0].state != expected.ends):
            problems.append(
                f"debit of {debits[0].amount} fen {debits[0].state}, expected {vehicle.fare_fen} {expected.ends}"
            )
    return Result(vehicle, tuple(decisions), tuple(problems))


def fares_of(vehicles: Sequence[Vehicle]) -> dict[str | None, int]:
    """Fares priced by hand, by tag."""
    return {vehicle.obu_id: vehicle.fare_fen if vehicle.expected.charged else 0 for vehicle in vehicles}


def accounts(
    view: LedgerView,
    fares: Mapping[str | None, int],
    bank_book: Mapping[str, Any],
    cards: Sequence[Mapping[str, Any]],
) -> list[Line]:
    """Compare every account with its outside. `fares`: priced by hand, by tag; None: what was paid without one."""
    balances = view.balances()
    debits = view.debits()
    priced = sum(fares.get(d.obu_id, 0) for d in debits if d.state in RELEASED)
    purses = sum(c["balance_start"] - c["balance"] for c in cards if c["type"] == 22)
    listed = sum(d.amount for d in debits if d.state in ("released", "owed"))
    declined = sum(fares.get(d.obu_id, 0) for d in debits if d.state == "debt")
    return [
        Line("merchant", _sum(balances, "merchant"), priced, "fares priced by hand"),
        Line("issuer", -_sum(balances, "issuer"), purses, "decrements of the emulated purses"),
        Line(
            "bank",
            -_sum(balances, "bank") - _sum(balances, "suspense"),
            int(bank_book["totals"]["net_fen"]) - _sum(balances, "suspense"),
            "the bank's own book",
            "late approvals in suspense count on both sides",
        ),
        Line("suspense", _sum(balances, "suspense"), 0, "nothing may be left"),
        Line("open", -_sum(balances, "open"), listed, "listed open debits"),
        Line("debt", -_sum(balances, "debt"), declined, "fares that bank or card did not pay"),
        Line("till", -_sum(balances, "till"), fares.get(None, 0), "priced by hand, paid in cash"),
        Line("all accounts", sum(balances.values()), 0, "zero by construction"),
    ]


def on_the_cards(vehicles: Sequence[Vehicle], cards: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Check that each card was debited once for its fare, or not at all; a purchase of zero may write an entry."""
    debited = {str(c["card_number"]): [int(a) for a in c["decrements"] if a] for c in cards}
    wrong = sum(
        debited.get(v.card_number, []) != ([v.fare_fen] if v.expected.charged else [])
        for v in vehicles
        if v.card_type is not None
    )
    return [Line("cards debited wrongly (count)", wrong, 0, "transaction logs of the emulated cards")]


def lifts(view: LedgerView, lifted: Mapping[str, Sequence[int | None]]) -> list[Line]:
    """Check that each lift of a barrier has a decision of its own to open that lane, and no decision two."""
    decided = {d.record_no: d.charge_point for d in view.decisions() if d.release == "go"}
    alone = sum(record is None or decided.get(record) != lane for lane, records in lifted.items() for record in records)
    records = [record for records in lifted.values() for record in records if record is not None]
    source = "edges at the emulated relay board"
    return [
        Line("lifts without a decision (count)", alone, 0, source),
        Line("decisions that lifted twice (count)", len(records) - len(set(records)), 0, source),
    ]


def late_approvals(view: LedgerView, vehicles: Sequence[Vehicle]) -> Line:
    """Every approval that came after its reversal went to suspense and back, and nothing else did."""
    moved = view.value("select count(*) from transfer where event = 'late_approval_reversed'")
    expected = sum(v.bank is not None and v.bank.get("mode") == LATE for v in vehicles)
    return Line("late approvals taken back (count)", int(str(moved)), expected, "scenario")


def _sum(balances: Mapping[tuple[str, str], int], kind: str) -> int:
    return sum(balance for (of, _), balance in balances.items() if of == kind)
