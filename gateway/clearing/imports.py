"""Storing a bank's day file: checked to its end first, then stored in pieces, and in force only when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, delete, select

from gateway.clearing.bank_file import BankFileError, DayFile, FileSummary, check_file
from gateway.clearing.day import Commit
from gateway.clearing.terms import Terms
from gateway.ledger import tables
from gateway.ledger.transaction import Change, Transaction
from gateway.model.clearing import BankLine

LINES_PER_CHANGE: Final = 500
"""Lines of one database transaction: a gateway on the same ledger waits for it like for a batch of its own."""

FILE_NUMBERS: Final = "bank_file"

_DROP_LINES = delete(tables.bank_line).where(tables.bank_line.c.file_id == bindparam("file"))


def import_file(
    path: Path,
    channel: str,
    day: str,
    commit: Commit,
    terms: Terms,
    *,
    supplement: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> FileSummary:
    """Bring a day file in. Raises `BankFileError`, and then nothing of it counts.

    `supplement`: it adds to a file of the same day that was read before. A file that was cut off while it was being
    stored is taken up again from its start.
    """
    profile = terms.rules.profile(channel)
    terminals = terms.terminals.get(channel, frozenset())
    summary = check_file(path, profile, day=day, terminals=terminals, tell=tell)
    file_id = commit(_begin(path, channel, day, summary, supplement=supplement))
    file = DayFile(path, profile, day, terminals)
    for page in _pages(file):
        commit(_store(file_id, channel, page))
        tell(f"{page[-1].line}")
    if file.digest != summary.digest:
        raise BankFileError(path, "bank_file_malformed", ["file: it changed while it was read; give it again"])
    commit(lambda tx: _finish(tx, file_id, channel, day))
    return summary


def _begin(path: Path, channel: str, day: str, summary: FileSummary, *, supplement: bool) -> Change[int]:
    def change(tx: Transaction) -> int:
        f = tables.bank_file
        known = tx.find(f, digest=summary.digest)
        if known is not None and known.state == "read":
            raise BankFileError(path, "bank_file_known", [f"file: it was read before, for {known.channel} {known.day}"])
        if known is not None:
            tx.execute(_DROP_LINES, file=known.id)
            return int(known.id)
        tx.flush()
        others = select(f.c.name).where(f.c.channel == channel, f.c.day == day, f.c.state == "read").limit(1)
        other = tx.connection.execute(others).scalar_one_or_none()
        if other is not None and not supplement:
            raise BankFileError(path, "bank_file_second", [f"file: {other} was read for {channel} {day} already"])
        file_id = tx.next_number(FILE_NUMBERS)
        tx.insert(
            f,
            id=file_id,
            channel=channel,
            day=day,
            digest=summary.digest,
            name=path.name[:200],
            lines=summary.lines,
            amount=summary.amount_fen,
            state="loading",
            imported_at=tx.now_us,
        )
        return file_id

    return change


def _store(file_id: int, channel: str, page: Sequence[BankLine]) -> Change[None]:
    def change(tx: Transaction) -> None:
        for line in page:
            tx.insert(
                tables.bank_line,
                file_id=file_id,
                line=line.line,
                channel=channel,
                kind=line.kind.value,
                terminal=line.keys.terminal,
                batch=line.keys.batch,
                stan=line.keys.stan,
                reference=None if line.reference is None else line.reference[:16],
                amount=line.amount_fen,
            )

    return change


def _finish(tx: Transaction, file_id: int, channel: str, day: str) -> None:
    tx.update(tables.bank_file, {"id": file_id}, state="read", imported_at=tx.now_us)
    tx.note("clearing", f"file {file_id}", "read", detail=f"{channel} {day}")


def _pages(lines: Iterable[BankLine]) -> Iterable[list[BankLine]]:
    page: list[BankLine] = []
    for line in lines:
        page.append(line)
        if len(page) == LINES_PER_CHANGE:
            yield page
            page = []
    if page:
        yield page
