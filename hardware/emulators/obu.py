"""An emulated OBU: the ESAM with its files, and the tag around it.

Two-piece tags hold a user card, one-piece tags (contract version 52) do not, and CPC cards are handed out at manual
entries; RSUs see all three. `Esam` is the chip, `Obu` adds what the chip does not know: the kind of device, the glass
it sticks to, the battery.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import Final

from hardware.emulators.card import FCI_MF
from hardware.emulators.chip import (
    SW_NO_CURRENT_FILE,
    SW_NO_REFERENCE,
    SW_WRONG_P1P2,
    Chip,
    Instruction,
    InstructionTable,
    RandomSource,
    Refused,
    file_address,
    read_part,
    write_part,
)
from hardware.emulators.issuers import issuing_region
from hardware.emulators.test_keys import LeafKeys
from protocols.card import apdu
from protocols.card.apdu import Command
from protocols.card.commands import MF
from protocols.card.psam import KeyKind
from protocols.crypto import Algorithm, seal_vehicle
from protocols.obu import SystemInfo, decode_system_info, obu_status_new, system_info_new, vehicle_file_new
from protocols.obu.commands import OBU_APPLICATION, SFI_SYSTEM
from protocols.obu.system_info import MOUNT_FITTED, MOUNT_REMOVED, VERSION_ONE_PIECE
from protocols.rsu.messages import DeviceType

FCI_APPLICATION: Final = bytes.fromhex("6F0B8409A00000000386980702")
"""FCI of the application as in the computed sessions (inferred)."""

SYSTEM_FILE_BYTES: Final = 99
"""Length of MF/EF01 as issued (one source). Readers take the first 26 or 27 bytes."""

STATION_FILE_BYTES: Final = 101
"""DF01/EF02: 43 bytes of entry data on a one-piece OBU, 101 of pass data on a CPC card (one source)."""

ROUTE_FILE_BYTES: Final = 512
"""DF01/EF04. Known parts end at 0199; the length is inferred."""

SPLIT_FILE_BYTES: Final = 103
"""DF01/EF07 of a one-piece OBU: 43 bytes read like a card, 60 more like EF04 (one source)."""

VEHICLE_KEY_INDICES: Final = {0x00: Algorithm.DES3, 0x40: Algorithm.SM4}
"""Key indices of the encrypted read. Real ESAMs have two more of each; the bench has no roots for them."""

OBU_ID_BYTES: Final = 4
SW_WRONG_FILE: Final = 0x6981


class Directory(Enum):
    """Directory of the ESAM that is selected."""

    MF = MF
    APPLICATION = OBU_APPLICATION


@dataclass(frozen=True, slots=True)
class File:
    """One file's place: directory and short id, EFnn having id nn."""

    directory: Directory
    sfi: int


SYSTEM_FILE: Final = File(Directory.MF, SFI_SYSTEM)
VEHICLE_FILE: Final = File(Directory.APPLICATION, 0x01)
STATION_FILE: Final = File(Directory.APPLICATION, 0x02)
ROUTE_FILE: Final = File(Directory.APPLICATION, 0x04)
SPLIT_FILE: Final = File(Directory.APPLICATION, 0x07)


@dataclass(frozen=True, slots=True)
class EsamStored:
    """State of an ESAM that survives power loss: its files by directory id and short id, the vehicle file apart."""

    files: Mapping[int, Mapping[int, bytes]]
    vehicle_file: bytes | None

    def content(self, file: File) -> bytes | None:
        """Bytes of a file in clear, None when there is none."""
        return self.files[file.directory.value].get(file.sfi)

    def written(self, file: File, content: bytes) -> EsamStored:
        """State with another content of a file."""
        directory = file.directory.value
        return replace(self, files={**self.files, directory: {**self.files[directory], file.sfi: content}})


