"""`etcgw card purchase` and `card recover`: one customer at a counter of a site, while no gateway runs there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from gateway.cli import labels, words
from gateway.cli.card_reader import WaitOption
from gateway.cli.columns import Column, Columns, facts, fen, show_one, within
from gateway.cli.errors import CliFault, ExitCode, refusal
from gateway.cli.options import ConfigOption, JsonOption, at_site
from gateway.cli.usage import BadValue
from gateway.model.passage import PassageOutcome, Release
from gateway.model.reasons import REASONS
from gateway.texts.catalogue import Pair, Words

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.points.counter.point import Counter, Served

T = TypeVar("T")

CounterOption = Annotated[str | None, typer.Option("--counter", metavar="NAME", show_default=False)]


def purchase(
    context: typer.Context,
    *,
    amount: Annotated[int, typer.Option("--amount", metavar="FEN", min=1, show_default=False)],
    counter: CounterOption = None,
    bill: Annotated[str | None, typer.Option("--bill", metavar="NUMBER", show_default=False)] = None,
    again: Annotated[bool, typer.Option("--again")] = False,
    wait: WaitOption = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the card on a counter's reader pay, by its purse or its mandate. Exit 1 when it does not, 4 when unknown.

    What an earlier purchase of the card left open is settled first, by what the card itself proves: where it had paid,
    that is the payment, and nothing is taken once more.
    """
    from gateway.points.counter.point import NotPaid
    from gateway.points.counter.visit import Bill

    screen, site = at_site(context, config)
    name = _counter_of(site, counter)
    if not as_json:
        screen.note(screen.say("card.lay-it-down", counter=name))
    asked = Bill(amount, bill, again)
    served = _at_counter(site, name, lambda point: point.pay(asked, wait_s=wait))
    if isinstance(served, NotPaid):
        raise refusal(served.reason, Words("card.not-paid", counter=name))
    found = facts(screen, SERVED, served)
    _raise_unless_served(served, name, found)
    show_one(screen, SERVED, served, as_json=as_json)


def recover(
    context: typer.Context,
    *,
    counter: CounterOption = None,
    wait: WaitOption = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Settle what the card on a counter's reader left open, by what it proves; nothing is taken."""
    from gateway.points.counter.point import Served

    screen, site = at_site(context, config)
    name = _counter_of(site, counter)
    if not as_json:
        screen.note(screen.say("card.lay-it-down", counter=name))
    decision = _at_counter(site, name, lambda point: point.settle(wait_s=wait))
    if decision is None:
        if as_json:
            screen.json({"settled": None})
        else:
            screen.line(screen.say("card.nothing-open"))
        return
    served = Served(decision, earlier=True)
    if as_json:
        screen.json({"settled": facts(screen, SERVED, served)})
    else:
        show_one(screen, SERVED, served, as_json=False)


def _counter_of(site: SiteFile, wanted: str | None) -> str:
    """Name of the counter that is meant: the only one, where none is named."""
    from gateway.points.counter.config import CounterPoint

    names = [point.name for point in site.charge_points if isinstance(point, CounterPoint)]
    if wanted in names:
        return str(wanted)
    if wanted is None and len(names) == 1:
        return names[0]
    known = ", ".join(names) or "-"
    named = Words("usage.not-a-counter", name=wanted, known=known)
    raise BadValue(Words("usage.no-counter", known=known) if wanted is None else named, "'--counter'")


def _at_counter(site: SiteFile, name: str, do: Callable[[Counter], Awaitable[T]]) -> T:
    """Open the site as its gateway does, but serve at this counter alone, and close it again."""
    import asyncio

    from gateway.assembly import Parts
    from gateway.cards.terminal import TerminalFault
    from gateway.points.counter.point import Counter
    from gateway.runtime import Gateway

    done: list[T] = []

    async def errand(parts: Parts) -> None:
        serving = next(point.serving for point in parts.points if point.name == name)
        if not isinstance(serving, Counter):
            raise TypeError(f"{name} is no counter")
        done.append(await do(serving))

    try:
        asyncio.run(Gateway(site).run(errand=errand))
    except TerminalFault as fault:
        raise fault.error from fault
    if not done:
        raise KeyboardInterrupt
    return done[0]


def _raise_unless_served(served: Served, counter: str, found: dict[str, Any]) -> None:
    decision = served.decision
    if decision.release is Release.GO:
        return
    reason = decision.reason or "purchase_refused"
    if decision.outcome is PassageOutcome.UNKNOWN:
        likely = REASONS[reason]
        raise CliFault(
            ExitCode.UNKNOWN,
            reason,
            Words("card.not-known", counter=counter),
            Pair(likely.en, likely.zh),
            Words("card.lay-it-down-again", counter=counter),
            facts=found,
        )
    raise refusal(reason, Words("card.not-paid", counter=counter), found)


SERVED: Final[Columns[Served]] = (
    *within(
        (
            Column("record_no", Words("label.record")),
            Column("passage_id", labels.PASSAGE),
            Column("debit_id", labels.DEBIT),
            fen("amount_fen", labels.AMOUNT, text=lambda _, amount: words.yuan_with_currency(amount)),
            Column("outcome", labels.OUTCOME, text=words.coded(words.OUTCOMES)),
            Column("reason", labels.REASON, text=words.reason_text, data=lambda _, code: words.reason_facts(code)),
            Column("funding", labels.FUNDING),
        ),
        lambda served: served.decision,
        told=True,
    ),
    Column("earlier", labels.NOTE, text=lambda screen, earlier: screen.say("card.was-paid") if earlier else ""),
)
