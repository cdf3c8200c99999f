"""Batch of cards, tested one after another against a golden one: accepted, rejected with every defect, or tried again.

The record of a batch is a CSV to which each card is added durably before the next is asked for, so that a batch that
was cut short goes on where it stopped. Cards are known again by a digest of their numbers; numbers and plates stand
there masked unless somebody asks for them. A card that was pulled too early is no bad card.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from drivers.card_slot import CardSlot
from drivers.errors import DeviceError, DeviceTimeout
from gateway.cards.compare import LENGTH, Golden, compare
from gateway.cards.contents import LOCKED, CardContents, CardKind, read_card
from gateway.model.reasons import REASONS
from gateway.texts.catalogue import Language, Pair, Text, Words
from gateway.views.masks import number_shown, plate_shown
from protocols.card import purse
from protocols.card.apdu import SW_KEY_INDEX
from protocols.card.files import CardFile
from protocols.card.station import StationLayout
from protocols.errors import ProtocolError

COLUMNS: Final = ("no", "time", "result", "number", "plate", "card_digest", "defects", "text", "golden")

TERMINAL: Final = bytes(6)
"""Terminal of the probe of a card's keys: nobody's, and nothing is bought."""

DIGEST_BYTES: Final = 12

_HEAD: Final = codecs.BOM_UTF8 + ",".join(COLUMNS).encode()
"""Beginning of every record."""


class Result(StrEnum):
    """Result of one card."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TRY_AGAIN = "try_again"
    """The card was pulled before it was read: it counts as not tested."""


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong with a card. `code` is stable: a reason's, or `differs:` and the field."""

    code: str
    text: Text


@dataclass(frozen=True, slots=True)
class Tested:
    """One card of a batch, as the record has it."""

    no: int
    time: str
    """ISO 8601 with offset."""
    result: Result
    number: str
    plate: str
    card_digest: str = field(repr=False)
    defects: tuple[str, ...]
    """Codes."""
    text: str
    """Defects for people, in the language of the run."""


class RecordWrong(Exception):
    """Refusal of a file that is no record of this batch."""

    def __init__(self, file: Path, problem: Text) -> None:
        self.problem = Words("card-dump.wrong", file=file, problem=problem)
        super().__init__(self.problem)


# --- one card ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """Answer to INITIALIZE FOR PURCHASE with amount zero, which changes nothing: the sequence, or the refusal."""

    key: int
    sw: int
    sequence: int | None


async def examine(slot: CardSlot, golden: Golden) -> tuple[CardContents, tuple[Probe, ...]]:
    """Read a card, and ask for the keys that the golden one has. Raises DeviceError when it is pulled."""
    contents = await read_card(slot)
    if contents.kind is not CardKind.ETC or contents.locked:
        return contents, ()
    keys = golden.keys
    if not keys and golden.fresh and contents.card_file is not None:
        keys = (contents.card_file.algorithm.purse_key_index,)  # the only way to see a counter that is zero
    return contents, tuple([await _probe(slot, key) for key in keys])


def defects_of(
    contents: CardContents, probes: Sequence[Probe], golden: Golden, today: date, *, unmask: bool = False
) -> list[Defect]:
    """Defects of a card by itself and against the golden one."""
    found = list(_own_defects(contents, probes, today))
    if contents.kind is not CardKind.ETC:
        return found
    found += [
        Defect(f"differs:{one.place}", _difference(one.file, one.name, one.expected, one.found))
        for one in compare(contents, golden, unmask=unmask)
        if not any(one.file == file.name and one.name != LENGTH for file in contents.damaged)
    ]
    if golden.fresh:
        found += _used(contents, probes)
    return found


def _difference(file: str, name: str, expected: Text, found: Text) -> Text:
    return Words("card-batch.differs", file=file, field=name, expected=expected, found=found)