class Esam(Chip):
    """The secure chip of an OBU or CPC card. The vehicle file, where there is one, is read encrypted only."""

    def __init__(
        self,
        *,
        obu_id: bytes,
        system_info: bytes,
        vehicle_file: bytes | None,
        files: dict[File, bytes],
        random: RandomSource,
        t0: bool = False,
    ) -> None:
        """`system_info`: 27 bytes; its contract serial and region diversify the keys. `files`: what else there is."""
        super().__init__(random=random, t0=t0)
        decoded = decode_system_info(system_info)
        self._obu_id = obu_id
        self._line_algorithm = decoded.algorithm
        self._algorithms = frozenset({Algorithm.DES3, decoded.algorithm})
        self._keys = LeafKeys((decoded.region_factor, decoded.contract_serial))
        whole = {SYSTEM_FILE: system_info.ljust(SYSTEM_FILE_BYTES, b"\0"), **files}
        by_directory = {
            directory.value: {file.sfi: content for file, content in whole.items() if file.directory is directory}
            for directory in Directory
        }
        self._stored: EsamStored = EsamStored(by_directory, vehicle_file)
        self._directory = Directory.MF
        self._current: int | None = None

    @property
    def system_info(self) -> SystemInfo:
        """The first 27 bytes of MF/EF01 as they stand."""
        return decode_system_info(self._stored.files[MF][SFI_SYSTEM][:27])

    def reset(self) -> None:
        """Power off and on."""
        super().reset()
        self._directory = Directory.MF
        self._current = None

    def content(self, file: File) -> bytes | None:
        """A file's bytes for tests, None when it does not exist."""
        return self._stored.content(file)

    def _instructions(self) -> InstructionTable:
        return {
            (0x00, 0xA4): Instruction(self._select),
            (0x00, 0xB0): Instruction(self._read_binary),
            (0x00, 0xB4): Instruction(self._read_vehicle, data_bytes=10),
            (0x00, 0xD6): Instruction(self._update_binary),
            (0x04, 0xD6): Instruction(self._update_protected),
            (0x80, 0xF6): Instruction(self._get_id, answer_bytes=OBU_ID_BYTES),
        }

    def _select(self, command: Command) -> bytes:
        if command.p1 != 0 or len(command.data) != 2:
            raise Refused(SW_WRONG_P1P2 if command.p1 else apdu.SW_WRONG_LENGTH)
        file_id = int.from_bytes(command.data, "big")
        if file_id in (MF, OBU_APPLICATION):
            self._directory = Directory(file_id)
            self._current = None
            return FCI_MF if file_id == MF else FCI_APPLICATION
        sfi = file_id & 0xFF
        if file_id >> 8 != 0xEF or not self._exists(sfi):
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        self._current = sfi
        return b""

    def _exists(self, sfi: int) -> bool:
        file = File(self._directory, sfi)
        known = self._stored.content(file) is not None
        return known or (file == VEHICLE_FILE and self._stored.vehicle_file is not None)

    def _addressed(self, command: Command) -> tuple[File, bytes, int]:
        sfi, offset = file_address(command)
        if sfi is None:
            if self._current is None:
                raise Refused(SW_NO_CURRENT_FILE)
            sfi = self._current
        if not self._exists(sfi):
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        self._current = sfi
        file = File(self._directory, sfi)
        content = self._stored.content(file)
        if content is None:
            raise Refused(apdu.SW_SECURITY)  # the vehicle file: encrypted read only
        return file, content, offset

    def _read_binary(self, command: Command) -> bytes:
        _, content, offset = self._addressed(command)
        return read_part(content, offset, command.le)

    def _update_binary(self, command: Command) -> bytes:
        file, content, offset = self._addressed(command)
        if file == SYSTEM_FILE:
            raise Refused(apdu.SW_SECURITY)
        # Real ESAMs want an external authentication for some of these; which is not known, so the bench asks for none.
        self._stored = self._stored.written(file, write_part(content, offset, command.data))
        return b""

    def _update_protected(self, command: Command) -> bytes:
        file, content, offset = self._addressed(command)
        if file != SYSTEM_FILE:
            raise Refused(SW_WRONG_FILE)
        leaf = self._keys[KeyKind.MAINTENANCE, self._line_algorithm]
        data = self._protected_data(command, leaf, self._line_algorithm)
        self._stored = self._stored.written(file, write_part(content, offset, data))
        return b""

    def _read_vehicle(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refused(SW_WRONG_P1P2)
        vehicle_file = self._stored.vehicle_file
        if self._directory is not Directory.APPLICATION or vehicle_file is None:
            raise Refused(apdu.SW_CONDITIONS)
        rsu_random, length, key_index = command.data[:8], command.data[8], command.data[9]
        algorithm = VEHICLE_KEY_INDICES.get(key_index)
        if algorithm is None or algorithm not in self._algorithms:
            raise Refused(SW_NO_REFERENCE)
        if not 0 < length <= len(vehicle_file):
            raise Refused(apdu.SW_WRONG_LENGTH)  # inferred
        return seal_vehicle(self._keys[KeyKind.VEHICLE, algorithm], vehicle_file[:length], rsu_random, algorithm)

    def _get_id(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x00, 0x03):
            raise Refused(SW_WRONG_P1P2)
        return self._obu_id


class Obu:
    """One tag, or one CPC card, as an antenna meets it."""

    def __init__(
        self,
        *,
        obu_id: bytes,
        device_type: DeviceType,
        esam: Esam,
        tampered: bool = False,
        battery_low: bool = False,
        locked: bool = False,
    ) -> None:
        if len(obu_id) != OBU_ID_BYTES:
            raise ValueError(f"an OBU id has {OBU_ID_BYTES} bytes, not {len(obu_id)}")
        self.obu_id = obu_id
        self.device_type = device_type
        self.esam = esam
        self.tampered = tampered
        """The tag's own switch. Writing the mount flag to the ESAM does not move it."""
        self.battery_low = battery_low
        self.locked = locked

    def status(self, *, card_present: bool, card_error: bool = False) -> bytes:
        """The two status bytes of the VST; the second is the ESAM's mount flag."""
        mount_flag = self.esam.system_info.mount_flag
        return obu_status_new(
            self.device_type,
            card_present=card_present,
            card_error=card_error,
            locked=self.locked,
            tampered=self.tampered,
            battery_low=self.battery_low,
            mount_flag=MOUNT_REMOVED if mount_flag is None else mount_flag,
        )


def make_obu(
    *,
    plate: str = "",
    plate_colour: int = 0,
    vehicle_class: int = 1,
    user_type: int = 0,
    obu_id: str = "08411A01",
    contract_serial: str = "9901230100000001",
    network: str = "9901",
    version: int | None = None,
    starts: date = date(2024, 1, 1),
    expires: date = date(2034, 1, 1),
    device_type: DeviceType = DeviceType.TWO_PIECE,
    vehicle_file: bytes | None = None,
    station: bytes | None = None,
    ef04: bool = False,
    tampered: bool = False,
    mount_flag: int | None = None,
    battery_low: bool = False,
    locked: bool = False,
    t0: bool = False,
    random: RandomSource = secrets.token_bytes,
) -> Obu:
    """A tag from its facts, issued by the region of `network` (9901: the fictional bench region).

    `version` defaults to 10 (3DES), or 52 (SM4) for a one-piece tag. `contract_serial` is 16 digits, on a CPC card its
    card id. `vehicle_file` replaces the 79-byte car form built from the facts. `station`: 43 bytes of entry data, for
    one-piece tags and CPC cards, which have no user card. `ef04`: a zero-filled route file; CPC cards always have one.
    `tampered` sets the status bit and, unless `mount_flag` says otherwise, mount flag 00.
    """
    region = issuing_region(network)
    cpc = device_type is DeviceType.CPC_CARD
    one_piece = device_type is DeviceType.ONE_PIECE
    if version is None:
        version = VERSION_ONE_PIECE if one_piece else 0x10
    if mount_flag is None:
        mount_flag = MOUNT_REMOVED if tampered else MOUNT_FITTED
    if vehicle_file is None and not cpc:
        vehicle_file = vehicle_file_new(
            plate=plate, plate_colour=plate_colour, vehicle_class=vehicle_class, user_type=user_type
        )
    entry = station if station is not None else bytes(43)
    files: dict[File, bytes] = {}
    if ef04 or cpc:
        files[ROUTE_FILE] = bytes(ROUTE_FILE_BYTES)
    if cpc:
        files[VEHICLE_FILE] = entry  # a CPC card knows no vehicle: its EF01 holds the entry, in clear
        files[STATION_FILE] = bytes(STATION_FILE_BYTES)
    if one_piece:
        files[STATION_FILE] = entry.ljust(STATION_FILE_BYTES, b"\0")
        files[SPLIT_FILE] = bytes(SPLIT_FILE_BYTES)
    raw_id = bytes.fromhex(obu_id)
    esam = Esam(
        obu_id=raw_id,
        system_info=system_info_new(
            issuer=region.text_bytes + bytes.fromhex(network) + b"\x00\x01",
            contract_serial=bytes.fromhex(contract_serial),
            starts=starts,
            expires=expires,
            version=version,
            mount_flag=mount_flag,
        ),
        vehicle_file=None if cpc else vehicle_file,
        files=files,
        t0=t0,
        random=random,
    )
    return Obu(
        obu_id=raw_id,
        device_type=device_type,
        esam=esam,
        tampered=tampered,
        battery_low=battery_low,
        locked=locked,
    )
