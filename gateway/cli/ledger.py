"""`etcgw ledger`: does it agree with itself, what stands on its accounts, and a right copy of it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.cli import labels, words
from gateway.cli.columns import Column, Columns, each, fen, only, said, show_one, show_table
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    ReasonOption,
    at_site,
    now_utc,
    reason_of,
    screen_of,
    site_of,
)
from gateway.cli.rights import need_right
from gateway.cli.screen import BAD, GOOD, Cell, Screen, Teller
from gateway.cli.store import MAKE_ROOM, ledger_of, place_of, reader_of
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Pair, Words
from gateway.texts.foreign import text_of

if TYPE_CHECKING:
    from gateway.debit.adoption import Adopted
    from gateway.ledger.backup import Copied, Progress
    from gateway.ledger.chain import ChainKey
    from gateway.ledger.findings import Finding, Head
    from gateway.ledger.life import Incarnation
    from gateway.ledger.verify import Check
    from gateway.views.accounts import Balance

app = Commands(
    "ledger",
    no_args_is_help=True,
)

ACCOUNT_KINDS: Final[Mapping[str, Words]] = {
    "open": Words("ledger.account_kinds.open"),
    "debt": Words("ledger.account_kinds.debt"),
    "due_back": Words("ledger.account_kinds.due_back"),
    "merchant": Words("ledger.account_kinds.merchant"),
    "issuer": Words("ledger.account_kinds.issuer"),
    "bank": Words("ledger.account_kinds.bank"),
    "suspense": Words("ledger.account_kinds.suspense"),
    "settlement": Words("ledger.account_kinds.settlement"),
    "till": Words("ledger.account_kinds.till"),
    "fee": Words("ledger.account_kinds.fee"),
    "incentive": Words("ledger.account_kinds.incentive"),
    "loss": Words("ledger.account_kinds.loss"),
}

CHAINS: Final[words.Table] = {
    "transfer": (Words("ledger.chains.transfer"), ""),
    "decision": (Words("ledger.chains.decision"), ""),
    "journal": (Words("ledger.chains.journal"), ""),
}
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


@app.command()
def verify(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    noted: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            metavar="DIGEST",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the ledger agrees with itself; changes nothing. Exit 1 when it does not.

    What the mark of the ledger knows must stand in the journal. Shows the heads of the chains of transfers, decisions,
    journal. Keep them somewhere else: given back later with --head they prove that no row up to them was changed, not
    even together with all digests behind it.
    """
    from gateway.config import chain_keys_of
    from gateway.ledger import verify as checks
    from gateway.ledger import workers

    for digest in noted or ():
        if not _DIGEST.fullmatch(digest):
            raise BadValue(Words("usage.no-digest", digest=digest), "'--head'")
    screen = screen_of(context)
    site = site_of(context, config)
    # The mark trails the ledger: what it knows now stands in a snapshot that is taken later.
    need_right(site.storage.ledger)
    known = [*(noted or ()), *_marked(screen, site.storage.mark_file)]
    keys = chain_keys_of(site)
    with reader_of(site) as engine, screen.progress(screen.say("ledger.checking")) as tell:
        found = checks.verify(engine, keys, tell, noted=known, workers=workers.cores())
    good = all(check.ok for check in found)
    heads = [check.head for check in found if check.head is not None]
    facts = {
        "ok": good,
        "checks": each(CHECK)(screen, found),
        "heads": {head.chain: {"number": head.number, "digest": head.digest} for head in heads},
    }
    if not as_json:
        _show_checks(screen, found)
    if not good:
        raise CliFault(
            ExitCode.REFUSED,
            "ledger_inconsistent",
            Words("ledger.ledger-does-not-agree-itself"),
            None,
            Words("ledger.keep-copy-file-report-these"),
            facts=facts,
        )
    if as_json:
        screen.json(facts)


