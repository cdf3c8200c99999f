"""`etcgw debts`: what payers owe since their bank refused, and what people do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.columns import Column, Columns, at, fen, only, said, show_list
from gateway.cli.debits import tell_state
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
    name_of,
    now_utc,
    reason_of,
    screen_of,
    site_of,
)
from gateway.cli.screen import BAD, Cell, Screen
from gateway.cli.store import ledger_of
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.views.debts import Debt

app = Commands(
    "debts",
    invoke_without_command=True,
)


@app.callback()
def debts(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    listed: Annotated[bool, typer.Option("--listed")] = False,
    last: LastOption = 50,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List debts: who owes, how much, since when, and when the bank is asked again."""
    if context.invoked_subcommand is not None:
        return
    from gateway.views import debts as view

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        found = view.debts(connection, last, listed=listed, unmask=unmask)
        totals = view.totals(connection, listed=listed)
    show_list(screen, "debts", DEBT, found, nothing=Words("debts.no-such-debt"), as_json=as_json, beside=asdict(totals))
    if found and not as_json:
        screen.line()
        amount, payers, on_list = words.yuan_with_currency(totals.amount_fen), totals.payers, totals.payers_listed
        screen.line(
            screen.say(
                "debts.all-debts-payers-listed", count=totals.count, amount=amount, payers=payers, on_list=on_list
            )
        )


def _owed_by(_: Screen, debt: Debt) -> str:
    return debt.mandate_id or debt.who.plate or debt.who.card_number or f"..{debt.obligor_id[-6:]}"


def _age(_: Screen, since_us: int | None) -> str:
    return "" if since_us is None else age_text(now_utc().timestamp() - since_us / 1e6)


def _next_try(screen: Screen, debt: Debt) -> str:
    if debt.bank_in_doubt:
        return screen.say("debts.asking-bank")
    return screen.short(debt.next_try_us) or screen.say("parts.none")


DEBT: Final[Columns[Debt]] = (
    Column("debit_id", labels.DEBIT),
    said(Words("label.owed"), _owed_by),
    Column("mandate_id"),
    Column("plate", labels.PLATE, lambda d: d.who.plate, rank=1),
    Column("plate_colour", of=lambda d: d.who.plate_colour),
    Column("card_number", of=lambda d: d.who.card_number),
    *only("obligor_id", "payer", "service"),
    fen("amount_fen", labels.AMOUNT),
    Column("since", of=lambda d: d.since_us, data=Screen.iso),
    Column("since_us", Words("label.age"), text=_age, right=True),
    at("next_try_at"),
    said(labels.NEXT_TRY, _next_try),
    *only("next_try_us", "bank_in_doubt"),
    Column("tries", Words("label.tries"), right=True),
    Column("listed_since", of=lambda d: d.listed_us, data=Screen.iso),
    Column("listed_us", Words("label.listed-since"), text=lambda screen, moment: Cell(screen.short(moment), BAD)),
    Column("write_off_proposed_by", Words("label.write-off"), rank=2),
)


# --- what people do -------------------------------------------------------------------------------------------------


@app.command()
def pay(
    context: typer.Context,
    *,
    which: DebitArgument,
    till: TillOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the money for a debt at a till."""
    from gateway.acts.acts import PayDebt

    site = site_of(context, config)
    at_till = name_of(till, "--till")
    tell_state(screen_of(context), site, act_on(site, PayDebt(debit=which, till=at_till)), as_json=as_json)


@app.command()
def retry(
    context: typer.Context, *, which: DebitArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Have the bank of a debt asked again now, whatever the schedule says."""
    from gateway.acts.acts import RetryDebt

    site = site_of(context, config)
    facts = act_on(site, RetryDebt(debit=which))
    screen = screen_of(context)
    tell_state(screen, site, facts, as_json=as_json)
    if not as_json:
        screen.note(screen.say("debts.running-gateway-asks-within-seconds"))


@app.command("write-off")
def write_off(
    context: typer.Context,
    *,
    which: DebitArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a debt up: proposed by one account, in force when another gives the same command."""
    from gateway.acts.acts import WriteOffDebt

    screen = screen_of(context)
    site = site_of(context, config)
    why = reason_of(reason)
    facts = act_on(site, WriteOffDebt(debit=which, reason=why))
    tell_state(screen, site, facts, as_json=as_json)
    if facts["proposed"] and not as_json:
        screen.note(screen.word(words.PROPOSED))
