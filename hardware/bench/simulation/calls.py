"""Calls of clients and people: again after a crash, twice at once, with other content under one key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from gateway.acts import acts
from gateway.acts.actor import Actor, Role
from gateway.acts.doing import change_of
from gateway.clearing.terms import Terms as ClearingTerms
from gateway.debit import refunds
from gateway.debit.claims import Decision, DecisionContext, HoldPlaced, HoldRefused, HoldRequest
from gateway.debit.engine import BroughtIn, DebitEngine, StorageLate
from gateway.debit.refunds import Refunded, RefundRefused, RefundRequest
from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.transaction import Transaction
from gateway.model.clock import to_us
from gateway.model.ids import new_id
from gateway.views.visits import find_visit_of_debit
from hardware.bench.simulation import site
from hardware.bench.simulation.invariants import Attempt
from hardware.bench.simulation.life import Life
from hardware.bench.simulation.world import World

T = TypeVar("T")

DEADLINE_S = 2.0
TRIES_MAX = 6
AGAIN_S = 0.5
ASKED_EVERY_S = 5.0
"""Time between two calls of people at the bank."""

TWICE, OTHER_CONTENT = 0.03, 0.01
"""Shares of calls made twice at once, and with another content beside them."""
REFUNDED, REFUNDED_TWICE, TOO_MUCH = 0.25, 0.2, 0.2
"""Shares of collected debits that are paid back, of those that are asked for twice, and for more than is there."""
ADJUSTED, QUERIED = 0.05, 0.05
DELIVERED = ((0.15, 0.0), (0.5, 1.0), (1.0, 1.3))
"""Delivery on a pump's hold: up to this share of visits, up to this part of it. 0 = nothing, above 1 = an overrun."""
FORGOTTEN, EXPIRED = 0.02, 0.5
"""Share of pump holds nobody comes back to, and share of these whose time runs out at once."""
ALONE = 0.2
"""Share of debts that one person would write off, and nobody seconds."""
TILL = "till-1"
GROUPS = {role: ("people",) for role in Role}
PEOPLE = {name: Actor(4_000_000_000 + n, name, frozenset({"people"})) for n, name in enumerate(("p1", "p2"))}
"""Accounts that no machine has: they may act because of their group."""


class Gone(Exception):
    """The gateway died while a caller waited."""


async def in_life(life: Life, work: Coroutine[Any, Any, T]) -> T:
    """Do `work` inside the gateway's process. Raises Gone when that dies over it."""
    task = life.crew.start(work)
    await asyncio.wait((task,))
    if task.cancelled():
        raise Gone
    return task.result()


async def ask(
    world: World, what: str, make: Callable[[DebitEngine], Coroutine[Any, Any, T]], about: str | None = None
) -> T | None:
    """Call the engine until it answers; None when it could not store for too long, or has lost what it is `about`."""
    return await _until_answered(world, what, lambda life: make(life.engine), about)


async def order(world: World, what: str, change: Callable[[Transaction], T], about: str | None = None) -> T | None:
    """Do a person's act, which is one change of the ledger; None where the debit `about` was lost."""

    async def stored(life: Life) -> T:
        return await life.writer.submit(change, essential=True)

    return await _until_answered(world, what, stored, about)


async def do(world: World, who: str, act: acts.Act, about: str | None = None) -> acts.Facts | str | None:
    """Do a person's act at the gateway's desk: its facts, or the code of why nothing was done; None as `ask`."""
    change = change_of(act, PEOPLE[who], acts.Terms(world.template.rules, _no_clearing), GROUPS)

    async def told(life: Life) -> acts.Facts | str:
        try:
            return await life.writer.submit(change)
        except acts.Refused as refused:
            return refused.code

    return await _until_answered(world, type(act).__name__, told, about)


def _no_clearing() -> ClearingTerms:
    raise NotImplementedError("nobody here acts on a difference of clearing")


async def _until_answered(
    world: World, what: str, make: Callable[[Life], Coroutine[Any, Any, T]], about: str | None
) -> T | None:
    for _ in range(TRIES_MAX):
        life = await world.served()
        if about is not None and not world.watch.knows(about):
            return None
        try:
            return await in_life(life, make(life))
        except (Gone, StorageLate, StorageUnavailable):
            await asyncio.sleep(AGAIN_S)
        except Exception as error:  # noqa: BLE001 - whatever else a caller gets is a bug
            world.fail(f"{what} gave its caller {type(error).__name__}: {error}")
            return None
    return None