def _own_defects(contents: CardContents, probes: Sequence[Probe], today: date) -> Iterator[Defect]:
    if contents.locked or any(probe.sw in LOCKED for probe in probes):
        yield _by_reason("card_locked")
    kinds = {CardKind.BLANK: "card_blank", CardKind.PURSE: "card_not_etc", CardKind.OTHER: "card_not_etc"}
    if contents.kind in kinds:
        yield _by_reason(kinds[contents.kind])
        return
    if not (contents.locked and contents.card_file is None):
        for file in contents.damaged:
            problem = file.problem if file.problem is not None else Pair.same("")
            yield Defect("card_unreadable", Words("verdict.of-file", file=file.name, problem=problem))
    card = contents.card_file
    if card is not None:
        yield from _dates(card, today)
        yield from _plates(contents, card)
    for probe in probes:
        if probe.sw == SW_KEY_INDEX:
            yield Defect("keys", Words("card-batch.key-missing", key=f"{probe.key:02X}"))
        elif probe.sequence is None and probe.sw not in LOCKED:
            yield Defect("keys", Words("card-batch.key-refused", key=f"{probe.key:02X}", sw=f"{probe.sw:04X}"))


def _by_reason(code: str) -> Defect:
    reason = REASONS[code]
    return Defect(code, Pair(reason.en, reason.zh))


def _dates(card: CardFile, today: date) -> Iterator[Defect]:
    if card.expires is not None and card.expires < today:
        yield _by_reason("card_expired")
    if card.starts is None or card.expires is None or card.starts > card.expires:
        yield Defect("dates", Words("card-batch.dates"))


def _plates(contents: CardContents, card: CardFile) -> Iterator[Defect]:
    """A card that was given to a vehicle names the same one in every file."""
    station = contents.station
    if station is not None and station.plate and station.plate != card.plate:
        yield Defect("plates_differ", Words("card-batch.plates-differ"))


def _used(contents: CardContents, probes: Sequence[Probe]) -> Iterator[Defect]:
    sequence = max((probe.sequence or 0 for probe in probes), default=0)
    if sequence or contents.log:
        yield Defect("not_fresh", Words("card-batch.used", sequence=sequence, count=len(contents.log)))
    if contents.balance_raw:
        yield Defect("balance", Words("card-batch.balance", raw=f"{contents.balance_raw:08X}"))
    station = contents.station
    if station is not None and station.layout is not StationLayout.BLANK:
        yield Defect("entry", Words("card-batch.entry"))


async def _probe(slot: CardSlot, key: int) -> Probe:
    try:
        answer = await slot.transmit(purse.init_purchase(key, 0, TERMINAL))
        opened = purse.parse_purchase_opened(answer.data) if answer.ok else None
    except ProtocolError:
        return Probe(key, 0, None)
    return Probe(key, answer.sw, None if opened is None else opened.offline_sequence)


# --- many cards -------------------------------------------------------------------------------------------------------

NextCard = Callable[[], AbstractAsyncContextManager[CardSlot]]
"""Opens the next card that is laid on the reader, however long that takes."""


async def work_off(
    batch: Batch,
    next_card: NextCard,
    *,
    count: int | None,
    now: Callable[[], datetime],
    tell: Callable[[Tested], None],
) -> None:
    """Test cards as they come, until the record has `count` of them that are accepted or rejected; None: for ever.

    Raises DeviceError when there is no reader any more; what was tested stands in the record.
    """
    while count is None or batch.counts[Result.ACCEPTED] + batch.counts[Result.REJECTED] < count:
        async with next_card() as slot:
            try:
                contents, probes = await examine(slot, batch.golden)
            except DeviceTimeout:
                tell(batch.silent(now()))
            except DeviceError:
                tell(batch.pulled(now()))
            else:
                tell(batch.judged(contents, probes, now()))
            await slot.removed()


# --- the record -------------------------------------------------------------------------------------------------------


