"""`etcgw mandates`: bring in who may be charged, look at it, and limit how far."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import labels, words
from gateway.cli.acting import act_on
from gateway.cli.columns import (
    Column,
    Columns,
    at,
    each,
    facts,
    fen,
    money,
    one,
    only,
    said,
    show_list,
    show_one,
    show_record,
    show_table,
    within,
)
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    LastOption,
    UnmaskOption,
    at_site,
    screen_of,
    site_of,
)
from gateway.cli.screen import Screen
from gateway.cli.store import changes_of, ledger_of, reader_of
from gateway.cli.usage import BadValue
from gateway.model.passage import Service
from gateway.model.states import MandateStatus
from gateway.texts.catalogue import Words
from gateway.texts.places import wrong

if TYPE_CHECKING:
    from gateway.acts.acts import LimitName
    from gateway.config import SiteFile
    from gateway.payers.fuel_terms import FuelTerms
    from gateway.payers.mandate_import import Changes
    from gateway.payers.mandates import Credential, Mandate
    from gateway.views import mandates as view

app = Commands(
    "mandates",
    no_args_is_help=True,
)

MandateArgument = Annotated[str, typer.Argument()]


# --- import ---------------------------------------------------------------------------------------------------------


@app.command("import")
def import_(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    allow_empty: Annotated[bool, typer.Option("--allow-empty")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put the mandates of a CSV file in force; one bad line and the old ones stay.

    The file replaces what is there: first it says how many mandates come, change and go, then it writes them a few at
    a time, so that the gateway may go on. If it is cut short, give the same file again; it goes on where it stopped.
    """
    screen = screen_of(context)
    site = site_of(context, config)
    mandates, credentials = _read(file)
    if not mandates and not allow_empty:
        raise CliFault(
            ExitCode.REFUSED,
            "no_mandate_in_file",
            Words("mandates.none-in-file", file=file),
            Words("mandates.empty-delivery-would-end-every"),
            Words("mandates.if-meant-add-allow-empty"),
        )
    for bank in sorted(_banks_missing(mandates, site)):
        screen.note(screen.say("mandates.note-mandates-name-bank-which", bank=bank))
    elsewhere = _grades_elsewhere(mandates, site)
    if elsewhere:
        screen.note(screen.say("mandates.note-no-grade-here", count=elsewhere))
    if dry_run:
        changes = _compare_only(site, mandates, credentials)
    else:
        changes = _bring_in(site, file.name, mandates, credentials, screen)
    columns: Columns[Changes] = (
        Column("file", of=lambda _: str(file)),
        Column("dry_run", of=lambda _: dry_run),
        Column("mandates", Words("label.mandates"), lambda _: len(mandates)),
        Column("credentials", labels.CREDENTIALS, lambda _: len(credentials)),
        Column("added", Words("label.added")),
        Column("changed", Words("label.changed-mandates")),
        Column("removed", Words("label.removed")),
        Column("unchanged", Words("label.unchanged")),
    )
    show_one(screen, columns, changes, as_json=as_json)
    if dry_run and not as_json:
        screen.note(screen.say("mandates.dry-run-nothing-changed"))


def _read(file: Path) -> tuple[dict[str, Mandate], list[Credential]]:
    from gateway.payers.mandates import MandateImportError, read_csv
    from gateway.text_files import lines_of, not_text

    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return read_csv(lines_of(stream))
    except UnicodeDecodeError as error:
        refusal = not_text(file, error)
        raise MandateImportError([wrong(str(file), refusal.problem, refusal.cure)]) from error
    except csv.Error as error:
        raise MandateImportError([Words("mandates.not-csv", file=file, error=str(error))]) from error


def _banks_missing(mandates: Mapping[str, Mandate], site: SiteFile) -> set[str]:
    known = {bank.name for bank in site.banks}
    return {mandate.channel for mandate in mandates.values() if mandate.channel is not None} - known


def _grades_elsewhere(mandates: Mapping[str, Mandate], site: SiteFile) -> int:
    """Mandates that no nozzle here has a grade for; none where no fuel is sold."""
    from gateway.points.fuel.config import FuelIsland

    islands = [point for point in site.charge_points if isinstance(point, FuelIsland)]
    here = {nozzle.grade for island in islands for side in island.sides for nozzle in side.nozzles}
    stated = (mandate.fuel.grades for mandate in mandates.values())
    return sum(bool(here) and grades is not None and here.isdisjoint(grades) for grades in stated)


