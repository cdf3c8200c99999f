"""What a run of full size must have hit: every fault the simulation can make, every transition the design allows."""

from __future__ import annotations

from hardware.bench.simulation.bank import CHANCES
from hardware.bench.simulation.traffic import AIR_FAULTS
from hardware.bench.simulation.wires import CONNECT_FAULTS, MESSAGE_FAULTS
from hardware.bench.simulation.world import CRASH_PLACES, TROUBLES

LEAST = 100
"""Hits of each in a run of full size."""
FULL_PASSAGES, FULL_DEBITS = 100_000, 1_000_000

FAULTS = (
    *(f"{line}.{fault}" for line in ("bank", "antenna") for fault in (*MESSAGE_FAULTS, *CONNECT_FAULTS)),
    *(f"bank.{fault}" if mti == "020" else f"bank.{fault}_{mti[:2]}" for mti, c in CHANCES.items() for fault in c),
    *(f"crash.{place.replace(' ', '_')}" for place in CRASH_PLACES),
    *(f"storage.{trouble.name.lower()}" for trouble, _ in TROUBLES),
    *(f"air.{kind.value}" for kind in AIR_FAULTS),
    "antenna.restart",
    "bank.cut_over",
    "bank.restart",
    "board.not_confirmed",
    "clock.step_back",
    "clock.step_forward",
    "road.leaves_early",
    "road.written_elsewhere",
)

TRANSITIONS = (
    "debit:new->held",
    "debit:held->released",
    "debit:held->funded",
    "debit:held->owed",
    "debit:held->debt",
    "debit:held->voided",
    "debit:owed->funded",
    "debit:owed->debt",
    "debit:debt->recovered",
    "attempt.sale:new->stored",
    "attempt.sale:stored->approved",
    "attempt.sale:stored->declined",
    "attempt.sale:stored->not_sent",
    "attempt.sale:stored->unknown",
    "attempt.sale:unknown->approved",
    "attempt.sale:unknown->declined",
    "attempt.sale:unknown->reversing",
    "attempt.sale:reversing->reversed",
    "attempt.recovery:new->stored",
    "attempt.recovery:stored->approved",
    "attempt.recovery:stored->declined",
    "attempt.recovery:stored->unknown",
    "attempt.recovery:unknown->reversing",
    "attempt.recovery:reversing->reversed",
    "attempt.advice:new->stored",
    "attempt.advice:stored->approved",
    "attempt.advice:stored->declined",
    "purchase:new->intent",
    "purchase:intent->taken",
    "purchase:intent->not_taken",
    "purchase:intent->unknown",
    "purchase:unknown->taken",
    "purchase:unknown->not_taken",
    "purchase:unknown->disputed",
    "outbox:reversal:queued",
    "outbox:reversal:done",
    "outbox:advice:queued",
    "outbox:advice:done",
    "transfer:late_approval",
    "transfer:late_approval_reversed",
    "item:charged_without_tac",
    "item:disputed_purchase",
)
