"""Cards that are no ETC cards, as they come to a reader all the same: blank ones, transit cards, cards of anybody.

None of them can be written to, so they have no state.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hardware.emulators.card import DIRECTORY_NAME, FCI_MF, tlv
from hardware.emulators.chip import (
    SW_WRONG_LE,
    SW_WRONG_P1P2,
    Chip,
    Instruction,
    InstructionTable,
    RandomSource,
    Refused,
    file_address,
    read_part,
)
from protocols.card import apdu
from protocols.card.apdu import LE_MAX, Command
from protocols.card.commands import ETC_AID, ETC_APPLICATION, MF, SFI_CARD_FILE, SFI_TRANSACTIONS

PUBLIC_BYTES: Final = 30
"""Length of a transit card's file 0015: by this it is told from an ETC card with the same application id."""

SW_NO_RECORD: Final = 0x6A83


@dataclass(frozen=True, slots=True)
class Folder:
    """One directory of such a card."""

    fci: bytes
    files: Mapping[int, bytes] = field(default_factory=dict)
    """Transparent files by short id."""
    records: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict)
    """Files of records by short id."""
    balance: bytes | None = None
    """4 bytes, where there is a purse."""


class FilesCard(Chip):
    """Card of directories that are read freely; it knows no command that writes."""

    def __init__(self, folders: Mapping[bytes, Folder], *, random: RandomSource, t0: bool = False) -> None:
        """`folders`: by what SELECT calls them, an id or a name. Without any, SELECT finds nothing."""
        super().__init__(random=random, t0=t0)
        self._folders = folders
        self._folder = self._root = folders.get(MF.to_bytes(2, "big"), Folder(b""))

    def reset(self) -> None:
        """Power off and on."""
        super().reset()
        self._folder = self._root

    def _instructions(self) -> InstructionTable:
        return {
            (0x00, 0xA4): Instruction(self._select),
            (0x00, 0xB0): Instruction(self._read_binary),
            (0x00, 0xB2): Instruction(self._read_record),
            (0x80, 0x5C): Instruction(self._get_balance, answer_bytes=4),
        }

    def _select(self, command: Command) -> bytes:
        if command.data not in self._folders:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        self._folder = self._folders[command.data]
        return self._folder.fci

    def _read_binary(self, command: Command) -> bytes:
        sfi, offset = file_address(command)
        if sfi is None or sfi not in self._folder.files:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        return read_part(self._folder.files[sfi], offset, command.le)

    def _read_record(self, command: Command) -> bytes:
        records = self._folder.records.get(command.p2 >> 3)
        if records is None:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        if not 1 <= command.p1 <= len(records):
            raise Refused(SW_NO_RECORD)
        record = records[command.p1 - 1]
        if command.le not in (None, LE_MAX, len(record)):
            raise Refused(SW_WRONG_LE | len(record))
        return record

    def _get_balance(self, command: Command) -> bytes:
        if self._folder.balance is None:
            raise Refused(apdu.SW_CONDITIONS)
        if (command.p1, command.p2) != (0x00, 0x02):
            raise Refused(SW_WRONG_P1P2)
        return self._folder.balance


class ForeignCard(Chip):
    """Card of somebody else that finds nothing, whatever it is asked for."""

    def __init__(self, *, random: RandomSource = secrets.token_bytes) -> None:
        super().__init__(random=random)

    def _instructions(self) -> InstructionTable:
        return {}

    def _dispatch(self, command: Command) -> bytes:
        raise Refused(apdu.SW_FILE_NOT_FOUND)


def blank_card(*, formatted: bool, t0: bool = False, random: RandomSource = secrets.token_bytes) -> FilesCard:
    """A card as the factory delivers it. `formatted`: it has its root, and nothing in it."""
    root = Folder(FCI_MF)
    folders = {MF.to_bytes(2, "big"): root, DIRECTORY_NAME: root} if formatted else {}
    return FilesCard(folders, t0=t0, random=random)


def transit_card(
    *,
    public: bytes,
    balance_raw: int,
    log: tuple[bytes, ...] = (),
    t0: bool = False,
    random: RandomSource = secrets.token_bytes,
) -> FilesCard:
    """A transit card, which has the application id of ETC cards (verified on published traces).

    `public`: its file 0015 of 30 bytes, which SELECT tells too, in tag 9F0C. `log`: file 0018, newest first.
    """
    if len(public) != PUBLIC_BYTES:
        raise ValueError(f"a transit card's file 0015 has {PUBLIC_BYTES} bytes, not {len(public)}")
    about = bytes.fromhex("9F080102") + b"\x9f\x0c" + bytes((len(public),)) + public
    application = Folder(
        tlv(0x6F, tlv(0x84, ETC_AID) + tlv(0xA5, about)),
        files={SFI_CARD_FILE: public},
        records={SFI_TRANSACTIONS: log},
        balance=balance_raw.to_bytes(4, "big"),
    )
    root = Folder(FCI_MF)
    folders = {
        MF.to_bytes(2, "big"): root,
        DIRECTORY_NAME: root,
        ETC_APPLICATION.to_bytes(2, "big"): application,
        ETC_AID: application,
    }
    return FilesCard(folders, t0=t0, random=random)
