"""Contents of an ETC user card: everything that may be read freely, file by file, with what each says or why it cannot.

Cards of many makers and years are read here, damaged ones among them. A file that cannot be read, or whose bytes are
none, is told with its status word and never stops the rest; a card that goes away does (`DeviceError`). Contents keep
the bytes as they came, and everything else is made from those: so contents that were written down are judged like the
card itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from drivers.card_slot import CardSlot
from gateway.texts.catalogue import Pair, Text, Words
from protocols.card import commands, purse
from protocols.card.apdu import LE_MAX, SW_FILE_NOT_FOUND, SW_OK, SW_WRONG_LENGTH, Command, Response, status_text
from protocols.card.fci import describe_transit_file
from protocols.card.files import (
    CARD_FILE_LENGTHS,
    HOLDER_BYTES,
    TRANSACTION_BYTES,
    CardFile,
    Holder,
    TransactionLog,
    decode_card_file,
    decode_holder,
    decode_transaction_log,
    describe_card_file,
    describe_holder,
    describe_transaction_log,
)
from protocols.card.layout import STATION_HEADER, TRANSIT_FILE
from protocols.card.station import STATION_BYTES, Station, decode_station, describe_record, describe_station
from protocols.errors import ProtocolError, RemoteProtocolError
from protocols.fields import FieldText, is_fill

APPLICATION: Final = "1001"
PURSE: Final = "0002"
CARD_FILE: Final = "0015"
HOLDER: Final = "0016"
TOLL: Final = "0012"
FLAG_STATIONS: Final = "0008"
FREE_AREA: Final = "0009"
STATIONS: Final = "0019"
LOG: Final = "0018"
"""Files by their ids; a record of one is `0018/3`."""

ENTRY: Final = f"{STATIONS}/1"
"""Record AA of file 0019, which carries a trip from entry to exit."""

NEWEST: Final = f"{LOG}/1"

STATION_RECORDS_MAX: Final = 16
"""Records of file 0019 that are asked for; the richest layout known has ten."""

LOG_RECORDS_MAX: Final = 10

FILE_BYTES_MAX: Final = 1024
"""Bytes read of one file; the longest known has 512."""

PAYMENT_DIRECTORY: Final = b"1PAY.SYS.DDF01"
"""Name of the root of cards made for payments, with an application or still without one."""

SW_END_OF_FILE: Final = 0x6282
SW_INVALIDATED: Final = 0x6283
SW_BLOCKED: Final = 0x6A81
SW_NO_RECORD: Final = 0x6A83
SW_OFFSET: Final = 0x6B00
SW_NO_DIAGNOSIS: Final = 0x6F00
SW_LOCKED_FOR_EVER: Final = 0x9303

ABSENT: Final = frozenset({SW_FILE_NOT_FOUND, SW_NO_RECORD})
LOCKED: Final = frozenset({SW_INVALIDATED, SW_BLOCKED, SW_LOCKED_FOR_EVER})
"""Answers to SELECT by name of an application that its issuer has blocked (inferred: cards differ, and some answer
as ever)."""


class CardKind(StrEnum):
    """Kind of card, by what its files say."""

    ETC = "etc"
    DAMAGED = "damaged"
    """ETC card by its records, whose file 0015 is not usable."""
    PURSE = "purse"
    """Transit or other purse card with the application id of ETC cards."""
    BLANK = "blank"
    """Card made for payments with nothing written on it yet."""
    OTHER = "other"
    """Anything else: no such application, or one issued by nobody known."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """One file or record as the card gave it."""

    name: str
    """Id of the file, and behind a bar the number of a record."""
    sw: int
    data: bytes = field(repr=False)

    @property
    def file(self) -> str:
        """Id of the file."""
        return self.name.partition("/")[0]

    @property
    def readable(self) -> bool:
        """True when the card gave the bytes, with or without a warning."""
        return self.sw == SW_OK or bool(self.data)

    @property
    def blank(self) -> bool:
        """True for bytes that were never written; a record has its head all the same."""
        content = self.data[len(STATION_HEADER) :] if self.file == STATIONS else self.data
        return bool(content) and is_fill(content)

    @property
    def value(self) -> Any:  # noqa: ANN401 - by file
        """Decoded content, None where there is none."""
        return self._decoded()[0]

    @property
    def problem(self) -> Text | None:
        """Reason why the file has no value, None when it has one."""
        if not self.readable:
            return status_words(self.sw)
        return self._decoded()[1]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Odd things about the content, each one sentence."""
        value = self.value
        return () if self.blank else getattr(value, "warnings", ())

    def described(self, *, unmask: bool) -> list[FieldText]:
        """Fields of the content as text. Files nobody has a layout for have none."""
        describe = _DESCRIBERS.get(self.name) or _DESCRIBERS.get(self.file)
        return describe(self.data, unmask) if describe is not None and self.readable else []

    def _decoded(self) -> tuple[Any, Text | None]:
        codec = _CODECS.get(self.name) or _CODECS.get(self.file)
        if not self.readable:
            return None, None
        if codec is None:
            return self.data, None
        try:
            return codec(self.data), None
        except ProtocolError:
            # What a codec of one length refuses is another length, and nothing else.
            return None, Words("card-file.length", length=len(self.data), wanted=_LENGTHS[self.file])


