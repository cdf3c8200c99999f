"""Commands to an OBU's ESAM. Over the air the encrypted read is action GetSecure with the same parameters."""

from __future__ import annotations

from typing import Final

from protocols.card.apdu import Command
from protocols.card.commands import read_binary, update_protected
from protocols.crypto.algorithm import Algorithm
from protocols.crypto.keys import uint
from protocols.crypto.primitives import expect_length
from protocols.crypto.vehicle import RANDOM_BYTES

OBU_APPLICATION: Final = 0xDF01
EF_ROUTE: Final = 0xEF04
"""DF01/EF04, route and toll data."""

SFI_SYSTEM: Final = 0x01
MOUNT_FLAG_OFFSET: Final = 26

ROUTE_OFFSET: Final = 0x013A
ROUTE_BYTES: Final = 0x5B
"""The part of EF04 that gantries read and write (one source): bytes 315 to 405, counted from 1."""

PROVINCES_OFFSET: Final = ROUTE_OFFSET + ROUTE_BYTES
"""0195: fees of provinces, 4 bytes each (verified)."""


def read_obu_id() -> Command:
    """The 4-byte MAC id of the OBU (one source)."""
    return Command(0x80, 0xF6, 0x00, 0x03, le=4)


def read_system_info(length: int = 27) -> Command:
    """READ BINARY of MF/EF01, 26 or 27 bytes."""
    return read_binary(SFI_SYSTEM, length)


def read_vehicle(rsu_random: bytes, length: int, algorithm: Algorithm) -> Command:
    """Encrypted read of the vehicle file: `length` plain bytes (16, 59, 79), keyed by the RSU's 8-byte random."""
    data = (
        expect_length("rsu_random", rsu_random, RANDOM_BYTES)
        + uint(length, 1, "length")
        + bytes((algorithm.vehicle_key_index,))
    )
    return Command(0x00, 0xB4, 0x00, 0x00, data)


def set_mount_flag(flag: int) -> Command:
    """UPDATE BINARY of the mount flag, still without its line MAC."""
    return update_protected(SFI_SYSTEM, MOUNT_FLAG_OFFSET, uint(flag, 1, "flag"))