def _compare_only(site: SiteFile, mandates: Mapping[str, Mandate], credentials: Sequence[Credential]) -> Changes:
    from gateway.payers.mandate_import import Plan, compare

    if not site.storage.ledger.exists():
        return Plan(mandates).changes
    with ledger_of(site) as connection:
        return compare(connection, mandates, credentials).changes


def _bring_in(
    site: SiteFile, name: str, mandates: Mapping[str, Mandate], credentials: Sequence[Credential], screen: Screen
) -> Changes:
    from gateway.ledger.pace import Pace
    from gateway.payers.mandate_import import Plan, bring_in

    say, pace = screen.say, Pace(site.storage.held_ms_max)

    def show(plan: Plan) -> None:
        changes = plan.changes
        if plan.under_way:
            screen.note(say("mandates.earlier-import-cut-short-or"))
        screen.note(
            say(
                "mandates.mandates-come-change-go",
                added=changes.added,
                changed=changes.changed,
                removed=changes.removed,
            )
        )

    with (
        changes_of(site, pace) as commit,
        reader_of(site) as reader,
        screen.progress(say("mandates.importing")) as tell,
    ):
        progress = _each_percent(lambda done, total: tell(f"{done} / {total}"))
        return bring_in(reader, commit, mandates, credentials, name=name, pace=pace, show=show, tell=progress)