def status_words(sw: int) -> Text:
    """Status word with its text."""
    label = status_text(sw)
    return Pair(f"{sw:04X} {label.en}", f"{sw:04X} {label.zh}")


@dataclass(frozen=True, slots=True)
class CardContents:
    """Contents of one card, as far as they were read."""

    reader: str
    atr: bytes
    files: Mapping[str, FileRead]
    """By name, in the order of reading; the application itself, as it answered its selection, among them."""

    def value(self, name: str) -> Any:  # noqa: ANN401 - by file
        """Decoded content of a file, None where there is none."""
        found = self.files.get(name)
        return None if found is None else found.value

    @property
    def card_file(self) -> CardFile | None:
        """File 0015, None where it is no such file."""
        value: CardFile | None = self.value(CARD_FILE)
        return value

    @property
    def station(self) -> Station | None:
        """Record AA of file 0019."""
        value: Station | None = self.value(ENTRY)
        return value

    @property
    def toll(self) -> Station | None:
        """File 0012: the entry of manual lanes."""
        value: Station | None = self.value(TOLL)
        return value

    @property
    def log(self) -> tuple[TransactionLog, ...]:
        """Transactions of file 0018 that were written, newest first."""
        records = (file.value for file in self.files.values() if file.file == LOG)
        return tuple(record for record in records if record is not None and not record.is_blank)

    @property
    def balance_raw(self) -> int | None:
        """Balance of the purse, unsigned 32 bits."""
        value: int | None = self.value(PURSE)
        return value

    @property
    def balance_fen(self) -> int | None:
        """Balance in fen; of a charge card the counter that stands in its place, with its sign."""
        raw, card = self.balance_raw, self.card_file
        return purse.signed_balance(raw) if raw is not None and card is not None and card.is_charge_card else raw

    @property
    def holder(self) -> Holder | None:
        """File 0016, where it was asked for."""
        value: Holder | None = self.value(HOLDER)
        return value

    @property
    def locked(self) -> bool:
        """True when the application answered its selection as one that the issuer has blocked."""
        return self.files[APPLICATION].sw in LOCKED

    @property
    def kind(self) -> CardKind:
        """Kind of card."""
        application, issue = self.files[APPLICATION], self.files.get(CARD_FILE)
        if application.sw != SW_OK and not self.locked:
            return CardKind.BLANK if application.data == PAYMENT_DIRECTORY else CardKind.OTHER
        card = self.card_file
        if issue is not None and issue.blank:
            return CardKind.BLANK
        if card is not None:
            return CardKind.ETC if card.looks_like_etc else CardKind.OTHER
        entry = self.files.get(ENTRY)
        if self.locked or (entry is not None and entry.data.startswith(STATION_HEADER)):
            return CardKind.DAMAGED
        if issue is not None and issue.readable:
            return CardKind.PURSE
        return CardKind.PURSE if self.balance_raw is not None else CardKind.BLANK

    @property
    def warnings(self) -> tuple[tuple[str, str], ...]:
        """Odd things on the card: name of the file and a sentence."""
        return tuple((file.name, text) for file in self.files.values() for text in file.warnings)

    @property
    def damaged(self) -> tuple[FileRead, ...]:
        """Files that every ETC card has and this one does not give, or with bytes that are none of theirs."""
        return tuple(
            file
            for file in self.files.values()
            if file.problem is not None and (file.name in NEEDED or (file.file == LOG and file.sw not in ABSENT))
        )


NEEDED: Final = (CARD_FILE, ENTRY, PURSE)
"""Files without which no charge point can sell to a card. The log of a new card has no record yet."""


@dataclass(frozen=True, slots=True)
class Identified:
    """Card as a purchase needs it: who it is, where it entered, what it holds."""

    card: CardFile
    station: bytes = field(repr=False)
    """Record AA of file 0019 as it stands there."""
    balance_raw: int