async def charge(world: World, chance: random.Random, index: int, request: HoldRequest) -> str | None:
    """Claim and collect without a card; returns the debit, or None where there is none."""
    context, policy = DecisionContext(site.caller_name(index)), site.decline_policy(index)
    calls = [request]
    if chance.random() < TWICE:
        calls.append(request)
    if chance.random() < OTHER_CONTENT:
        calls.append(replace(request, amount_fen=request.amount_fen + 1))

    async def one(call: HoldRequest) -> BroughtIn | HoldRefused | None:
        return await ask(
            world,
            "charge",
            lambda engine: engine.charge(call, context, policy, deadline=world.loop.time() + DEADLINE_S),
        )

    lives = world.rolled_back
    answers = await asyncio.gather(*(one(call) for call in calls))
    if lives != world.rolled_back:
        return None  # what was told before an older ledger came back is so no longer
    told = [(c, a.decision) for c, a in zip(calls, answers, strict=True) if isinstance(a, BroughtIn)]
    for call, decision in told:
        world.watch.told_decided(decision.record_no, decision.passage_id)
        if decision.debit_id is not None:
            world.watch.told_held(decision.debit_id, call.amount_fen)
    world.watch.promise(len({c.amount_fen for c, _ in told}) <= 1, f"one key was charged with two contents: {told}")
    world.watch.promise(len({d.debit_id for _, d in told}) <= 1, f"one key gave two debits: {told}")
    for answer in answers:
        if isinstance(answer, HoldRefused):
            world.watch.outcomes[f"charge_refused.{answer.reason}"] += 1
    return next((d.debit_id for _, d in told), None)


async def pump(
    world: World, chance: random.Random, index: int, request: HoldRequest, placed: HoldPlaced
) -> BroughtIn | HoldRefused | Decision | None:
    """Deliver what was reserved, in part, in whole or beyond; or release the hold, or leave it."""
    await asyncio.sleep(chance.uniform(0.0, 3.0))
    if chance.random() < FORGOTTEN:
        return await _expire(world, placed.debit_id, index) if chance.random() < EXPIRED else None
    roll, most = chance.random(), next(part for share, part in DELIVERED if chance.random() < share or share == 1.0)
    delivered = int(request.amount_fen * most * roll) if most else 0
    context, policy = DecisionContext(site.caller_name(index)), site.decline_policy(index)
    if delivered == 0:
        return await release(world, placed.debit_id, context)

    async def one(amount: int) -> BroughtIn | HoldRefused | None:
        return await ask(
            world,
            "complete",
            lambda engine: engine.complete(
                placed.debit_id,
                amount,
                request.payer,
                context,
                policy,
                deadline=world.loop.time() + DEADLINE_S,
            ),
            placed.debit_id,
        )

    lives = world.rolled_back
    amounts = [delivered, *([delivered] if chance.random() < TWICE else [])]
    answers = await asyncio.gather(*(one(amount) for amount in amounts))
    if lives != world.rolled_back:
        return None
    for answer in answers:
        if isinstance(answer, BroughtIn):
            world.watch.told_decided(answer.decision.record_no, answer.decision.passage_id)
    return answers[0]


async def release(world: World, debit_id: str, context: DecisionContext) -> Decision | HoldRefused | None:
    """Release a hold on which nothing was delivered."""
    answer = await ask(world, "release", lambda engine: engine.release(debit_id, context), debit_id)
    if isinstance(answer, Decision):
        world.watch.told_decided(answer.record_no, answer.passage_id)
    return answer


async def _expire(world: World, debit_id: str, index: int) -> Decision | None:
    """End a hold whose time is over."""
    context = DecisionContext(site.caller_name(index))
    answer = await ask(world, "expire", lambda engine: engine.expire(debit_id, context), debit_id)
    if answer is not None:
        world.watch.told_decided(answer.record_no, answer.passage_id)
    return answer


async def take_up_debt(world: World, chance: random.Random) -> None:
    """See to one of the debts: it is paid at a till, tried again at once, or written off by two."""
    waiting = [debit.id for debit in world.watch.debits.values() if debit.state == "debt"]
    if not waiting:
        return
    debit_id = chance.choice(waiting)
    what = chance.choice(("pay", "retry", "write_off"))
    if what == "pay":
        told = await do(world, "p1", acts.PayDebt(debit=debit_id, till=TILL), debit_id)
    elif what == "retry":
        told = await do(world, "p1", acts.RetryDebt(debit=debit_id), debit_id)
    else:
        given_up = acts.WriteOffDebt(debit=debit_id, reason="gone")
        for _ in range(2):
            # That one person alone does not do is for the ledger's own verification: others are at it meanwhile.
            await do(world, "p1", given_up, debit_id)
        if chance.random() < ALONE:
            return
        told = await do(world, "p2", given_up, debit_id)
    world.watch.outcomes[f"debt_{what}.{_code(told)}"] += 1


