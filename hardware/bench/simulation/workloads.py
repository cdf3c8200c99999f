"""Workloads of a simulated site: debits at the engine's API, or vehicles through its lanes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gateway.debit.claims import (
    Decision,
    DecisionContext,
    HoldPlaced,
    HoldRefused,
    HoldRequest,
    Identity,
    Payer,
    PurchasePlan,
    PurchaseResult,
    Sight,
)
from gateway.debit.engine import ProvenClaim, StorageLate
from gateway.ledger.batches import StorageUnavailable
from gateway.model.clock import to_us
from gateway.model.ids import digest_of
from gateway.model.passage import Abandoned, Funding, Occasion, PurchaseOutcome, Service
from hardware.bench.simulation import calls, forgeries, people, site
from hardware.bench.simulation.calls import Gone, in_life
from hardware.bench.simulation.disk import BANK_ASKED_S
from hardware.bench.simulation.invariants import Debit
from hardware.bench.simulation.world import World
from hardware.emulators.road import Forgery

CHARGES, PUMPS = 0.35, 0.15
"""Shares of debits claimed at once without a card, and reserved for a pump; the rest is as in a lane."""
CARD_SHARE, PURSE_SHARE, ISSUER_SHARE = 0.8, 0.6, 0.1
FORGED = 0.05
"""Chance that a purchase is reported otherwise than it was."""
DISPUTE_TAKEN_UP = 0.7
"""Chance that somebody settles a disputed purchase at once; the others wait for the end of the run."""
BALANCE = 1_000_000
"""Balance of every card here, fen: nothing is taken from it."""
DEBT_TAKEN_UP = 0.08
"""Chance, after each debit, that somebody sees to a debt."""
DEADLINE_S = 2.0
AMOUNTS = (1, 4_000)
USUAL, OFTEN = 1500, 0.5
"""An amount that comes again and again, as fares do: by its amount alone nobody tells one debit from another."""
THINK_S = (0.0, 0.2)
"""Time between two debits of one caller."""
BUSY_S, QUIET_S = 20.0, 30.0
"""Time of traffic and of quiet: debts are tried again only while no vehicle waits for the bank."""


@dataclass(slots=True)
class Card:
    """A card of the engine's workload: it pays or not, and remembers when."""

    number: str
    second: int = 0
    serial: int = 0


