"""Declared hits of a run of full size: every fault the simulation can make, every transition the design allows."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model.states import MOVES
from hardware.bench.simulation.bank import CHANCES
from hardware.bench.simulation.boards import HARMS, LIFT_ENDS
from hardware.bench.simulation.disk import GONE, OLDER
from hardware.bench.simulation.drivers import DIES_HOW
from hardware.bench.simulation.forgeries import FORGERIES
from hardware.bench.simulation.pumps import HARM as PUMP_HARM
from hardware.bench.simulation.storage import Loss
from hardware.bench.simulation.tampering import FAULTS as TAMPERED
from hardware.bench.simulation.traffic import AIR_FAULTS
from hardware.bench.simulation.wires import CONNECT_FAULTS, MESSAGE_FAULTS
from hardware.bench.simulation.world import CRASH_PLACES, CRASH_WHILE_LOST, TROUBLES

LEAST = 100
"""Least hits of each in a run of full size."""
FULL: Mapping[str, int] = {"lanes": 20_000, "engine": 200_000, "fuel": 20_000}
"""Passages, debits and fillings of a run of full size, by workload."""

FAULTS = (
    *(f"{line}.{fault}" for line in ("bank", "antenna") for fault in (*MESSAGE_FAULTS, *CONNECT_FAULTS)),
    *(f"pumps.{fault}" for fault in PUMP_HARM),
    *(f"pump.{what}" for what in ("alone", "cable", "jump", "power", "power_at_work", "wrong_amount")),
    *(f"bank.{fault}" if mti == "020" else f"bank.{fault}_{mti[:2]}" for mti, c in CHANCES.items() for fault in c),
    *(f"crash.{place.replace(' ', '_')}" for place in (*CRASH_PLACES, CRASH_WHILE_LOST, DIES_HOW)),
    *(f"storage.{trouble.name.lower()}" for trouble, _ in TROUBLES),
    *(f"storage.{loss.name.lower()}" for loss in Loss),
    *(f"air.{kind.value}" for kind in AIR_FAULTS),
    *(f"forged.{kind}" for kind in (*FORGERIES, "reading", "proof")),
    *(f"storage.{fault}" for fault in TAMPERED),
    "antenna.restart",
    "bank.cut_over",
    "bank.restart",
    *(f"board.{harm}" for harm in (*HARMS, "executed_late", "queue_lost")),
    "clock.step_back",
    "clock.step_forward",
    *(f"disk.{what}" for what in (OLDER, GONE)),
    "road.leaves_early",
    "road.stands_still",
    "road.stranger",
    "road.two_vehicles",
    "road.written_elsewhere",
)

NOT_DECLARED: Mapping[str, str] = {
    "attempt:disputed->reversing": "a ledger comes back from the seconds in which a late approval stood in suspense,"
    " and the bank says that it still has the money: once in some ten thousand debits",
    "attempt:disputed->reversed": "the same, and the lost part had taken the money back: not much more often",
    "attempt:not_sent->reversing": "no bank here approves what never reached it; its day file would say so",
    "attempt:unknown->stored": "the rules here give no message up, so that nobody has one told again",
    "debit:released->debt": "only the clearing of a day does it, and no run clears one",
    "debit:released->funded": "the same",
    "debit:recovered->debt": "of the few recoveries that are approved and then refused, fewer have not been booked",
}
"""Transitions the watcher allows and runs bring about too seldom to be counted on, or never, and why."""


def _moves(noun: str) -> tuple[str, ...]:
    """Moves of its table that runs of full size bring about."""
    moves = (f"{noun}:{old or 'new'}->{new}" for old, states in MOVES[noun].items() for new in sorted(states - {old}))
    return tuple(move for move in moves if move not in NOT_DECLARED)


TRANSITIONS = (
    *_moves("debit"),
    *(
        f"attempt.{kind}:{change}"
        for kind in ("sale", "recovery")
        for change in (
            "new->stored",
            "stored->approved",
            "stored->declined",
            "stored->not_sent",
            "stored->unknown",
            "unknown->approved",
            "unknown->declined",
            "unknown->reversing",
            "reversing->reversed",
            "reversed->reversing",
            "declined->reversing",
            "stored->disputed",
            "reversing->disputed",
            "disputed->approved",
            "disputed->declined",
        )
    ),
    "attempt.sale:unknown->disputed",
    "attempt.sale:approved->declined",
    *(
        f"attempt.{kind}:{change}"
        for kind in ("advice", "refund")
        for change in (
            "new->stored",
            "stored->approved",
            "stored->declined",
            "stored->disputed",
            "declined->disputed",
            "disputed->approved",
            "disputed->declined",
            "approved->declined",
        )
    ),
    *_moves("purchase"),
    *_moves("sale"),
    "pump:authorised",
    *(f"delivery:{end}" for end in ("alone", "limit", "power", "returned")),
    *(f"outbox:{kind}:{end}" for kind in ("reversal", "advice", "recovery", "refund") for end in ("queued", "done")),
    *(
        f"transfer:{event}"
        for event in (
            "approval_withdrawn",
            "bank_approved",
            "correction",
            "debt_paid_at_till",
            "declined",
            "expired",
            "hold",
            "late_approval",
            "late_approval_reversed",
            "overrun",
            "purse_paid",
            "refund_decided",
            "refund_paid",
            "refused",
            "released",
            "released_unused",
            "written_off",
        )
    ),
    *LIFT_ENDS,
    "ledger:lost->put_back",
    "ledger:lost->put_back_after_crash",
    "ledger:lost->rescued",
    "ledger:stored->in_nothing",
    "item:answer_contradicted",
    "item:answer_differs",
    "item:attempt_disputed",
    "item:charged_without_tac",
    "item:disputed_purchase",
    "item:fuel_unexplained",
    "item:outcome_lost",
    "item:refund_declined",
    "item:sale_grey",
    "item:write_off_proposed",
)
