"""Six holds of 1000 on a limit of 5000, among faults: the sixth is refused, in whatever order they come and commit."""

import asyncio
from dataclasses import replace

import pytest

from gateway.debit.claims import DecisionContext, HoldPlaced, HoldRefused, Payer
from gateway.ledger.batches import StorageUnavailable
from gateway.model.passage import Funding, Service
from hardware.bench.simulation import site
from hardware.bench.simulation.bugs import plant
from hardware.bench.simulation.loop import VirtualLoop
from hardware.bench.simulation.storage import folder
from hardware.bench.simulation.workloads import Card, EngineWorkload, Gone, in_life
from hardware.bench.simulation.world import World, play

pytestmark = pytest.mark.slow

HOLDS, AMOUNT = 6, 1000
ROUNDS = 40


class SixHolds(EngineWorkload):
    """Rounds of six callers with one payer; each goes on until it has an answer, then all that is held is freed."""

    def __init__(self):
        super().__init__(0)
        self.answers = []

    async def __call__(self, world):
        tight = [a for a in site.accounts() if a.limits.limit == 5 * AMOUNT]
        chance = site.series(world.seed, "six holds")
        for number in range(ROUNDS):
            account = tight[number % len(tight)]
            found = await asyncio.gather(*(self._one(world, chance, account, n) for n in range(HOLDS)))
            placed = {f.debit_id for f in found if isinstance(f, HoldPlaced)}
            refused = [f.reason for f in found if isinstance(f, HoldRefused)]
            self.answers.append((len(placed), refused))
            for debit_id in placed:
                await self._free(world, debit_id)
        world.calm_down()
        await world.serving.wait()
        return ROUNDS * HOLDS

    async def _one(self, world, chance, account, index):
        about = self._request(world, chance, index, Card("0"))
        # A car park's: what a toll lane has not asked a card for is freed at the next start.
        sight = replace(about.sight, service=Service.PARKING, day="20261123")
        payer = Payer(Funding.BANK_ONLINE, site.BANK, account.mandate_id, account.contract_ref, account.limits.limit)
        request = replace(about, sight=sight, payer=payer, amount_fen=AMOUNT, plan=None)
        await asyncio.sleep(chance.choice([0.0, 0.0, chance.uniform(0, 0.01), chance.uniform(0, 0.5)]))
        return await self._insist(world, lambda life: life.engine.hold(request, timeout_s=600))

    async def _free(self, world, debit_id):
        context = DecisionContext(site.caller_name(0))
        freed = await self._insist(world, lambda life: life.engine.release(debit_id, context))
        assert not isinstance(freed, HoldRefused), freed

    async def _insist(self, world, call):
        """Until it is answered: by this gateway or by the one that comes after a crash."""
        while True:
            life = await world.served()
            try:
                return await in_life(life, call(life))
            except (Gone, StorageUnavailable):
                await asyncio.sleep(0.1)


def played(seed, bug=None):
    holds = SixHolds()

    async def whole(path):
        return await play(World(seed, path, callers=HOLDS), holds, "engine")

    with folder() as path, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        if bug is None:
            return holds, runner.run(whole(path))
        with plant(bug):
            return holds, runner.run(whole(path))


@pytest.mark.parametrize("seed", range(1, 9))
def test_the_sixth_hold_is_refused_in_every_order(seed):
    holds, outcome = played(seed)
    assert outcome.problem is None, outcome.last_lines[-20:]
    assert holds.answers == [(5, ["limit_exceeded"])] * ROUNDS


def test_a_hold_that_does_not_count_is_seen_here():
    holds, outcome = played(1, "hold_not_counted")
    assert outcome.problem is not None or holds.answers != [(5, ["limit_exceeded"])] * ROUNDS