class EngineWorkload:
    """Workload of callers that place holds, ask emulated cards, bring the money in, and do it again after a crash."""

    def __init__(self, debits: int) -> None:
        self._wanted = debits
        self._begun = 0
        self._accounts = site.accounts()
        self._psam_serials: Counter[int] = Counter()
        """Last serial of each caller's PSAM."""
        self._keys: dict[str, str] = {}
        """Debits by idempotency key."""

    async def __call__(self, world: World) -> int:
        """Runs until all debits are begun, then until all is settled; returns how many there were."""
        world.on_adoption = lambda: world.crew.start(people.after_adoption(world))
        world.crew.start(calls.ask_the_bank(world))
        callers = [world.crew.start(self._caller(world, index)) for index in range(world.callers)]
        await asyncio.gather(*callers)
        world.calm_down()
        await world.mended()
        await self._finish_held(world)
        await asyncio.sleep(BANK_ASKED_S[1])
        await people.find_out(world)
        return self._begun

    async def _caller(self, world: World, index: int) -> None:
        chance = site.series(world.seed, f"caller {index}")
        cards = [Card(f"9902{index:06d}{number:010d}") for number in range(4)]
        while self._begun < self._wanted:
            self._begun += 1
            await asyncio.sleep(chance.uniform(*THINK_S))
            now_s = world.loop.time() % (BUSY_S + QUIET_S)
            if now_s > BUSY_S:
                await asyncio.sleep(BUSY_S + QUIET_S - now_s)
            await self._debit(world, chance, index, chance.choice(cards))

    async def _debit(self, world: World, chance: random.Random, index: int, card: Card) -> None:
        roll = chance.random()
        if roll < CHARGES:
            request = self._request(world, chance, index, None, chance.choice((Service.TOLL, Service.PARKING)))
            debit_id = await calls.charge(world, chance, index, request)
        elif roll < CHARGES + PUMPS:
            request = self._request(world, chance, index, None, Service.FUEL)
            placed = await self._reserve(world, chance, request)
            if placed is None:
                return
            debit_id = placed.debit_id
            await calls.pump(world, chance, index, request, placed)
        else:
            debit_id = await self._passage(world, chance, index, card)
        if debit_id is not None:
            await calls.afterwards(world, chance, debit_id)
        if chance.random() < DEBT_TAKEN_UP:
            await calls.take_up_debt(world, chance)

    async def _passage(self, world: World, chance: random.Random, index: int, card: Card) -> str | None:
        """Do as a lane does it: hold, ask the card, bring in."""
        request = self._request(world, chance, index, card, Service.TOLL)
        placed = await self._reserve(world, chance, request)
        if placed is None:
            return None
        result = await self._ask_card(world, chance, index, request, card)
        if chance.random() < 0.01:
            return None  # the caller forgets about it: start-up or the calm at the end must find it
        claim = ProvenClaim(
            debit_id=placed.debit_id,
            payer=request.payer,
            context=DecisionContext(site.caller_name(index)),
            decline_policy=site.decline_policy(index),
            purchase_id=placed.purchase_id,
            result=result,
            card_number=request.sight.identity.card_number,
        )
        await self._bring_in(world, chance, claim)
        debit = world.watch.debits.get(placed.debit_id)  # None: it was lost with what was newest
        disputed = [] if debit is None else debit.purchases[-1:]
        if disputed and disputed[0].state == "disputed" and chance.random() < DISPUTE_TAKEN_UP:
            await calls.settle_dispute(world, placed.debit_id)
        return placed.debit_id

    async def _reserve(self, world: World, chance: random.Random, request: HoldRequest) -> HoldPlaced | None:
        placed: HoldPlaced | HoldRefused | None = None
        tries = 0
        while placed is None and tries < 6:
            tries += 1
            placed = await self._hold(world, chance, request)
        if isinstance(placed, HoldRefused):
            world.watch.outcomes[f"hold_refused.{placed.reason}"] += 1
            card = request.sight.identity.card_number
            if placed.reason == "purchase_open" and card is not None:
                await self._show_again(world, card)
        if not isinstance(placed, HoldPlaced):
            return None
        known = self._keys.setdefault(request.idempotency_key, placed.debit_id)
        world.watch.promise(known == placed.debit_id, f"key {request.idempotency_key[:12]} gave two debits")
        return placed

    def _request(
        self, world: World, chance: random.Random, index: int, card: Card | None, service: Service = Service.TOLL
    ) -> HoldRequest:
        account = chance.choice(self._accounts)
        amount = USUAL if chance.random() < OFTEN else chance.randint(*AMOUNTS)
        by_card = card is not None and chance.random() < CARD_SHARE
        plan = self._plan(world, card, amount) if card is not None and by_card else None
        payer = _bank_payer(account)
        if plan is not None and chance.random() < PURSE_SHARE:
            payer = Payer(Funding.PURSE, site.ISSUER)
        elif card is None and service is not Service.FUEL and chance.random() < ISSUER_SHARE:
            payer = Payer(Funding.ISSUER_CLEARING, site.ISSUER)
        now = world.clock.utcnow()
        passage = f"{chance.getrandbits(128):032x}"
        identity = Identity(
            obu_id=chance.randbytes(4),
            contract=None,
            card_number=None if card is None or plan is None else card.number,
            plate=f"测C{chance.randrange(2000):05d}",
            plate_colour=0,
            vehicle_class=1,
            device_type=1,
        )
        sight = Sight(passage, site.caller_name(index), service, identity, to_us(now), "trusted", _local_day(now))
        abandoned = Abandoned.VOID if service is Service.TOLL else Abandoned.KEEP
        return HoldRequest(digest_of("key", passage), sight, site.MERCHANT, payer, amount, plan, abandoned)

    def _plan(self, world: World, card: Card, amount: int) -> PurchasePlan:
        card.second = max(card.second + 1, int(world.clock.utcnow().timestamp()))
        time = _local(card.second)
        return PurchasePlan(amount, time, BALANCE, b"before", time.encode())

    async def _hold(self, world: World, chance: random.Random, request: HoldRequest) -> HoldPlaced | HoldRefused | None:
        """Place a hold; None when it must be tried again."""
        if chance.random() < 0.03 and request.idempotency_key in self._keys:
            return None
        calls = [request]
        if chance.random() < 0.03:
            calls.append(request)
        if chance.random() < 0.01:
            calls.append(replace(request, amount_fen=request.amount_fen + 1))
        lives = world.rolled_back
        answers = await asyncio.gather(*(self._hold_once(world, call) for call in calls))
        if lives != world.rolled_back:
            return None
        placed = [answer for answer in answers if isinstance(answer, HoldPlaced)]
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, HoldPlaced):
                world.watch.told_held(answer.debit_id, call.amount_fen)
        ids = {answer.debit_id for answer in placed}
        world.watch.promise(len(ids) <= 1, f"one key, {len(ids)} debits")
        if calls[-1].amount_fen != request.amount_fen and isinstance(answers[-1], HoldPlaced):
            # The other content came first; then it is the claim, and the first content is the one to be refused.
            world.watch.promise(
                not any(isinstance(a, HoldPlaced) for a in answers[:-1]), "one key was taken with two contents"
            )
            return HoldRefused("idempotency_conflict")
        return answers[0]

    async def _hold_once(self, world: World, request: HoldRequest) -> HoldPlaced | HoldRefused | None:
        life = await world.served()
        try:
            return await in_life(life, life.engine.hold(request, timeout_s=DEADLINE_S))
        except (Gone, StorageLate, StorageUnavailable):
            await asyncio.sleep(0.5)
            return None
        except Exception as error:  # noqa: BLE001 - whatever else a caller gets is a bug
            world.fail(f"hold gave its caller {type(error).__name__}: {error}")
            return None

    async def _ask_card(
        self, world: World, chance: random.Random, index: int, request: HoldRequest, card: Card
    ) -> PurchaseResult | None:
        plan = request.plan
        if plan is None:
            return None
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        purchase = world.watch.by_card.get((card.number, plan.purchase_time))
        if purchase is None or purchase.state != "intent":
            # A crash has intervened: the lane would look at the card first.
            paid = (card.number, plan.purchase_time) in world.watch.card_paid
            return PurchaseResult(PurchaseOutcome.TAKEN if paid else PurchaseOutcome.NOT_TAKEN)
        roll = chance.random()
        if roll < 0.03:
            return PurchaseResult(PurchaseOutcome.NOT_TAKEN, error=11)
        drawn = forgeries.draw(world.watch.told, card.number, chance) if chance.random() < FORGED else None
        if drawn is not None:
            name, forgery = drawn
            world.network.note("forged", name)
            if forgery.debits:
                world.watch.card_pays(card.number, plan.purchase_time, plan.written_fen, None)
            return self._forged(index, plan, card, forgery)
        world.watch.card_pays(card.number, plan.purchase_time, plan.written_fen, None)
        if roll < 0.06:
            return PurchaseResult(PurchaseOutcome.UNKNOWN)
        return self._paid(index, plan, card)

    def _paid(self, index: int, plan: PurchasePlan, card: Card) -> PurchaseResult:
        """Result of a card and a PSAM that have done as they were asked."""
        card.serial += 1
        self._psam_serials[index] += 1
        return PurchaseResult(
            PurchaseOutcome.TAKEN,
            terminal=site.psam_terminal(index, caller=True).hex(),
            card_serial=card.serial,
            psam_serial=self._psam_serials[index],
            tac=b"TAC1",
            tac_source="b5",
            balance_after=BALANCE - plan.written_fen,
        )

    def _forged(self, index: int, plan: PurchasePlan, card: Card, forgery: Forgery) -> PurchaseResult:
        """Result that an antenna tells otherwise, whether or not the card has paid."""
        told = self._paid(index, plan, card)
        if not forgery.debits:
            card.serial -= 1
        balance = BALANCE if forgery.balance_unchanged else BALANCE - plan.written_fen
        return replace(
            told,
            terminal=told.terminal if forgery.terminal is None else forgery.terminal.hex(),
            card_serial=told.card_serial if forgery.card_serial is None else forgery.card_serial,
            psam_serial=told.psam_serial if forgery.psam_serial is None else forgery.psam_serial,
            tac=forgery.tac or told.tac,
            balance_after=balance + forgery.balance_off_fen,
        )

    async def _bring_in(self, world: World, chance: random.Random, claim: ProvenClaim) -> None:
        twice, lives = chance.random() < 0.03, world.rolled_back
        decisions = await asyncio.gather(*(self._bring_in_once(world, claim, lives) for _ in range(2 if twice else 1)))
        told = [decision for decision in decisions if decision is not None and lives == world.rolled_back]
        world.watch.promise(len({d.release for d in told}) <= 1, f"two decisions about debit {claim.debit_id}: {told}")

    async def _bring_in_once(self, world: World, claim: ProvenClaim, lives: int) -> Decision | None:
        for _ in range(4):
            life = await world.served()
            if claim.debit_id not in world.watch.debits or lives != world.rolled_back:
                # It was in a part of the ledger that was lost, or what its card told can no longer be compared with all
                # that was told before.
                return None
            try:
                brought = await in_life(life, life.engine.bring_in(claim, deadline=world.loop.time() + DEADLINE_S))
            except (Gone, StorageUnavailable):
                continue
            except Exception as error:  # noqa: BLE001 - whatever else a caller gets is a bug
                world.fail(f"bring_in gave its caller {type(error).__name__}: {error}")
                return None
            world.watch.told_decided(brought.decision.record_no, brought.decision.passage_id)
            return brought.decision
        return None

    async def _finish_held(self, world: World) -> None:
        """Decide what was left behind."""
        for debit in [d for d in world.watch.debits.values() if d.state == "held"]:
            await self._finish(world, debit)

    async def _show_again(self, world: World, card_number: str) -> None:
        """Bring the card back; its open purchase is proved or disproved."""
        for debit in [d for d in world.watch.debits.values() if d.state == "held"]:
            if any(p.card == card_number and p.state in ("intent", "unknown") for p in debit.purchases):
                await self._finish(world, debit)

    async def _finish(self, world: World, debit: Debit) -> None:
        if debit.service != "toll" and not debit.attempts and not debit.completed:
            await calls.release(world, debit.id, DecisionContext(site.caller_name(0)))
            return
        newest = debit.purchases[-1] if debit.purchases else None
        result = None
        if newest is not None and newest.state == "disputed":
            await calls.settle_dispute(world, debit.id)
            return
        if newest is not None and newest.state in ("intent", "unknown"):
            paid = (newest.card, newest.time) in world.watch.card_paid
            result = PurchaseResult(PurchaseOutcome.TAKEN if paid else PurchaseOutcome.NOT_TAKEN)
        account = next((a for a in self._accounts if a.mandate_id == debit.mandate), None)
        payer = Payer(Funding.PURSE, site.ISSUER) if account is None else _bank_payer(account)
        claim = ProvenClaim(
            debit_id=debit.id,
            payer=payer,
            context=DecisionContext(site.caller_name(0), occasion=Occasion.READING),
            decline_policy=site.decline_policy(0),
            purchase_id=None if newest is None else newest.id,
            result=result,
            card_number=None if newest is None else newest.card,
        )
        await self._bring_in_once(world, claim, world.rolled_back)


def _bank_payer(account: site.Account) -> Payer:
    limits = account.limits
    return Payer(
        Funding.BANK_ONLINE, site.BANK, account.mandate_id, account.contract_ref, limits.limit, limits.stand_in
    )


def _local(second: int) -> str:
    return (datetime.fromtimestamp(second, UTC) + timedelta(hours=8)).strftime("%Y%m%d%H%M%S")


def _local_day(moment: datetime) -> str:
    return (moment + timedelta(hours=8)).strftime("%Y%m%d")
