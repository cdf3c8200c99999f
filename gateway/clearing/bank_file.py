"""A bank's day file: read line by line, checked completely before any of it counts.

The form is data (`DayFileProfile`). A file is refused as a whole when one line is bad, is of another day, or names a
terminal that is not ours at this bank; when it was read before; and when it was cut short, which its line of totals
tells. A bad line is told with its number, its column and a cure.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from gateway.clearing.rules import OURS, DayFileProfile
from gateway.model.clearing import BankLine, BankLineKind, WireKeys, full_day, parse_day
from gateway.model.money import parse_yuan
from gateway.text_files import not_text
from gateway.texts.catalogue import Text, Words
from gateway.texts.places import place_in, wrong

PROBLEMS_MAX = 50
"""Problems told of one file; a file with more is of another form altogether."""

LINES_MAX = 5_000_000
"""A day of the largest plaza has some hundred thousand passages."""

AMOUNT_FEN_MAX = 10**12
"""F4 of ISO 8583 has twelve digits."""

PROGRESS_EVERY = 100_000
"""Lines between two reports of how far the reading is."""

_AGAIN: Final = Words("bank-file.ask-again")


class BankFileError(Exception):
    """A day file cannot be used, and nothing of it counts. `reason` is a code of `gateway.model.reasons`."""

    def __init__(self, path: Path, reason: str, problems: Sequence[Text]) -> None:
        self.path = path
        self.reason = reason
        self.problems = list(problems)
        self.lines = [Words("bank-file.problem", file=path, problem=problem) for problem in self.problems]
        """Lines for people, one a problem."""
        super().__init__("\n".join(map(str, self.lines)))


@dataclass(frozen=True, slots=True)
class FileSummary:
    """A file that was read to its end and found good."""

    digest: str
    lines: int
    """Number of lines without header, totals and lines the profile skips."""
    amount_fen: int
    """Amount that stays booked by the file: sales and advices less refunds and reversals."""


def check_file(
    path: Path,
    profile: DayFileProfile,
    *,
    day: str,
    terminals: Collection[str],
    tell: Callable[[str], None] = lambda _: None,
) -> FileSummary:
    """Read the whole file once; raises `BankFileError` with every problem found."""
    lines = 0
    reader = DayFile(path, profile, day, terminals)
    for lines, _ in enumerate(reader, 1):
        if lines % PROGRESS_EVERY == 0:
            tell(str(lines))
    return FileSummary(reader.digest, lines, reader.net_fen)


class DayFile:
    """One pass over one file: its lines, and then `net_fen` and `digest`.

    Raises `BankFileError` at the end of a file with any problem; lines before the first of them have come out by then.
    """

    def __init__(self, path: Path, profile: DayFileProfile, day: str, terminals: Collection[str]) -> None:
        self._path = path
        self._profile = profile
        self._day = day
        self._near: date = parse_day(day)
        self._terminals = terminals
        self._problems: list[Text] = []
        self._reason = "bank_file_malformed"
        self._where: dict[str, int] = {}
        self._total_seen = False
        self._count = 0
        self.net_fen = 0
        self.digest = ""

    def __iter__(self) -> Iterator[BankLine]:
        with self._path.open("rb") as raw:
            digest = _Digest(raw)
            text = io.TextIOWrapper(io.BufferedReader(digest), encoding=self._profile.encoding, newline="")
            rows = csv.reader(text, delimiter=self._profile.delimiter, strict=True)
            try:
                yield from self._lines(rows)
            except UnicodeDecodeError as error:
                named = self._profile.encoding
                problem = Words("bank-file.other-encoding", encoding=named, reason=error.reason)
                cure = Words("bank-file.name-encoding")
                if named == OURS.encoding:
                    refusal = not_text(self._path, error)
                    problem, cure = refusal.problem, Words("bank-file.save-or-name-encoding", cure=refusal.cure)
                self._problem(rows.line_num + 1, None, problem, cure)
            except csv.Error as error:
                self._problem(rows.line_num, None, Words("bank-file.not-csv", error=str(error)), _AGAIN)
            self.digest = digest.hexdigest()
        if not self._problems and self._profile.total == "required" and not self._total_seen:
            self._problem(None, "kind", Words("bank-file.no-totals"), _AGAIN)
        if self._problems:
            raise BankFileError(self._path, self._reason, self._problems)

    def _lines(self, rows: Iterator[list[str]]) -> Iterator[BankLine]:
        if self._profile.header and not self._header(next(rows, [])):
            return
        if not self._profile.header:
            named = self._profile.columns.model_dump()
            self._where = {name: index for name, index in named.items() if index is not None}
        for number, row in enumerate(rows, 2 if self._profile.header else 1):
            if not row:
                continue
            if number > LINES_MAX or len(self._problems) >= PROBLEMS_MAX:
                self._problem(number, None, Words("bank-file.stopped"), Words("bank-file.correct-above"))
                return
            line = self._line(number, row)
            if line is not None and not self._problems:
                yield line

    def _header(self, titles: list[str]) -> bool:
        found = {title.strip(): index for index, title in enumerate(titles)}
        for name, title in self._profile.columns.model_dump().items():
            if title is None:
                continue
            if title not in found:
                known = ", ".join(found) or Words("bank-file.none")
                self._problem(1, str(title), Words("documents.missing"), Words("bank-file.map-column", known=known))
            self._where[name] = found.get(title, -1)
        return not self._problems

    def _line(self, number: int, row: list[str]) -> BankLine | None:
        before = len(self._problems)
        if self._total_seen:
            self._problem(number, None, Words("bank-file.after-totals"), _AGAIN)
            return None
        word = self._text(row, "kind")
        meaning = self._profile.kinds.get(word)
        if meaning == "skip":
            return None
        if meaning is None:
            known = ", ".join(self._profile.kinds)
            problem = Words("bank-file.no-kind", value=repr(word))
            self._problem(number, "kind", problem, Words("bank-file.map-kind", known=known))
            return None
        self._check_day(number, row)
        amount = self._amount(number, row, signed=meaning == "total")
        if meaning == "total":
            self._check_total(number, row, amount)
            return None
        kind = BankLineKind(meaning)
        terminal = self._terminal(number, row)
        keys = WireKeys(terminal, self._six_digits(number, row, "batch"), self._six_digits(number, row, "stan"))
        if len(self._problems) > before:
            return None
        self._count += 1
        self.net_fen += -amount if kind in (BankLineKind.REFUND, BankLineKind.REVERSAL) else amount
        return BankLine(number, kind, keys, amount, self._text(row, "retrieval_reference") or None)

    def _text(self, row: list[str], name: str) -> str:
        index = self._where.get(name, -1)
        return row[index].strip() if 0 <= index < len(row) else ""

    def _check_day(self, number: int, row: list[str]) -> None:
        told = self._text(row, "settlement_day")
        form = self._profile.days
        plain = told.replace("-", "") if form == "YYYY-MM-DD" else told
        try:
            found = full_day(plain if len(told) == len(form) else "", self._near)
        except ValueError:
            self._problem(
                number,
                "settlement_day",
                Words("bank-file.no-day", value=repr(told)),
                Words("bank-file.write-day", form=form),
            )
            return
        if found != self._day:
            self._problem(
                number,
                "settlement_day",
                Words("bank-file.other-day", told=told, day=self._day),
                Words("bank-file.give-with", found=found),
                "bank_file_other_day",
            )

    def _terminal(self, number: int, row: list[str]) -> str:
        terminal = self._text(row, "terminal")
        if terminal not in self._terminals:
            self._problem(
                number,
                "terminal",
                Words("bank-file.other-terminal", terminal=repr(terminal)),
                Words("bank-file.check-site"),
                "bank_file_other_terminal",
            )
        return terminal

    def _six_digits(self, number: int, row: list[str], name: str) -> str:
        """Batch and trace number; spreadsheets and some banks strip the zeros in front."""
        value = self._text(row, name)
        if not (value.isascii() and value.isdigit() and len(value) <= 6):
            problem = Words("bank-file.six-digits", value=repr(value[:40]))
            self._problem(number, name, problem, Words("bank-file.digits-only"))
        return value.zfill(6)

    def _amount(self, number: int, row: list[str], *, signed: bool) -> int:
        value = self._text(row, "amount")
        unit = self._profile.amounts
        try:
            amount = int(parse_yuan(value)) if unit == "yuan" else _whole(value)
        except ValueError:
            cure = Words("bank-file.write-fen") if unit == "fen" else Words("bank-file.write-yuan")
            self._problem(number, "amount", Words("bank-file.no-amount", value=repr(value[:40])), cure)
            return 0
        if abs(amount) > AMOUNT_FEN_MAX:
            problem = Words("bank-file.too-much", value=repr(value[:20]))
            self._problem(number, "amount", problem, Words("bank-file.correct-amount"))
            return 0
        if amount <= 0 and not signed:
            problem = Words("bank-file.not-above-zero", value=value)
            self._problem(number, "amount", problem, Words("bank-file.no-sign"))
        return amount

    def _check_total(self, number: int, row: list[str], amount: int) -> None:
        self._total_seen = True
        if self._problems:
            return  # what is bad is not counted
        count = self._text(row, "count")
        if count != str(self._count):
            problem = Words("bank-file.total-count", told=repr(count), found=self._count)
            self._problem(number, "count", problem, _AGAIN)
        if amount != self.net_fen:
            problem = Words("bank-file.total-amount", told=amount, found=self.net_fen)
            self._problem(number, "amount", problem, _AGAIN)

    def _problem(
        self, number: int | None, column: str | None, problem: Text, cure: Text, reason: str = "bank_file_malformed"
    ) -> None:
        if not self._problems:
            self._reason = reason
        self._problems.append(wrong(place_in(number, column), problem, cure))


def _whole(text: str) -> int:
    """A whole number in plain digits; int() alone also takes blanks, underscores and digits of other scripts."""
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


class _Digest(io.RawIOBase):
    """Passes a file on and digests what passed, so that the digest is of the very bytes that were read."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)
        self._digest.update(memoryview(buffer)[:count])
        return count

    def hexdigest(self) -> str:
        """Digest of the whole file; bytes that were not read yet are read."""
        while chunk := self._raw.read(io.DEFAULT_BUFFER_SIZE):
            self._digest.update(chunk)
        return self._digest.hexdigest()