async def read_card(slot: CardSlot, *, holder: bool = False) -> CardContents:
    """Read a card whole. `holder`: also its holder's name and document, which few have a reason to read.

    Raises DeviceError when the card goes away, and for nothing that it answers.
    """
    async with slot.alone():
        reads = [await _select(slot)]
        if reads[0].sw == SW_OK or reads[0].sw in LOCKED:
            reads.append(await _issue_file(slot))
            reads += await _records(slot, STATIONS, commands.SFI_STATIONS, STATION_RECORDS_MAX, STATION_BYTES)
            reads += [await _binary(slot, TOLL, commands.SFI_TOLL)]
            reads += await _records(slot, LOG, commands.SFI_TRANSACTIONS, LOG_RECORDS_MAX, TRANSACTION_BYTES)
            reads += [await _binary(slot, FLAG_STATIONS, SFI_FLAG_STATIONS)]
            reads += [await _binary(slot, FREE_AREA, commands.SFI_FREE_AREA)]
            reads.append(await _balance(slot))
            if holder:
                reads.append(await _holder(slot))
        return CardContents(slot.name, slot.atr, {read.name: read for read in reads})


async def identify(slot: CardSlot) -> Identified | str:
    """Read what a purchase needs of a card; the code of the reason where it cannot have one.

    The caller keeps others away (`CardSlot.alone`) from before this until the purchase has ended. Raises DeviceError
    when the card goes away.
    """
    application = await _select(slot)
    if application.sw != SW_OK:
        return "card_locked" if application.sw in LOCKED else "card_not_etc"
    reads = [application, await _issue_file(slot), await _record(slot, STATIONS, commands.SFI_STATIONS, 1)]
    reads.append(await _balance(slot))
    contents = CardContents(slot.name, slot.atr, {read.name: read for read in reads})
    reason = _KIND_REASONS.get(contents.kind)
    if reason is not None:
        return reason
    card, station, balance = contents.card_file, contents.station, contents.balance_raw
    if card is None or station is None or balance is None:
        return "card_unreadable"
    return Identified(card, station.raw, balance)


_KIND_REASONS: Final[Mapping[CardKind, str]] = MappingProxyType(
    {
        CardKind.DAMAGED: "card_unreadable",
        CardKind.PURSE: "card_not_etc",
        CardKind.BLANK: "card_blank",
        CardKind.OTHER: "card_not_etc",
    }
)

SFI_FLAG_STATIONS: Final = 0x08


# --- reading --------------------------------------------------------------------------------------------------------


async def _ask(slot: CardSlot, command: Command) -> Response:
    """Answer to a command; one that follows no rule reads as 6F00, *no diagnosis*, and the reading goes on."""
    try:
        return await slot.transmit(command)
    except RemoteProtocolError:
        return Response(b"", SW_NO_DIAGNOSIS)


async def _select(slot: CardSlot) -> FileRead:
    """Select the application, by its id and else by its name; where there is none, see what the card is made for."""
    answer = await _ask(slot, commands.select_id(commands.ETC_APPLICATION))
    if not answer.ok:
        answer = await _ask(slot, commands.select_name(commands.ETC_AID))
    if answer.ok or answer.sw in LOCKED:
        return FileRead(APPLICATION, answer.sw, answer.data)
    root = await _ask(slot, commands.select_name(PAYMENT_DIRECTORY))
    return FileRead(APPLICATION, answer.sw, PAYMENT_DIRECTORY if root.ok else b"")


async def _issue_file(slot: CardSlot) -> FileRead:
    """Read file 0015: 50 bytes, or 43 where the card will not give so many."""
    best = Response(b"", SW_FILE_NOT_FOUND)
    for length in CARD_FILE_LENGTHS:
        answer = await _ask(slot, commands.read_binary(commands.SFI_CARD_FILE, length))
        if answer.ok:
            return FileRead(CARD_FILE, answer.sw, answer.data)
        best = answer if len(answer.data) >= len(best.data) else best
        if answer.sw not in _SHORTER:
            break
    else:
        # Shorter than any ETC card's: worth seeing all the same.
        answer = await _ask(slot, commands.read_binary(commands.SFI_CARD_FILE, LE_MAX))
        best = answer if answer.ok or len(answer.data) > len(best.data) else best
    return FileRead(CARD_FILE, best.sw, best.data)


_SHORTER: Final = frozenset({SW_WRONG_LENGTH, SW_OFFSET, SW_END_OF_FILE})
"""Answers of a card whose file is shorter than was asked for."""


