"""Storing a bank's day file: checked to its end first, then stored in pieces, and in force only when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, delete, select

from gateway.clearing.bank_file import BankFileError, DayFile, FileSummary, check_file
from gateway.clearing.day import Commit
from gateway.clearing.terms import Terms
from gateway.ledger import tables
from gateway.ledger.pace import Pace
from gateway.ledger.transaction import Change, Transaction
from gateway.model.clearing import BankLine
from gateway.texts.catalogue import Words

FILE_NUMBERS: Final = "bank_file"

_l = tables.bank_line
_SOME_LINES = select(_l.c.line).where(_l.c.file_id == bindparam("file")).limit(bindparam("some"))
_DROP_LINES = delete(_l).where(_l.c.file_id == bindparam("file"), _l.c.line.in_(_SOME_LINES))


def import_file(
    path: Path,
    channel: str,
    day: str,
    commit: Commit,
    terms: Terms,
    *,
    supplement: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    pace: Pace | None = None,
) -> FileSummary:
    """Bring a day file in. Raises `BankFileError`, and then nothing of it counts.

    `supplement`: it adds to a file of the same day that was read before. A file that was cut off while it was being
    stored is taken up again from its start.
    """
    pace = pace or Pace()
    profile = terms.rules.profile(channel)
    terminals = terms.terminals.get(channel, frozenset())
    summary = check_file(path, profile, day=day, terminals=terminals, tell=tell)
    file_id = commit(_begin(path, channel, day, summary, supplement=supplement))
    while commit(partial(_drop_lines, file_id=file_id, some=pace.page())):
        pass
    file = DayFile(path, profile, day, terminals)
    for page in pace.slices(file):
        commit(_store(file_id, channel, page))
        tell(f"{page[-1].line}")
    if file.digest != summary.digest:
        raise BankFileError(path, "bank_file_malformed", [_of_file(Words("bank-file.changed"))])
    commit(lambda tx: _finish(tx, file_id, channel, day))
    return summary


def _of_file(problem: Words) -> Words:
    return Words("bank-file.problem", file=Words("place.file"), problem=problem)


def _begin(path: Path, channel: str, day: str, summary: FileSummary, *, supplement: bool) -> Change[int]:
    def change(tx: Transaction) -> int:
        f = tables.bank_file
        known = tx.find(f, digest=summary.digest)
        if known is not None and known.state == "read":
            problem = Words("bank-file.read-before", bank=known.channel, day=known.day)
            raise BankFileError(path, "bank_file_known", [_of_file(problem)])
        if known is not None:
            return int(known.id)
        tx.flush()
        others = select(f.c.name).where(f.c.channel == channel, f.c.day == day, f.c.state == "read").limit(1)
        other = tx.connection.execute(others).scalar_one_or_none()
        if other is not None and not supplement:
            problem = Words("bank-file.second", other=other, bank=channel, day=day)
            raise BankFileError(path, "bank_file_second", [_of_file(problem)])
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


def _drop_lines(tx: Transaction, file_id: int, some: int) -> int:
    """Some of the lines of a file that was cut off while it was stored; how many they were."""
    return tx.execute(_DROP_LINES, file=file_id, some=some)


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