def _each_percent(tell: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Tell once a hundredth: a line for each of a thousand transactions would be noise."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done == total or (done - told) * 100 >= total:
            told = done
            tell(done, total)

    return progress


def _note_under_way(screen: Screen, *, under_way: bool) -> None:
    """Say that what follows is neither the old mandates nor the new."""
    if under_way:
        screen.note(screen.say("mandates.note-import-mandates-running-or"))


# --- looking --------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    last: LastOption = 50,
    state: Annotated[MandateStatus | None, typer.Option("--status")] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """List mandates with what proves them, and count them by state."""
    from gateway.payers.mandate_import import is_under_way
    from gateway.views import mandates as view

    screen, site = at_site(context, config)
    chosen = None if state is None else state.value
    with ledger_of(site) as connection:
        under_way = is_under_way(connection)
        counts = view.counts(connection)
        found = view.mandates(connection, last, state=chosen, unmask=unmask)
    _note_under_way(screen, under_way=under_way)
    nothing = Words("mandates.no-mandate-here")
    show_list(screen, "mandates", MANDATE, found, nothing=nothing, as_json=as_json, beside={"counts": counts})
    if as_json or not found:
        return
    screen.line()
    totals = ", ".join(
        f"{words.named(screen, words.MANDATE_STATES, name).text} {counts[name]}"
        for name in words.MANDATE_STATES
        if name in counts
    )
    screen.line(screen.say("mandates.all", totals=totals))


@app.command()
def show(
    context: typer.Context,
    *,
    mandate_id: MandateArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Show one mandate: what proves it, what its payer owes, and its newest debits."""
    from gateway.payers.mandate_import import is_under_way
    from gateway.views.mandates import use_of

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        under_way = is_under_way(connection)
        use = use_of(connection, mandate_id, unmask=unmask)
    _note_under_way(screen, under_way=under_way)
    if use is None:
        raise CliFault(
            ExitCode.REFUSED,
            "no_such_mandate",
            Words("mandates.no-such", mandate_id=mandate_id),
            None,
            Words("mandates.etcgw-mandates-list-config-site"),
        )
    if as_json:
        screen.json(facts(screen, USE, use))
        return
    limits = [_limit_line(number, limit.service) for number, limit in enumerate(use.limits)]
    proofs = [(credential.kind, _credential_text(screen, credential)) for credential in use.mandate.credentials]
    columns = [line for column in USE for line in (limits if column.key == "limits" else (column,))]
    show_record(screen, columns, use, *proofs)
    if use.debits:
        screen.line()
        show_table(screen, _DEBIT, use.debits)


_CREDENTIAL: Final[Columns[view.Credential]] = only("kind", "key", "plate", "plate_colour")
_LIMIT: Final[Columns[view.Limit]] = only("service", "per_debit_fen", "per_day_fen", "per_day_count")
_FUEL: Final[Columns[FuelTerms]] = only(
    "grades", "per_sale_fen", "per_sale_ml", "per_day_fen", "per_day_ml", "per_month_fen", "per_month_ml"
)
MANDATE: Final[Columns[view.Mandate]] = (
    Column("mandate_id", labels.MANDATE),
    Column("status", labels.STATE, text=words.coded(words.MANDATE_STATES)),
    Column("funding", labels.FUNDING, text=words.coded(words.FUNDINGS)),
    Column("bank", labels.BANK),
    Column("contract_ref", labels.CONTRACT, rank=2),
    fen("limit_fen", labels.LIMIT, rank=1),
    fen("stand_in_limit_fen", Words("label.stand"), rank=1),
    at("imported_at"),
    Column("fuel", data=one(_FUEL)),
    Column(
        "credentials",
        labels.CREDENTIALS,
        text=lambda _, proofs: ", ".join(f"{proof.kind} {proof.key}" for proof in proofs),
        data=each(_CREDENTIAL),
        wrap_at=24,
    ),
)
_DEBIT: Final[Columns[view.Charge]] = (
    Column("debit_id"),
    at("created_at", labels.TIME),
    Column("state", labels.STATE, text=words.coded(words.DEBIT_STATES)),
    fen("amount_fen", labels.AMOUNT),
    Column("passage_id", labels.PASSAGE),
    Column("created_us"),
)


def _limit_fen(screen: Screen, limit_fen: int | None) -> str:
    return words.yuan_with_currency(limit_fen) or screen.say("mandates.none-ours")


def _or_dash(_: Screen, text: str | None) -> str:
    return text or "-"


def _fuel_lines() -> Columns[view.Use]:
    """Lines of what a mandate allows at a pump; none for what it does not bound."""

    def grades(_: Screen, fuel: FuelTerms | None) -> str:
        return "" if fuel is None else ", ".join(fuel.grades or ())

    def bound(each: str) -> Callable[[Screen, FuelTerms | None], str]:
        def told(_: Screen, fuel: FuelTerms | None) -> str:
            fen, ml = (None, None) if fuel is None else (getattr(fuel, f"per_{each}_{unit}") for unit in ("fen", "ml"))
            return ", ".join(filter(None, (words.yuan_with_currency(fen), _litres(ml))))

        return told

    return (
        Column("", Words("label.fuel-grades"), lambda use: use.mandate.fuel, grades),
        Column("", Words("label.fuel-a-sale"), lambda use: use.mandate.fuel, bound("sale")),
        Column("", Words("label.fuel-a-day"), lambda use: use.mandate.fuel, bound("day")),
        Column("", Words("label.fuel-a-month"), lambda use: use.mandate.fuel, bound("month")),
    )


def _litres(volume_ml: int | None) -> str:
    """A bound as a file states it, to the millilitre."""
    return "" if volume_ml is None else f"{volume_ml // 1000}.{volume_ml % 1000:03d}".rstrip("0").rstrip(".") + " L"


USE: Final[Columns[view.Use]] = (
    *within(MANDATE, lambda use: use.mandate),
    Column("", labels.MANDATE, lambda use: use.mandate.mandate_id),
    Column("", labels.STATE, lambda use: use.mandate.status, words.coded(words.MANDATE_STATES)),
    Column("", labels.FUNDING, lambda use: use.mandate.funding, words.coded(words.FUNDINGS)),
    Column("", labels.BANK, lambda use: use.mandate.bank, _or_dash),
    Column("", labels.CONTRACT, lambda use: use.mandate.contract_ref, _or_dash),
    Column("", labels.LIMIT, lambda use: use.mandate.limit_fen, _limit_fen),
    Column("stand_in_limit_fen", Words("label.stand-limit"), lambda use: use.mandate.stand_in_limit_fen, money),
    *_fuel_lines(),
    Column("limits", data=each(_LIMIT)),
    Column("held_fen", labels.HELD, lambda use: use.exposure.held_fen, money),
    Column("open_fen", Words("label.owes"), lambda use: use.exposure.open_fen, money),
    Column("debt_fen", Words("label.debt"), lambda use: use.exposure.debt_fen, money),
    Column("", Words("label.imported"), lambda use: use.mandate.imported_us, Screen.iso),
    Column("debits", data=each(_DEBIT)),
)


def _credential_text(screen: Screen, proof: view.Credential) -> str:
    say, plate = screen.say, proof.plate
    of_plate = "" if plate is None or proof.kind == "plate" else say("mandates.for", plate=plate)
    return f"{proof.key}{of_plate} {words.colour_text(screen, proof.plate_colour)}".rstrip()


def _limit_line(number: int, service: str) -> Column[view.Use]:
    title = Words("mandates.limits", service=service)
    return said(title, lambda screen, use: _limit_text(screen, use.limits[number]))


def _limit_text(screen: Screen, limit: view.Limit) -> str:
    say = screen.say
    nothing = say("mandates.none")
    per_debit = words.yuan(limit.per_debit_fen) or nothing
    per_day = words.yuan(limit.per_day_fen) or nothing
    count = nothing if limit.per_day_count is None else str(limit.per_day_count)
    return say("mandates.debit-day-debits-day", per_debit=per_debit, per_day=per_day, count=count)


# --- limits ---------------------------------------------------------------------------------------------------------


NO_LIMIT: Final = "none"

LIMITED: Final = {service.word: service.value for service in Service} | {"*": "*"}
"""Services a limit may be for, by the words of a command; * counts all services together."""


def _limited(text: str) -> str:
    if text not in LIMITED:
        raise BadValue(Words("usage.not-one-of", value=text, known=", ".join(LIMITED)))
    return LIMITED[text]


@app.command()
def limit(
    context: typer.Context,
    *,
    mandate_id: MandateArgument,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            parser=_limited,
            autocompletion=lambda: list(LIMITED),
            metavar=f"[{'|'.join(LIMITED)}]",
        ),
    ] = "*",
    per_debit: Annotated[str | None, typer.Option("--per-debit", metavar="FEN")] = None,
    per_day: Annotated[str | None, typer.Option("--per-day", metavar="FEN")] = None,
    count: Annotated[str | None, typer.Option("--count", metavar="N")] = None,
    exposure: Annotated[
        str | None,
        typer.Option("--exposure", metavar="FEN"),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a mandate's limits; they bind from the next hold on, holds and debits of the day counted.

    What is not named stays as it is. Limits of services outlive an import of mandates; the exposure limit is replaced
    by the imported one.
    """
    from gateway.acts.acts import ChangeLimits

    screen = screen_of(context)
    site = site_of(context, config)
    given: dict[LimitName, str | None] = {"per_debit_fen": per_debit, "per_day_fen": per_day, "per_day_count": count}
    changes: dict[LimitName, int | None] = {n: _limit_value(text) for n, text in given.items() if text is not None}
    if clear and changes:
        raise BadValue(Words("usage.clear-alone"), "'--clear'")
    if not (clear or changes or exposure is not None):
        raise BadValue(Words("usage.which-limit"), "'--per-debit'")
    act = ChangeLimits(
        mandate_id=mandate_id,
        service=service,
        changes=changes,
        clear=clear,
        exposure=None if exposure is None else (_limit_value(exposure),),
    )
    act_on(site, act)
    _show_limits(screen, site, mandate_id, as_json=as_json)


def _show_limits(screen: Screen, site: SiteFile, mandate_id: str, *, as_json: bool) -> None:
    """Show the limits that bind now."""
    from gateway.views.mandates import limits_of, mandate_of

    with ledger_of(site) as connection:
        changed = mandate_of(connection, mandate_id, unmask=False)
        limits = limits_of(connection, mandate_id)
    limit_fen = None if changed is None else changed.limit_fen
    if as_json:
        screen.json({"mandate_id": mandate_id, "limit_fen": limit_fen, "limits": each(_LIMIT)(screen, limits)})
        return
    pairs = [(screen.word(labels.MANDATE), mandate_id), (screen.word(labels.LIMIT), _limit_fen(screen, limit_fen))]
    screen.pairs([*pairs, *((stated.service, _limit_text(screen, stated)) for stated in limits)])


def _limit_value(text: str) -> int | None:
    """A whole number, or `none` for no such limit."""
    from gateway.payers.mandates import LIMIT_DIGITS_MAX

    if text == NO_LIMIT:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= LIMIT_DIGITS_MAX):
        raise BadValue(Words("usage.no-limit-number", text=text, none=NO_LIMIT))
    return int(text)
