"""Cards as a desk meets them, whole and damaged, as emulated chips."""

from collections.abc import Callable
from dataclasses import replace

from hardware.bench.chip_slot import ChipSlot
from hardware.emulators.card import UserCard, make_card
from hardware.emulators.chip import Chip, Instruction, Refused
from protocols.card import commands, station_new
from protocols.card.apdu import Command, Response

PLATE = "测A12345"
NUMBER = "99012301220100000001"


def fixed(length: int) -> bytes:
    return bytes(range(1, length + 1))


def entry(**facts) -> bytes:
    """Record AA of a vehicle that entered at 9901 0105 on 1 March 2024."""
    known = {
        "network": "9901",
        "station": "0105",
        "lane": 1,
        "unix_seconds": 1709263815,
        "vehicle_class": 1,
        "status": 3,
        "plate": PLATE,
        "plate_colour": 0,
    }
    return station_new(**known | facts)


def user_card(**facts) -> UserCard:
    return make_card(**{"plate": PLATE, "balance_raw": 50_000, "random": fixed, "station": entry()} | facts)


def with_file(card: UserCard, sfi: int, change: Callable[[bytes], bytes]) -> UserCard:
    """The card with another content of a file, as no command would write it."""
    stored = card._stored
    card._stored = replace(stored, files={**stored.files, sfi: change(stored.files[sfi])})
    return card


def with_transaction(card: UserCard, sequence: int = 1) -> UserCard:
    """The card with one purchase in its log, and the counter that it left."""
    record = sequence.to_bytes(2, "big") + bytes(6) + b"\x64\x09" + bytes.fromhex("01020304050620251201120000")
    card._stored = replace(card._stored, log=(record,), offline_sequence=sequence)
    return card


class Refusing(Chip):
    """A card that answers commands of one kind with a status word, and all others as it always does."""

    def __init__(self, card: Chip, refuses: Callable[[Command], bool], sw: int, data: bytes = b"") -> None:
        self._card, self._refuses, self._answer = card, refuses, Response(data, sw)

    def process(self, command: bytes) -> bytes:
        return self._answer.encode() if self._refuses(Command.decode(command)) else self._card.process(command)

    def reset(self) -> None:
        self._card.reset()


def reads_record(sfi: int, number: int | None = None) -> Callable[[Command], bool]:
    return lambda c: c.ins == 0xB2 and c.p2 >> 3 == sfi and number in (None, c.p1)


def reads_file(sfi: int) -> Callable[[Command], bool]:
    return lambda c: c.ins == 0xB0 and c.p1 == 0x80 | sfi


def selects_application(command: Command) -> bool:
    return command.ins == 0xA4 and command.data in (b"\x10\x01", commands.ETC_AID)


class Strange(Chip):
    """A chip without the application: of payments or of anything."""

    def __init__(self, *, payments: bool) -> None:
        self._payments = payments
        super().__init__(random=fixed)

    def _instructions(self):
        return {(0x00, 0xA4): Instruction(self._select)}

    def _select(self, command: Command) -> bytes:
        if self._payments and command.data == b"1PAY.SYS.DDF01":
            return b""
        raise Refused(0x6A82)


def transit_card() -> UserCard:
    """A purse card with the same application id: 30 bytes in file 0015, no file 0019."""
    card = with_file(user_card(), commands.SFI_CARD_FILE, lambda data: bytes(range(30)))
    return Refusing(card, reads_record(commands.SFI_STATIONS), 0x6A82)


def in_slot(chip: Chip) -> ChipSlot:
    return ChipSlot("desk", chip)
