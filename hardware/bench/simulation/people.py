"""What people do when the bank's day file is here: they say what became of each attempt and claim in dispute."""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.clearing.items import explain
from gateway.debit.late import LateEffect, resolve_attempt
from gateway.debit.states import LOST
from gateway.ledger import tables
from gateway.ledger.transaction import Transaction
from hardware.bench.simulation import calls, site
from hardware.bench.simulation.disk import BANK_ASKED_S
from hardware.bench.simulation.invariants import Attempt
from hardware.bench.simulation.world import World


async def after_adoption(world: World) -> None:
    """The bank's file of the day on which the disk gave back an older ledger."""
    chance = site.series(world.seed, f"bank file {world.rolled_back}")
    await asyncio.sleep(chance.uniform(*BANK_ASKED_S))
    await find_out(world)


async def find_out(world: World) -> None:
    """Ask the bank about everything in dispute, and go through the claims that may have ended in a lost part."""
    for attempt in [a for a in world.watch.attempts.values() if a.state == "disputed"]:
        await _ask_bank(world, attempt)
    for number, debit_id in world.watch.lost_claims():
        if not world.watch.posted_in_lost_part(debit_id):
            await calls.order(world, "explain", partial(_not_charged, number, debit_id))


async def _ask_bank(world: World, attempt: Attempt) -> None:
    rules = world.template.rules

    def change(tx: Transaction) -> LateEffect | None:
        if tx.find(tables.attempt, id=attempt.id) is None:
            return None  # lost with what was newest
        posted = world.watch.booked(attempt)
        return resolve_attempt(tx, attempt.id, posted=posted, source="day file", actor="p1", rules=rules)

    effect = await calls.order(world, "resolve", change)
    if effect is not None:
        world.watch.outcomes[f"dispute.{effect.name.lower()}"] += 1


def _not_charged(number: int, debit_id: str, tx: Transaction) -> None:
    item = tx.find(tables.item, id=number)
    if item is not None and (item.kind, item.state, item.debit_id) == (LOST, "open", debit_id):
        explain(tx, number, "p1", "no line of the bank's files is it")
