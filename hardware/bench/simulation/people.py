"""People's acts on claims that may have ended in a lost part of the ledger, once the bank's day file is here."""

from __future__ import annotations

import asyncio
from functools import partial

from gateway.clearing.items import explain
from gateway.debit.states import LOST
from gateway.ledger import tables
from gateway.ledger.transaction import Transaction
from hardware.bench.simulation import calls, site
from hardware.bench.simulation.disk import BANK_ASKED_S
from hardware.bench.simulation.world import World


async def after_adoption(world: World) -> None:
    """Wait for the bank's file of the day on which the disk gave back an older ledger, and use it."""
    chance = site.series(world.seed, f"bank file {world.rolled_back}")
    await asyncio.sleep(chance.uniform(*BANK_ASKED_S))
    await find_out(world)


async def find_out(world: World) -> None:
    """Explain claims for which the bank has booked nothing under lost keys: they are as open as they look."""
    for number, debit_id in world.watch.lost_claims():
        if not world.watch.posted_in_lost_part(debit_id):
            await calls.order(world, "explain", partial(_not_charged, number, debit_id))


def _not_charged(number: int, debit_id: str, tx: Transaction) -> None:
    item = tx.find(tables.item, id=number)
    if item is not None and (item.kind, item.state, item.debit_id) == (LOST, "open", debit_id):
        explain(tx, number, "p1", "no line of the bank's files is it")
