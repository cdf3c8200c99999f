"""The encrypted read of an OBU's vehicle file.

The ESAM answers with length 1 | MAC | vehicle data | padding, encrypted block by block under the vehicle-data leaf
(root diversified by region and contract serial). The length byte counts MAC and data. Padding 80 00.. is there only
when the block is not full already (agreed).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from protocols.crypto.algorithm import Algorithm
from protocols.crypto.primitives import decrypt, encrypt, expect_length, pad
from protocols.errors import LocalProtocolError, RemoteProtocolError

CLAUSE = "OBE-SAM encrypted read"

RANDOM_BYTES = 8
"""The RSU's challenge in GetSecure and in command 00B4."""

_CRC_POLYNOMIAL = 0x8408
_CRC_START = 0xFFFF


class MacVerdict(Enum):
    """Verdict on the MAC of a vehicle read."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_CHECKED = "not_checked"
    """Another MAC than ours, made by a rule that no source gives: SM4."""


@dataclass(frozen=True, slots=True)
class VehicleBlock:
    """A decrypted vehicle read."""

    mac: bytes
    """8 bytes (3DES) or 16 (SM4)."""
    data: bytes = field(repr=False)
    """Vehicle file as far as it was asked for: 16, 59 or 79 bytes, or any other length."""


def crc16_obu(data: bytes) -> int:
    """CRC-16, polynomial 1021 reflected, start FFFF, no final inversion (verified on one capture)."""
    crc = _CRC_START
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ _CRC_POLYNOMIAL if crc & 1 else crc >> 1
    return crc


def vehicle_mac_input(data: bytes, rsu_random: bytes, algorithm: Algorithm) -> bytes:
    """The one block that is encrypted to give the MAC: CRC of the data, low byte first, then random[2:8].

    3DES verified on one capture. SM4 fills the 16-byte block with zeros (inferred): on a mismatch report *not
    checked* and do not reject.
    """
    expect_length("rsu_random", rsu_random, RANDOM_BYTES)
    return (crc16_obu(data).to_bytes(2, "little") + rsu_random[2:]).ljust(algorithm.block_bytes, b"\0")


def vehicle_mac(leaf: bytes, data: bytes, rsu_random: bytes, algorithm: Algorithm) -> bytes:
    """MAC over vehicle data and the RSU's random: one cipher block. Confidence as in `vehicle_mac_input`."""
    return encrypt(leaf, vehicle_mac_input(data, rsu_random, algorithm), algorithm)


def judge_vehicle_mac(read: bytes, computed: bytes, algorithm: Algorithm) -> MacVerdict:
    """Verdict on the MAC of a vehicle read against the one computed for its data and the RSU's random."""
    if read == computed:
        return MacVerdict.RIGHT
    return MacVerdict.WRONG if algorithm is Algorithm.DES3 else MacVerdict.NOT_CHECKED


def seal_vehicle(leaf: bytes, data: bytes, rsu_random: bytes, algorithm: Algorithm) -> bytes:
    """Answer of an ESAM to 00B4: the encrypted block for `data`. Inverse of `open_vehicle`."""
    mac = vehicle_mac(leaf, data, rsu_random, algorithm)
    if len(mac) + len(data) > 0xFF:
        raise LocalProtocolError(f"{len(data)} bytes do not fit one encrypted read", field="data", clause=CLAUSE)
    block = bytes([len(mac) + len(data)]) + mac + data
    full = len(block) % algorithm.block_bytes == 0
    return encrypt(leaf, block if full else pad(block, algorithm.block_bytes), algorithm)


def open_vehicle(leaf: bytes, cipher: bytes, algorithm: Algorithm) -> VehicleBlock:
    """Decrypt an answer to 00B4. The MAC is returned, not checked. Raises RemoteProtocolError for anything else."""
    if not cipher or len(cipher) % algorithm.block_bytes:
        raise RemoteProtocolError(
            f"{len(cipher)} cipher bytes are not whole blocks of {algorithm.block_bytes}",
            field="vehicle block",
            offset=0,
            hint="the wrong algorithm, or a truncated answer",
            clause=CLAUSE,
        )
    return split_vehicle_block(decrypt(leaf, cipher, algorithm), algorithm)


def split_vehicle_block(plain: bytes, algorithm: Algorithm) -> VehicleBlock:
    """Take apart what a PSAM decrypted. Raises RemoteProtocolError when length byte and padding do not fit.

    The check matters: a wrong key decrypts to random bytes without any other sign.
    """
    mac_bytes = algorithm.block_bytes
    length = plain[0] if plain else 0
    end = 1 + length
    padding = plain[end:]
    sound = (
        length > mac_bytes
        and end <= len(plain)
        and len(padding) < algorithm.block_bytes
        and padding in (b"", b"\x80".ljust(len(padding), b"\0"))
    )
    if not sound:
        raise RemoteProtocolError(
            f"length byte {length} does not fit a block of {len(plain)} bytes",
            field="vehicle block",
            offset=0,
            hint="decrypted with the wrong key, or not by this OBU: do not use this vehicle file",
            clause=CLAUSE,
        )
    return VehicleBlock(mac=plain[1 : 1 + mac_bytes], data=plain[1 + mac_bytes : end])