class Batch:
    """Batch with its record. One process at a time works on a record."""

    def __init__(self, file: Path, golden: Golden, *, language: Language, unmask: bool) -> None:
        """Take up the record where it stands, or begin it. Raises RecordWrong and OSError."""
        self._file = file
        self.golden = golden
        self._language = language
        self._unmask = unmask
        self.tested: list[Tested] = _read(file, golden)
        self._seen = {one.card_digest: one.no for one in self.tested if one.card_digest}
        self._stream = file.open("ab")
        if self._stream.tell() == 0:
            self._stream.write(codecs.BOM_UTF8)  # without it spreadsheets in China take the file for GBK
            self._append(COLUMNS)

    def close(self) -> None:
        """Close the record."""
        self._stream.close()

    @property
    def counts(self) -> Counter[Result]:
        """Cards by result."""
        return Counter(one.result for one in self.tested)

    def judged(self, contents: CardContents, probes: Sequence[Probe], at: datetime) -> Tested:
        """Judge a card that was examined, and record it."""
        defects = defects_of(contents, probes, self.golden, at.date(), unmask=self._unmask)
        card = contents.card_file if contents.kind is CardKind.ETC else None
        digest = "" if card is None else _digest(card.card_number)
        earlier = self._seen.get(digest) if digest else None
        if earlier is not None:
            defects.append(Defect("double", Words("card-batch.double", no=earlier)))
        tested = self._record(Result.REJECTED if defects else Result.ACCEPTED, at, card, digest, defects)
        if digest:
            self._seen.setdefault(digest, tested.no)
        return tested

    def pulled(self, at: datetime) -> Tested:
        """Record a card that was pulled before it was read."""
        return self._record(Result.TRY_AGAIN, at, None, "", [Defect("pulled", Words("card-batch.pulled"))])

    def silent(self, at: datetime) -> Tested:
        """Record a card that gives no answer."""
        return self._record(Result.REJECTED, at, None, "", [Defect("silent", Words("card-batch.silent"))])

    def _record(
        self, result: Result, at: datetime, card: CardFile | None, digest: str, defects: Iterable[Defect]
    ) -> Tested:
        number, plate = ("", "") if card is None else (card.card_number, card.plate)
        listed = list(defects)
        tested = Tested(
            len(self.tested) + 1,
            at.isoformat(timespec="seconds"),
            result,
            number_shown(number, unmask=self._unmask) or "",
            plate_shown(plate, unmask=self._unmask) or "",
            digest,
            tuple(dict.fromkeys(defect.code for defect in listed)),
            "; ".join(defect.text.told(self._language) for defect in listed),
        )
        self._append(
            (
                str(tested.no),
                tested.time,
                result.value,
                _plain(tested.number),
                _plain(tested.plate),
                digest,
                " ".join(tested.defects),
                _plain(tested.text),
                self.golden.digest[: 2 * DIGEST_BYTES],
            )
        )
        self.tested.append(tested)
        return tested

    def _append(self, values: Sequence[str]) -> None:
        """Add a line, durable when this returns."""
        line = io.StringIO()
        csv.writer(line).writerow(values)
        self._stream.write(line.getvalue().encode("utf-8"))
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _plain(text: str) -> str:
    """Text as it may stand in a table: what a card says never begins a formula, and takes one line."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def _digest(number: str) -> str:
    return hashlib.blake2b(f"card:{number}".encode(), digest_size=DIGEST_BYTES).hexdigest()


def _read(file: Path, golden: Golden) -> list[Tested]:
    """Cards that a record has; a last line that was cut off while it was written is taken away."""
    if not file.exists():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    try:
        rows = list(csv.reader(io.StringIO(whole.decode("utf-8-sig"), newline="")))
        tested = [_tested(row) for row in rows[1:]]
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise RecordWrong(file, Words("card-batch.no-record")) from error
    if rows and tuple(rows[0]) != COLUMNS:
        raise RecordWrong(file, Words("card-batch.no-record"))
    if not rows and not _HEAD.startswith(data):
        raise RecordWrong(file, Words("card-batch.no-record"))
    if any(row[-1] != golden.digest[: 2 * DIGEST_BYTES] for row in rows[1:]):
        raise RecordWrong(file, Words("card-batch.other-golden"))
    if whole != data:
        os.truncate(file, len(whole))
    return tested


def _tested(row: Sequence[str]) -> Tested:
    no, time, result, number, plate, digest, defects, text, _ = row
    return Tested(int(no), time, Result(result), number, plate, digest, tuple(defects.split()), text)
