"""`etcgw debits`: claims, how far each is collected, and what people do about one of them.

What a person decides is written here; what a bank must hear of it is queued by the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.columns import Column, Columns, at, each, facts, fen, money, only, show_one, show_record, show_table
from gateway.cli.errors import CliFault, refusal
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    DebitArgument,
    JsonOption,
    LastOption,
    ReasonOption,
    TillOption,
    UnmaskOption,
    age_text,
    at_site,
    id_of,
    name_of,
    now_utc,
    reason_of,
    screen_of,
    site_of,
    zone_of,
)
from gateway.cli.screen import Cell, Screen, lines_cell
from gateway.cli.store import ledger_of
from gateway.cli.usage import BadValue
from gateway.cli.visit import DEBIT_PAGE, EVENT, show_debit
from gateway.model.states import OPEN_DEBITS, DebitState, RefundState
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.views.attempts import Attempt, Backlog
    from gateway.views.debits import Listed, StateSum

app = Commands(
    "debits",
    invoke_without_command=True,
)

AmountOption = Annotated[int, typer.Option("--amount", metavar="FEN", min=1, show_default=False)]


@app.callback()
def debits(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    state: Annotated[DebitState | None, typer.Option("--state")] = None,
    only_open: Annotated[bool, typer.Option("--open")] = False,
    last: LastOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List debits with their attempts at the bank, and sum them up by state; `show` tells all about one."""
    if context.invoked_subcommand is not None:
        return
    if state is not None and only_open:
        raise BadValue(Words("usage.open-or-state"), "'--state'")
    from gateway.views import attempts, debits

    screen, site = at_site(context, config)
    states = OPEN_DEBITS if only_open else () if state is None else (state.value,)
    with ledger_of(site) as connection:
        found, counted = debits.debits(connection, states, last), debits.sums(connection, states)
        outbox = attempts.backlog(connection)
    order = list(words.DEBIT_STATES)
    sums = sorted(counted, key=lambda one: order.index(one.state))
    if as_json:
        screen.json(
            {
                "debits": each(DEBIT)(screen, found),
                "sums": {one.state: {"count": one.count, "amount_fen": one.amount_fen} for one in sums},
                "outbox": {
                    "waiting": outbox.waiting,
                    "oldest_at": screen.iso(outbox.oldest_us),
                    "oldest_us": outbox.oldest_us,
                },
            }
        )
    else:
        _show(screen, found, sums, outbox)


def _attempts(screen: Screen, attempts: Sequence[Attempt]) -> Cell:
    """`sale 000012 unknown, reversal waiting` in words, a line each."""

    def text(attempt: Attempt) -> str:
        state = words.named(screen, words.ATTEMPT_STATES, attempt.state).text
        code = "" if attempt.response_code is None else f" {attempt.response_code}"
        kinds = ", ".join(message.kind for message in attempt.waiting)
        waiting = screen.say("debits.waiting", kinds=kinds) if kinds else ""
        return f"{attempt.kind} {attempt.stan or attempt.reference} {state}{code}{waiting}"

    return lines_cell(map(text, attempts))


_ATTEMPT: Final[Columns[Attempt]] = (
    *only("kind", "state", "channel", "terminal", "stan"),
    Column("response", of=lambda a: a.response_code, data=lambda _, code: words.response_facts(code)),
    Column("sends"),
    Column("outbox_waiting", of=lambda a: [message.kind for message in a.waiting]),
)
DEBIT: Final[Columns[Listed]] = (
    Column("debit_id"),
    at("created_at", labels.TIME),
    Column("passage_id"),
    Column("record_no", Words("label.record"), right=True),
    Column("lane", labels.LANE, rank=3),
    Column("state", labels.STATE, text=words.coded(words.DEBIT_STATES)),
    fen("amount_fen", labels.AMOUNT),
    Column("funding", labels.FUNDING, text=words.coded(words.FUNDINGS), rank=1),
    Column("payer", labels.PAYER),
    Column("mandate_id", labels.MANDATE, rank=4),
    *only("stood_in", "created_us"),
    Column("attempts", Words("label.attempts"), text=_attempts, data=each(_ATTEMPT), wrap_at=24),
)
_SUM: Final[Columns[StateSum]] = (
    Column("state", Words("label.all"), text=words.coded(words.DEBIT_STATES)),
    Column("count", labels.COUNT, right=True),
    fen("amount_fen", labels.AMOUNT),
)