async def _binary(slot: CardSlot, name: str, sfi: int) -> FileRead:
    """Read a file of unknown length: as much as one answer takes, and on from there."""
    answer = await _whole(slot, lambda length: commands.read_binary(sfi, length), _LENGTHS_OF_FILES.get(name, 128))
    data = answer.data
    while answer.ok and len(answer.data) == LE_MAX and len(data) < FILE_BYTES_MAX:
        more = await _ask(slot, commands.read_current(len(data), LE_MAX))
        if not more.data:
            break
        data += more.data
        answer = Response(more.data, SW_OK if more.sw == SW_END_OF_FILE else more.sw)
    return FileRead(name, answer.sw, data)


_LENGTHS_OF_FILES: Final[Mapping[str, int]] = MappingProxyType({TOLL: 40, FLAG_STATIONS: 128, FREE_AREA: LE_MAX})


async def _whole(slot: CardSlot, command: Callable[[int], Command], length: int) -> Response:
    """Answer to a read with no length named, and where the card wants one, with the length it should have."""
    answer = await _ask(slot, command(LE_MAX))
    if answer.data or answer.sw not in _SHORTER:
        return answer
    return await _ask(slot, command(length))


async def _records(slot: CardSlot, name: str, sfi: int, most: int, length: int) -> list[FileRead]:
    """Read records one after another until the card has no more; the first is told even where there is none."""
    reads = [await _record(slot, name, sfi, 1, length)]
    for number in range(2, most + 1) if reads[0].readable else ():
        read = await _record(slot, name, sfi, number, length)
        if read.sw in ABSENT:
            break
        reads.append(read)
    return reads


async def _record(slot: CardSlot, name: str, sfi: int, number: int, length: int = STATION_BYTES) -> FileRead:
    answer = await _whole(slot, lambda le: commands.read_record(sfi, number, le), length)
    return FileRead(f"{name}/{number}", answer.sw, answer.data)


async def _balance(slot: CardSlot) -> FileRead:
    answer = await _ask(slot, purse.get_balance())
    return FileRead(PURSE, answer.sw, answer.data)


async def _holder(slot: CardSlot) -> FileRead:
    """Read file 0016, which stands in the application on some cards and in the root on others. Leaves the application
    in that case: nothing is read after it."""
    read = await _binary(slot, HOLDER, commands.SFI_HOLDER)
    if read.sw not in ABSENT:
        return read
    await _ask(slot, commands.select_id(commands.MF))
    return await _binary(slot, HOLDER, commands.SFI_HOLDER)


# --- content --------------------------------------------------------------------------------------------------------


def _decode_toll(data: bytes) -> Station:
    """File 0012 is record AA without its head."""
    return decode_station(STATION_HEADER + data)


def _describe_issue_file(data: bytes, unmask: bool) -> list[FieldText]:
    """Fields of file 0015, which transit cards fill otherwise."""
    transit = len(data) == TRANSIT_FILE.fixed_size
    return (describe_transit_file if transit else describe_card_file)(data, unmask=unmask)


def _describe_toll(data: bytes, unmask: bool) -> list[FieldText]:
    head = len(STATION_HEADER)
    fields = describe_station(STATION_HEADER + data, unmask=unmask)
    return [one._replace(offset=one.offset - head) for one in fields if one.offset >= head]


_CODECS: Final[Mapping[str, Callable[[bytes], object]]] = MappingProxyType(
    {
        CARD_FILE: decode_card_file,
        ENTRY: decode_station,
        TOLL: _decode_toll,
        LOG: decode_transaction_log,
        HOLDER: decode_holder,
        PURSE: purse.parse_balance,
    }
)

_LENGTHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        CARD_FILE: " / ".join(map(str, CARD_FILE_LENGTHS)),
        STATIONS: str(STATION_BYTES),
        TOLL: str(STATION_BYTES - len(STATION_HEADER)),
        LOG: str(TRANSACTION_BYTES),
        HOLDER: str(HOLDER_BYTES),
        PURSE: "4",
    }
)

_DESCRIBERS: Final[Mapping[str, Callable[[bytes, bool], list[FieldText]]]] = MappingProxyType(
    {
        CARD_FILE: _describe_issue_file,
        STATIONS: lambda data, unmask: describe_record(data, unmask=unmask),
        ENTRY: lambda data, unmask: describe_station(data, unmask=unmask),
        TOLL: _describe_toll,
        LOG: lambda data, unmask: describe_transaction_log(data, unmask=unmask),
        HOLDER: lambda data, unmask: describe_holder(data, unmask=unmask),
    }
)