def _code(told: acts.Facts | str | None) -> str:
    """Code of how an act ended, to be counted."""
    if isinstance(told, str):
        return told
    return acts.PROPOSED if told is not None and told.get(acts.PROPOSED) else "done"


async def ask_the_bank(world: World) -> None:
    """Ask the bank, and its day file, about what no message ends: for ever."""
    since: dict[tuple[int, str], float] = {}
    while True:
        await asyncio.sleep(ASKED_EVERY_S)
        for attempt in world.watch.words.left_to_people():
            # Before that a message may still be under way to the bank, and nobody there can tell.
            noticed = (world.rolled_back, attempt.id)
            if world.loop.time() - since.setdefault(noticed, world.loop.time()) > site.MAX_MESSAGE_AGE_S:
                since.pop(noticed)
                await _resolve(world, attempt, posted=world.watch.booked(attempt))


async def _resolve(world: World, attempt: Attempt, *, posted: bool) -> None:
    word = acts.ResolveAttempt(
        debit=attempt.debit_id, attempt_id=attempt.id, posted=posted, source="the bank", reason="it was asked"
    )
    told = await do(world, "p1", word, attempt.id)
    if told is not None:
        world.watch.outcomes[f"bank_asked.{told if isinstance(told, str) else told['effect']}"] += 1


async def settle_dispute(world: World, debit_id: str) -> None:
    """Settle a dispute as a person who has looked at the card."""
    purchase = world.watch.debits[debit_id].purchases[-1]
    taken = (purchase.card, purchase.time) in world.watch.card_paid
    passage_id = world.watch.debits[debit_id].passage
    word = acts.ResolvePurchase(debit=debit_id, taken=taken, reason="the card was read")
    told = await do(world, "p1", word, debit_id)
    if isinstance(told, dict):
        world.watch.told_decided(told["record_no"], passage_id)


async def afterwards(world: World, chance: random.Random, debit_id: str) -> None:
    """Ask for later things on a debit: some of it back, a correction, how it stands."""
    debit = world.watch.debits.get(debit_id)
    if debit is None:
        return
    collected = debit.state in ("funded", "recovered")
    if collected and chance.random() < REFUNDED:
        too_much = chance.random() < TOO_MUCH
        amount = debit.collected - debit.refunded + 1 if too_much else chance.randint(1, debit.collected)
        await _refund(world, chance, RefundRequest(f"{chance.getrandbits(64):016x}", debit_id, amount, "", "p1"))
    elif not collected and debit.state in ("owed", "debt", "released") and chance.random() < ADJUSTED:
        amount = chance.randint(0, debit.amount)
        told = await do(world, "p1", acts.Adjust(debit=debit_id, amount_fen=amount, reason="misread"), debit_id)
        world.watch.outcomes[f"adjusted.{_code(told)}"] += 1
    if chance.random() < QUERIED:
        with (await world.served()).reader.connect() as connection:
            visit = find_visit_of_debit(connection, debit_id, unmask=True)
        debit = world.watch.debits.get(debit_id)
        if debit is None:
            return
        said = None if visit is None or visit.debit is None else visit.debit.state
        world.watch.promise(said == debit.state, f"the view says debit {debit_id} is {said}, it is {debit.state}")


async def _refund(world: World, chance: random.Random, request: RefundRequest) -> None:
    """Refund as the act of that name does, with an id that can be drawn again. Its bank is told by the collector."""
    debit, rules = world.watch.debits[request.debit_id], world.template.rules

    async def one() -> Refunded | RefundRefused | None:
        refund_id = new_id(to_us(world.clock.utcnow()), chance)
        answer: Refunded | RefundRefused | None = None
        for who in PEOPLE:
            asked = replace(request, actor=who)
            change = partial(refunds.ask_refund, request=asked, refund_id=refund_id, rules=rules)
            answer = await order(world, "refund", change, request.debit_id)
            if answer != RefundRefused("item_needs_second"):
                break
        return answer

    lives = world.rolled_back
    answers = await asyncio.gather(*(one() for _ in range(2 if chance.random() < REFUNDED_TWICE else 1)))
    if lives != world.rolled_back:
        return
    ids = {answer.refund_id for answer in answers if isinstance(answer, Refunded)}
    world.watch.promise(len(ids) <= 1, f"one key gave two refunds of debit {debit.id}")
    for answer in answers:
        if isinstance(answer, RefundRefused):
            world.watch.outcomes[f"refund_refused.{answer.reason}"] += 1
        elif answer is not None:
            world.watch.outcomes["refunded"] += 1