def _show(screen: Screen, found: Sequence[Listed], sums: Sequence[StateSum], outbox: Backlog) -> None:
    say = screen.say
    if found:
        show_table(screen, DEBIT, found)
        screen.line()
    if sums:
        show_table(screen, _SUM, sums)
    else:
        screen.note(say("debits.no-such-debit-yet"))
    if outbox.oldest_us is not None:
        age = age_text(now_utc().timestamp() - outbox.oldest_us / 1e6)
        screen.line()
        screen.line(say("debits.outbox-waiting-bank-oldest", waiting=outbox.waiting, age=age))


# --- one debit ------------------------------------------------------------------------------------------------------


@app.command()
def show(
    context: typer.Context,
    *,
    which: DebitArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show where one debit stands: money, decisions, attempts, purchases, refunds, items."""
    from gateway.views.visits import find_visit_of_debit

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        visit = find_visit_of_debit(connection, which, unmask=unmask)
    if visit is None:
        raise _unknown(which)
    if as_json:
        screen.json(facts(screen, DEBIT_PAGE, visit))
    else:
        show_debit(screen, visit)


@app.command()
def history(
    context: typer.Context,
    *,
    which: DebitArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how one debit came where it stands: every event in the order of booking, and who did it."""
    from gateway.views.debits import find_debit
    from gateway.views.history import history_of

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        debit_id = find_debit(connection, which)
        events = () if debit_id is None else history_of(connection, debit_id)
    if debit_id is None:
        raise _unknown(which)
    if as_json:
        screen.json({"debit_id": debit_id, "history": each(EVENT)(screen, events)})
    else:
        show_table(screen, EVENT, events)


def _unknown(which: str) -> CliFault:
    return refusal("debit_unknown", Words("acts.no-debit", debit=which))


# --- money back, and claims put right -------------------------------------------------------------------------------


class RefundTarget(StrEnum):
    """Target of a refund besides where the money came from."""

    TILL = "till"


KEY_CHARS_MAX: Final = 64
"""Width of a business key in the ledger."""


@app.command()
def refund(
    context: typer.Context,
    *,
    which: DebitArgument,
    amount: AmountOption,
    reason: ReasonOption,
    key: Annotated[
        str | None,
        typer.Option("--key", show_default="of what is given"),
    ] = None,
    target: Annotated[RefundTarget | None, typer.Option("--target")] = None,
    till: Annotated[str | None, typer.Option("--till", metavar="NAME")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give back some of what was collected, where it came from or at a till; the same key twice pays once.

    Above the limit of the rules it is proposed by one account, and paid when another gives the same command.
    """
    from gateway.acts.acts import KEY_CHARS_MAX, PROPOSED, Refund

    screen = screen_of(context)
    site = site_of(context, config)
    if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
        raise BadValue(Words("usage.key-length", most=KEY_CHARS_MAX), "'--key'")
    done = act_on(
        site,
        Refund(
            debit=which,
            amount_fen=amount,
            reason=reason_of(reason),
            key=key,
            at_till=target is not None,
            till=None if till is None else name_of(till, "--till"),
        ),
    )
    refunded = {"debit_id": done["debit_id"], **done["refund"]}
    if as_json:
        screen.json(refunded)
    elif refunded["state"] == PROPOSED:
        screen.note(screen.word(words.PROPOSED))
    else:
        show_record(screen, _REFUND, refunded)
        _note_refund(screen, refunded)


_REFUND: Final[Columns[Mapping[str, Any]]] = (
    Column("refund_id", Words("label.refund")),
    Column("debit_id", labels.DEBIT),
    Column("amount_fen", labels.AMOUNT, text=money),
    Column("target", Words("label.to"), text=lambda screen, target: screen.word(words.REFUND_TARGETS[target])),
    Column("state", labels.STATE, text=words.coded(words.REFUND_STATES)),
    Column("key", Words("label.business-key")),
)


def _note_refund(screen: Screen, refunded: Mapping[str, Any]) -> None:
    say = screen.say
    if refunded["replayed"]:
        screen.note(say("debits.decided-before-nothing-done-again"))
    elif refunded["state"] != RefundState.PAID:
        screen.note(
            {
                "bank": say("debits.gateway-tells-bank"),
                "issuer": say("debits.issuer-has-next-clearing"),
                "till": say("debits.etcgw-debits-pay-refund-pays"),
            }[refunded["target"]]
        )


@app.command("pay-refund")
def pay_refund(
    context: typer.Context,
    *,
    refund_id: Annotated[str, typer.Argument(metavar="REFUND", show_default=False)],
    till: TillOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pay out a decided refund at a till, also one that its bank refused."""
    from gateway.acts.acts import PayRefund

    screen = screen_of(context)
    site = site_of(context, config)
    act = PayRefund(refund_id=id_of(refund_id, "REFUND"), till=name_of(till, "--till"))
    show_one(screen, _PAID, act_on(site, act), as_json=as_json)


_PAID: Final[Columns[Mapping[str, Any]]] = (
    Column("refund_id", Words("label.refund")),
    Column("state", labels.STATE, text=words.coded(words.REFUND_STATES)),
    Column("till", Words("label.till")),
)


@app.command()
def adjust(
    context: typer.Context,
    *,
    which: DebitArgument,
    amount: AmountOption,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put right what an unpaid debit asks for: --amount is what it asks for from then on."""
    from gateway.acts.acts import Adjust

    screen = screen_of(context)
    site = site_of(context, config)
    why = reason_of(reason)
    tell_state(screen, site, act_on(site, Adjust(debit=which, amount_fen=amount, reason=why)), as_json=as_json)


# --- what is stuck --------------------------------------------------------------------------------------------------


@app.command()
def resolve(
    context: typer.Context,
    *,
    which: DebitArgument,
    taken: Annotated[
        bool | None,
        typer.Option("--taken/--not-taken", show_default=False),
    ] = None,
    attempt: Annotated[str | None, typer.Option("--attempt", metavar="ATTEMPT")] = None,
    posted: Annotated[
        bool | None,
        typer.Option("--posted/--not-posted", show_default=False),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="TEXT")] = None,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a person's word on what is stuck: whether the card paid, or whether the bank booked an attempt.

    --taken or --not-taken ends a purchase that is unknown or disputed, and the debit is decided. --attempt with
    --posted or --not-posted and --source ends an attempt in doubt.
    """
    from gateway.acts.acts import ResolveAttempt, ResolvePurchase

    screen = screen_of(context)
    site = site_of(context, config)
    why = reason_of(reason)
    bank = (attempt, posted, source)
    if (taken is None) == all(part is None for part in bank) or (taken is None and None in bank):
        raise BadValue(Words("usage.resolve-what"), "'--taken'")
    act: ResolvePurchase | ResolveAttempt
    if attempt is not None and posted is not None and source is not None:
        attempt_id = id_of(attempt, "'--attempt'")
        act = ResolveAttempt(debit=which, attempt_id=attempt_id, posted=posted, source=reason_of(source), reason=why)
    else:
        act = ResolvePurchase(debit=which, taken=bool(taken), reason=why)
    tell_state(screen, site, act_on(site, act), as_json=as_json)


_DONE: Final[Columns[Mapping[str, Any]]] = (
    Column("debit_id", labels.DEBIT),
    Column("state", labels.STATE, text=words.coded(words.DEBIT_STATES)),
    Column("amount_fen", labels.AMOUNT, text=money),
    Column("collected_fen", labels.COLLECTED, text=money),
    Column("retry_at", labels.NEXT_TRY, lambda done: done["retry_us"], Screen.iso, Screen.iso),
    Column("record_no", Words("label.record"), lambda done: done.get("record_no")),
    Column(
        "effect",
        Words("label.effect"),
        lambda done: done.get("effect"),
        lambda screen, effect: effect and screen.word(words.LATE_EFFECTS[effect]),
    ),
)


def tell_state(screen: Screen, site: SiteFile, done: Mapping[str, Any], *, as_json: bool) -> None:
    """Show where a debit stands after what was done."""
    show_one(replace(screen, zone=zone_of(site)), _DONE, done, as_json=as_json)