@app.command()
def create(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    reason: ReasonOption = "new site",
    as_json: JsonOption = False,
) -> None:
    """Make the ledger of a new site, and the mark that remembers it. Refused where there is either."""
    import random

    from drivers.clock import SystemClock
    from gateway.config import chain_keys_of
    from gateway.ledger import incarnation

    screen = screen_of(context)
    site = site_of(context, config)
    clock = SystemClock()
    birth = incarnation.born(clock, random.SystemRandom(), **_said(reason))
    made = incarnation.create(place_of(site), clock, chain_keys_of(site), birth)
    columns: Columns[Incarnation] = (
        Column("ledger", labels.LEDGER, lambda _: str(site.storage.ledger)),
        Column("life", of=lambda life: life.number),
        Column("id", labels.LIFE),
    )
    show_one(screen, columns, made, as_json=as_json)


@app.command()
def adopt(
    context: typer.Context,
    *,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a ledger that a start refuses: older, restored or lost. For a stopped gateway.

    Every terminal goes on in a new batch. What was open is disputed: nothing of it is undone, told or asked again
    before the bank's day file or a person says what became of it.
    """
    import random

    from drivers.clock import SystemClock
    from gateway.config import chain_keys_of
    from gateway.debit import adoption
    from gateway.ledger import incarnation

    screen = screen_of(context)
    site = site_of(context, config)
    clock = SystemClock()
    birth = incarnation.born(clock, random.SystemRandom(), **_said(reason))
    found = adoption.adopt(place_of(site), clock, chain_keys_of(site), birth)
    columns: Columns[Adopted] = (
        Column("ledger", labels.LEDGER, lambda _: str(site.storage.ledger)),
        Column("why", Words("label.refused"), text=words.reason_text),
        Column("life", of=lambda a: a.incarnation.number),
        Column("id", of=lambda a: a.incarnation.id),
        said(labels.LIFE, lambda _, a: f"{a.incarnation.number} {a.incarnation.id}"),
        Column("terminals", Words("label.terminals-new-batch"), lambda a: len(a.terminals)),
        Column("disputed", Words("label.attempts-disputed")),
        Column("claims", Words("label.claims-find-out-about")),
        Column("refunds", Words("label.refunds-find-out-about")),
    )
    show_one(screen, columns, found, as_json=as_json)


@app.command()
def restore(
    context: typer.Context,
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", exists=True, dir_okay=False)],
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the ledger; a start refuses it until it is adopted. For a stopped gateway."""
    from gateway.ledger import restoring

    screen = screen_of(context)
    site = site_of(context, config)
    aside = restoring.restore(backup, place_of(site), now_utc())
    columns: Columns[Path | None] = (
        Column("ledger", labels.LEDGER, lambda _: str(site.storage.ledger)),
        Column("replaced", Words("label.replaced-one"), lambda path: path and str(path)),
    )
    show_one(screen, columns, aside, as_json=as_json)
    if not as_json:
        screen.note(screen.say("ledger.next-etcgw-ledger-adopt-reason"))


def _marked(screen: Screen, path: Path) -> list[str]:
    """The head that the mark knows; nothing where it cannot say, which is told."""
    from gateway.ledger import marks

    try:
        return [marks.read(path).head.hex()]
    except marks.MarkTrouble as error:
        screen.note(screen.say("ledger.without-mark", error=error))
        return []


def _said(reason: str) -> dict[str, str]:
    """Reason and account as the ledger keeps them."""
    from gateway.acts.actor import of_this_process

    return {"reason": reason_of(reason), "actor": of_this_process().name}


_FINDING: Final[Columns[Finding]] = only("row", "problem", "table", "column")


def _told(screen: Screen, english: str) -> str:
    return screen.word(text_of(english))


def _verdict(screen: Screen, ok: bool) -> Cell:
    return Cell(screen.say("ledger.ok"), GOOD) if ok else Cell(screen.say("ledger.bad"), BAD)


CHECK: Final[Columns[Check]] = (
    Column("name", Words("label.check"), text=_told, wrap_at=30),
    Column("ok"),
    Column("rows", Words("label.rows"), right=True),
    Column("", Pair.same(""), lambda check: check.ok, _verdict),
    Column("bad", of=lambda check: len(check.findings) + check.more),
    Column("findings", data=each(_FINDING)),
)
_HEAD: Final[Columns[Head]] = (
    Column("chain", Words("label.chain"), text=words.coded(CHAINS)),
    Column("number", Words("label.rows"), right=True),
    Column("digest", Words("label.head")),
)


def _show_checks(screen: Screen, found: Sequence[Check]) -> None:
    show_table(screen, CHECK, found)
    screen.line()
    show_table(screen, _HEAD, [check.head for check in found if check.head is not None])
    for check in found:
        if check.ok:
            continue
        screen.line()
        screen.line(_told(screen, check.name), style="bold")
        screen.pairs((_told(screen, finding.row), _told(screen, finding.problem)) for finding in check.findings)
        if check.more:
            screen.line(screen.say("ledger.more", more=check.more))


@app.command()
def key(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a key for the ledger's chains: a random one, in a new file that only its owner can read.

    Name it in the site file as storage.chain_key, and the one before it in storage.retired_chain_keys: it comes into
    force when the gateway starts. Keep a copy away from the box; without its keys nobody can verify a ledger.
    """
    from gateway.ledger import chain_key_files

    made = chain_key_files.make(file)
    columns: Columns[ChainKey] = (
        Column("file", Words("label.key-file"), lambda _: str(file)),
        Column("id", Words("label.key-id"), lambda key: key.id.hex()),
    )
    show_one(screen_of(context), columns, made, as_json=as_json)


@app.command()
def accounts(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    obligors: Annotated[bool, typer.Option("--obligors")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the balances by kind and owner; payers' accounts are summed up."""
    from gateway.views.accounts import balances

    screen, site = at_site(context, config)
    with ledger_of(site) as connection:
        found = balances(connection, apart=obligors)
    total = sum(account.balance_fen for account in found)
    if as_json:
        screen.json({"accounts": each(ACCOUNT)(screen, found), "sum_fen": total})
        return
    in_all = Cell(words.yuan(total), GOOD if total == 0 else BAD)
    show_table(screen, ACCOUNT, found, [screen.say("ledger.sum"), "", in_all, "", ""])


def _owner(screen: Screen, account: Balance) -> str:
    return account.owner or screen.say("ledger.payers", owners=account.owners)


ACCOUNT: Final[Columns[Balance]] = (
    Column("kind", Words("label.kind-of-account")),
    Column("owner"),
    said(Words("label.owner"), _owner),
    Column("owners"),
    fen("balance_fen", Words("label.balance")),
    fen("held_fen", labels.HELD, text=lambda _, held: words.yuan(held) if held else ""),
    Column(
        "",
        Words("label.what-it-is"),
        lambda account: account.kind,
        lambda screen, kind: screen.word(ACCOUNT_KINDS.get(kind, Pair.same(""))),
        rank=1,
        wrap_at=16,
    ),
)


@app.command()
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="TARGET")],
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the ledger into one whole file, also while the gateway works; the copy is checked before it gets its name.

    Note the journal number and digest it prints: they say which moment the copy is of.
    """
    from gateway.ledger import backup as copying
    from gateway.ledger import file as ledger_file

    screen = screen_of(context)
    site = site_of(context, config)
    with (
        reader_of(site),
        ledger_file.beside(site.storage.ledger) as file,
        screen.progress(screen.say("ledger.copying")) as tell,
    ):
        copied = copying.copy(file.real, target, _resting(tell, screen))
    columns: Columns[Copied] = (
        Column("path", Words("label.copy"), lambda copy: str(copy.path)),
        Column("bytes", Words("label.bytes"), lambda copy: copy.size_bytes),
        Column("journal_number", Words("label.journal")),
        Column("journal_head", Words("label.head")),
    )
    show_one(screen, columns, copied, as_json=as_json)


def _resting(tell: Teller, screen: Screen) -> Progress:
    """Tells how far a copy is, and leaves the disk to the gateway for as long as each step took."""
    begun = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal begun
        tell(screen.say("ledger.pages", done=done, total=total))
        time.sleep((time.monotonic() - begun) * MAKE_ROOM)
        begun = time.monotonic()

    return progress
