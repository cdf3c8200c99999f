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
from gateway.cli.options import (
    HELP_NAMES,
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
from gateway.cli.screen import BAD, GOOD, Cell, Screen, Teller, Words
from gateway.cli.store import MAKE_ROOM, ledger_of, place_of, reader_of

if TYPE_CHECKING:
    from gateway.debit.adoption import Adopted
    from gateway.ledger.backup import Copied, Progress
    from gateway.ledger.chain import ChainKey
    from gateway.ledger.findings import Finding, Head
    from gateway.ledger.life import Incarnation
    from gateway.ledger.verify import Check
    from gateway.views.accounts import Balance

app = typer.Typer(
    name="ledger",
    help="The books: make them, verify them, show accounts, copy them, bring them back.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)

ACCOUNT_KINDS: Final[Mapping[str, Words]] = {
    "open": Words("released, not paid yet", "已放行未付"),
    "debt": Words("finally not paid by the bank", "银行拒付欠费"),
    "due_back": Words("to be paid back", "待退款"),
    "merchant": Words("earned", "应收通行费"),
    "issuer": Words("issuer owes us (below zero)", "发行方应付 (负数)"),
    "bank": Words("bank owes us (below zero)", "银行应付 (负数)"),
    "suspense": Words("late approvals being reversed", "迟到批准待冲正"),
    "settlement": Words("money received", "已到账"),
    "till": Words("cash", "现金"),
    "fee": Words("fees", "手续费"),
    "incentive": Words("campaigns", "优惠"),
    "loss": Words("written off", "核销"),
}

CHAINS: Final[words.Table] = {
    "transfer": (Words("transfers", "转账"), ""),
    "decision": (Words("decisions", "判定"), ""),
    "journal": (Words("journal", "日志"), ""),
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
            help="A head this command showed before, noted elsewhere: nothing up to it may have been rewritten.",
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
            raise typer.BadParameter(f"{digest!r} is no digest of 64 hex digits", param_hint="'--head'")
    screen = screen_of(context)
    site = site_of(context, config)
    # The mark trails the ledger: what it knows now stands in a snapshot that is taken later.
    need_right(site.storage.ledger)
    known = [*(noted or ()), *_marked(screen, site.storage.mark_file)]
    keys = chain_keys_of(site)
    with reader_of(site) as engine, screen.progress(screen.say("checking", "正在检查")) as tell:
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
            screen.say("the ledger does not agree with itself", "账本自检不一致"),
            None,
            Words("keep a copy of the file and report these rows", "请保留账本文件副本并上报以上记录"),
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
        Column("why", Words("Was refused", "原拒绝原因"), text=words.reason_text),
        Column("life", of=lambda a: a.incarnation.number),
        Column("id", of=lambda a: a.incarnation.id),
        said(labels.LIFE, lambda _, a: f"{a.incarnation.number} {a.incarnation.id}"),
        Column("terminals", Words("Terminals in a new batch", "换批终端"), lambda a: len(a.terminals)),
        Column("disputed", Words("Attempts disputed", "有争议请求")),
        Column("claims", Words("Claims to find out about", "待查应收")),
        Column("refunds", Words("Refunds to find out about", "待查退款")),
    )
    show_one(screen, columns, found, as_json=as_json)


@app.command()
def restore(
    context: typer.Context,
    backup: Annotated[
        Path, typer.Argument(metavar="BACKUP", exists=True, dir_okay=False, help="A file that ledger backup made.")
    ],
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
        Column("replaced", Words("Replaced one", "原账本"), lambda path: path and str(path)),
    )
    show_one(screen, columns, aside, as_json=as_json)
    if not as_json:
        screen.note(screen.say("next: etcgw ledger adopt --reason ...", "下一步: etcgw ledger adopt --reason ..."))


def _marked(screen: Screen, path: Path) -> list[str]:
    """The head that the mark knows; nothing where it cannot say, which is told."""
    from gateway.ledger import marks

    try:
        return [marks.read(path).head.hex()]
    except marks.MarkTrouble as error:
        screen.note(screen.say(f"without the mark: {error}", f"未对照标记: {error}"))
        return []


def _said(reason: str) -> dict[str, str]:
    """Reason and account as the ledger keeps them."""
    from gateway.acts.actor import of_this_process

    return {"reason": reason_of(reason), "actor": of_this_process().name}


_FINDING: Final[Columns[Finding]] = only("row", "problem", "table", "column")


def _verdict(screen: Screen, ok: bool) -> Cell:
    return Cell(screen.say("ok", "一致"), GOOD) if ok else Cell(screen.say("BAD", "不一致"), BAD)


CHECK: Final[Columns[Check]] = (
    Column("name", Words("Check", "检查项"), wrap_at=30),
    Column("ok"),
    Column("rows", Words("Rows", "行数"), right=True),
    Column("", Words("", ""), lambda check: check.ok, _verdict),
    Column("bad", of=lambda check: len(check.findings) + check.more),
    Column("findings", data=each(_FINDING)),
)
_HEAD: Final[Columns[Head]] = (
    Column("chain", Words("Chain", "链"), text=words.coded(CHAINS)),
    Column("number", Words("Rows", "行数"), right=True),
    Column("digest", Words("Head", "最新摘要")),
)


def _show_checks(screen: Screen, found: Sequence[Check]) -> None:
    show_table(screen, CHECK, found)
    screen.line()
    show_table(screen, _HEAD, [check.head for check in found if check.head is not None])
    for check in found:
        if check.ok:
            continue
        screen.line()
        screen.line(check.name, style="bold")
        screen.pairs((finding.row, finding.problem) for finding in check.findings)
        if check.more:
            screen.line(screen.say(f"and {check.more} more", f"另有 {check.more} 行"))


@app.command()
def key(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file; one that is there is never overwritten.")],
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
        Column("file", Words("Key file", "密钥文件"), lambda _: str(file)),
        Column("id", Words("Key id", "密钥标识"), lambda key: key.id.hex()),
    )
    show_one(screen_of(context), columns, made, as_json=as_json)


@app.command()
def accounts(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    obligors: Annotated[bool, typer.Option("--obligors", help="One row for each payer instead of one sum.")] = False,
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
    show_table(screen, ACCOUNT, found, [screen.say("sum", "合计"), "", in_all, "", ""])


def _owner(screen: Screen, account: Balance) -> str:
    return account.owner or screen.say(f"payers: {account.owners}", f"付款方 {account.owners} 个")


ACCOUNT: Final[Columns[Balance]] = (
    Column("kind", Words("Kind", "科目")),
    Column("owner"),
    said(Words("Owner", "所有者"), _owner),
    Column("owners"),
    fen("balance_fen", Words("Balance", "余额")),
    fen("held_fen", labels.HELD, text=lambda _, held: words.yuan(held) if held else ""),
    Column(
        "",
        Words("What it is", "说明"),
        lambda account: account.kind,
        lambda screen, kind: screen.word(ACCOUNT_KINDS.get(kind, Words("", ""))),
        rank=1,
        wrap_at=16,
    ),
)


@app.command()
def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File to write; it must not be there yet.")],
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
        screen.progress(screen.say("copying", "正在复制")) as tell,
    ):
        copied = copying.copy(file.real, target, _resting(tell, screen))
    columns: Columns[Copied] = (
        Column("path", Words("Copy", "副本"), lambda copy: str(copy.path)),
        Column("bytes", Words("Bytes", "字节数"), lambda copy: copy.size_bytes),
        Column("journal_number", Words("Journal", "日志")),
        Column("journal_head", Words("Head", "最新摘要")),
    )
    show_one(screen, columns, copied, as_json=as_json)


def _resting(tell: Teller, screen: Screen) -> Progress:
    """Tells how far a copy is, and leaves the disk to the gateway for as long as each step took."""
    begun = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal begun
        tell(screen.say(f"{done} of {total} pages", f"{done}/{total} 页"))
        time.sleep((time.monotonic() - begun) * MAKE_ROOM)
        begun = time.monotonic()

    return progress
