"""An emulated PSAM: terminal number, MAC1 and MAC2 of purchases, decryption of vehicle files.

It holds nothing but the published roots of `test_keys`, and refuses to exist in production. Chained MACs (80FA with P1
07, 03, 01) are left out, since no source says how they start; they answer 6A86.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import Final

from hardware.emulators.card import FCI_MF
from hardware.emulators.chip import (
    SW_BLOCKED,
    SW_NO_REFERENCE,
    SW_TRIES,
    SW_WRONG_P1P2,
    TRIES_MAX,
    Chip,
    Instruction,
    InstructionTable,
    RandomSource,
    Refused,
    file_address,
    read_part,
)
from hardware.emulators.issuers import issuing_region
from hardware.emulators.test_keys import ROOTS
from protocols.card import apdu, layout
from protocols.card.apdu import Command
from protocols.card.codes import TradeType
from protocols.card.commands import MF
from protocols.card.psam import AUTHORISATION_KEY, PSAM_APPLICATION, Crypt, KeyKind, KeyUsage
from protocols.card.psam_profiles import NATIONAL, PsamProfile
from protocols.crypto import Algorithm, Trade, diversify, mac1, mac2, session_key, tac_key, vehicle_mac
from protocols.crypto.keys import FACTOR_BYTES
from protocols.crypto.primitives import (
    decrypt,
    des_cbc_mac_blocks,
    encrypt,
    retail_mac_blocks,
    sm4_cbc_mac_blocks,
)
from protocols.crypto.purse import MAC_BYTES
from protocols.crypto.vehicle import RANDOM_BYTES

FCI_APPLICATION: Final = bytes.fromhex("6F098407A0000003869801")
"""FCI of the application as in the computed sessions; real content differs by maker (inferred)."""

TERMINAL_DEFAULT: Final = bytes.fromhex("019900000001")
SERIAL_DEFAULT: Final = bytes.fromhex("99010000000000000017")

SERIAL_MODULUS: Final = 1 << 32

SW_WRONG_DATA: Final = 0x6A80
SW_STATE: Final = 0x6901
SW_COUNTER_FULL: Final = 0x9402
SW_KEY_INDEX: Final = 0x9403

_PURCHASE_HEAD = 20
"""Bytes of 8070 before the diversification factors."""


class SoftwarePsamRefusedError(ValueError):
    """Refusal to build a software PSAM for production."""


class _Section(Enum):
    """MF and DF01 have files of the same short ids."""

    MF = "mf"
    APPLICATION = "application"


@dataclass(frozen=True, slots=True)
class PsamStored:
    """State of a PSAM that survives power loss."""

    terminal_serial: int
    """Last number given out."""
    auth_tries: int = TRIES_MAX


@dataclass(frozen=True, slots=True)
class _Opened:
    """Purchase between 8070 and 8072: the MAC2 it must get."""

    mac2: bytes


class Psam(Chip):
    """One PSAM. `process` takes a command APDU and returns the response APDU; `reset` is power off and on."""

    def __init__(
        self,
        *,
        mode: str,
        terminal: bytes = TERMINAL_DEFAULT,
        serial: bytes = SERIAL_DEFAULT,
        network: str = "9901",
        terminal_serial: int = 0,
        serial_step: int = 1,
        algorithms: frozenset[Algorithm] = frozenset(Algorithm),
        key_type: int = Algorithm.DES3,
        starts: date = date(2024, 1, 1),
        expires: date = date(2034, 1, 1),
        long_application_file: bool = False,
        authorisation_needed: bool = False,
        auth_tries: int = TRIES_MAX,
        profile: PsamProfile = NATIONAL,
        t0: bool = False,
        random: RandomSource = secrets.token_bytes,
    ) -> None:
        """`mode`: of the site file; *production* is refused with SoftwarePsamRefusedError.

        `terminal_serial`: last number given out. Real PSAMs do not always count in ones, hence `serial_step`.
        `algorithms`: purse key sets it has. `key_type` is only what file 0015 says. `authorisation_needed`: 8070 and
        801A are refused until an external authentication with key 41 succeeds. `auth_tries`: left for that; 0: locked.
        """
        if mode.strip().lower() == "production":
            raise SoftwarePsamRefusedError("a software PSAM with published keys cannot serve in production")
        super().__init__(random=random, t0=t0)
        region = issuing_region(network)
        self._algorithms = algorithms
        self._profile = profile
        self._serial_step = serial_step
        self._stored: PsamStored = PsamStored(terminal_serial, auth_tries)
        self._needs_authorisation = authorisation_needed or profile.authorisation_needed
        self._authorised = not self._needs_authorisation
        self._terminal = bytes(terminal)
        # The 8 bytes behind the network of the serial, and the area as second factor (one source, bytes inferred).
        authorisation_factors = (region.factor, serial[2:])
        self._authorisation_leaf = diversify(
            ROOTS[KeyKind.EXTERNAL_AUTH, Algorithm.SM4], authorisation_factors, Algorithm.SM4
        )
        application = {
            "key_index": 0x01,
            "issuer": region.text_bytes + bytes.fromhex(network) + b"\x00\x01",
            "area": region.factor,
            "starts": starts,
            "expires": expires,
        }
        if long_application_file:
            application_file = layout.PSAM_APPLICATION_LONG.build(
                **application, reserved=bytes(1), sm4_key_index=Algorithm.SM4.vehicle_key_index
            )
        else:
            application_file = layout.PSAM_APPLICATION_SHORT.build(**application)
        self._files = {
            (_Section.MF, 0x15): layout.PSAM_ISSUE.build(
                serial=serial, version=0x01, key_type=key_type, issuer_free=bytes(2)
            ),
            (_Section.MF, 0x16): self._terminal,
            (_Section.APPLICATION, 0x17): application_file,
        }
        self._section = _Section.MF
        self._opened: _Opened | None = None
        self._leaf: tuple[KeyUsage, bytes] | None = None

    @property
    def terminal(self) -> bytes:
        """The 6-byte terminal number of file 0016."""
        return self._terminal

    @property
    def terminal_serial(self) -> int:
        """The last terminal transaction number given out."""
        return self._stored.terminal_serial

    def reset(self) -> None:
        """Power off and on. The terminal serial stays, an authorisation does not."""
        super().reset()
        self._section = _Section.MF
        self._opened = None
        self._leaf = None
        self._authorised = not self._needs_authorisation

    def _instructions(self) -> InstructionTable:
        return {
            (0x00, 0xA4): Instruction(self._select),
            (0x00, 0xB0): Instruction(self._read_binary),
            (0x00, 0x82): Instruction(self._authorise, data_bytes=8),
            (0x80, 0x70): Instruction(self._init_purchase, answer_bytes=8),
            (0x80, 0x72): Instruction(self._credit_purchase, data_bytes=MAC_BYTES),
            (0x80, 0x1A): Instruction(self._init_for_decrypt),
            (0x80, 0xFA): Instruction(self._crypt),
        }

    def _select(self, command: Command) -> bytes:
        file_id = int.from_bytes(command.data, "big") if command.p1 == 0 and len(command.data) == 2 else None
        answers = {MF: (_Section.MF, FCI_MF), PSAM_APPLICATION: (_Section.APPLICATION, FCI_APPLICATION)}
        if file_id not in answers:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        self._section, fci = answers[file_id]
        self._opened = None
        self._leaf = None
        return fci

    def _read_binary(self, command: Command) -> bytes:
        sfi, offset = file_address(command)
        if sfi is None or (self._section, sfi) not in self._files:
            raise Refused(apdu.SW_FILE_NOT_FOUND)
        return read_part(self._files[self._section, sfi], offset, command.le)

    def _authorise(self, command: Command) -> bytes:
        """On-line authorisation by a centre, where a province asks for it (one source)."""
        if (command.p1, command.p2) != (0x00, AUTHORISATION_KEY):
            raise Refused(SW_NO_REFERENCE)
        if self._stored.auth_tries == 0:
            raise Refused(SW_BLOCKED)
        right = self._external_auth_ok(command, self._authorisation_leaf, Algorithm.SM4)
        tries = TRIES_MAX if right else self._stored.auth_tries - 1
        self._stored = replace(self._stored, auth_tries=tries)
        if not right:
            raise Refused(SW_TRIES | tries)
        self._authorised = True
        return b""

    def _init_purchase(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refused(SW_WRONG_P1P2)
        if not self._authorised:
            raise Refused(apdu.SW_SECURITY)
        if self._section is not _Section.APPLICATION:
            raise Refused(apdu.SW_CONDITIONS)
        data = command.data
        if len(data) not in (_PURCHASE_HEAD + FACTOR_BYTES, _PURCHASE_HEAD + 2 * FACTOR_BYTES):
            raise Refused(apdu.SW_WRONG_LENGTH)
        self._opened = None
        card_random, offline_sequence, amount = data[:4], int.from_bytes(data[4:6], "big"), data[6:10]
        trade_type, time, key_version, algorithm_id = data[10], data[11:18], data[18], data[19]
        if trade_type not in (TradeType.PURCHASE, TradeType.COMPOSITE) or not time.hex().isdigit():
            raise Refused(SW_WRONG_DATA)
        algorithm = next((known for known in self._algorithms if known == algorithm_id), None)
        # That the key version must belong to the algorithm is inferred; the pairs 01/00 and 41/04 are agreed.
        if algorithm is None or key_version != algorithm.purse_key_index:
            raise Refused(SW_KEY_INDEX)
        serial = self._next_serial()
        leaf = diversify(ROOTS[KeyKind.PURCHASE, algorithm], _region_first(data[_PURCHASE_HEAD:]), algorithm)
        session = session_key(leaf, card_random, offline_sequence, serial, algorithm)
        trade = Trade(int.from_bytes(amount, "big"), trade_type, self._terminal)
        self._opened = _Opened(mac2(session, trade, algorithm))
        return serial.to_bytes(4, "big") + mac1(session, trade, time, algorithm)

    def _next_serial(self) -> int:
        serial = self._stored.terminal_serial + self._serial_step
        if serial >= SERIAL_MODULUS:
            raise Refused(SW_COUNTER_FULL)
        self._stored = replace(self._stored, terminal_serial=serial)
        return serial

    def _credit_purchase(self, command: Command) -> bytes:
        opened, self._opened = self._opened, None
        if opened is None:
            raise Refused(SW_STATE)
        if command.data != opened.mac2:
            raise Refused(apdu.SW_MAC)
        return b""

    def _init_for_decrypt(self, command: Command) -> bytes:
        if not self._authorised:
            raise Refused(apdu.SW_CONDITIONS)  # field notes name 6985 here and 6982 at 8070
        usage = self._profile.usages.get((command.p1, command.p2))
        if usage is None:
            raise Refused(SW_WRONG_P1P2)
        if len(command.data) != usage.levels * FACTOR_BYTES:
            raise Refused(apdu.SW_WRONG_LENGTH)
        if usage.algorithm not in self._algorithms:
            raise Refused(SW_NO_REFERENCE)  # inferred: no source names the answer for a key that is not there
        root = ROOTS[usage.kind, usage.algorithm]
        self._leaf = (usage, diversify(root, _region_first(command.data), usage.algorithm))
        return b""

    def _crypt(self, command: Command) -> bytes:
        if self._leaf is None:
            raise Refused(SW_STATE)
        usage, leaf = self._leaf
        block = usage.algorithm.block_bytes
        data = command.data
        if command.p1 not in {function.value for function in self._profile.functions}:
            raise Refused(SW_WRONG_P1P2)
        if command.p1 == Crypt.VEHICLE_MAC.value and usage.kind is KeyKind.VEHICLE:
            if len(data) <= RANDOM_BYTES:
                raise Refused(apdu.SW_WRONG_LENGTH)
            return vehicle_mac(leaf, data[RANDOM_BYTES:], data[:RANDOM_BYTES], usage.algorithm)
        if not data or len(data) % block:
            raise Refused(apdu.SW_WRONG_LENGTH)
        if command.p1 == Crypt.ENCRYPT.value:
            return encrypt(leaf, data, usage.algorithm)
        if command.p1 == Crypt.DECRYPT.value:
            return decrypt(leaf, data, usage.algorithm)
        if command.p1 == Crypt.MAC.value:
            return _mac(usage, leaf, data[:block], data[block:])
        raise Refused(SW_WRONG_P1P2)


def _mac(usage: KeyUsage, leaf: bytes, iv: bytes, blocks: bytes) -> bytes:
    """MAC of 80FA 05: the chain that belongs to the key's use."""
    if not blocks:
        raise Refused(apdu.SW_WRONG_LENGTH)
    if usage.algorithm is Algorithm.SM4:
        chained = sm4_cbc_mac_blocks(leaf, blocks, iv)
    elif usage.kind is KeyKind.TAC:
        chained = des_cbc_mac_blocks(tac_key(leaf, usage.algorithm), blocks, iv)
    else:
        chained = retail_mac_blocks(leaf, blocks, iv)
    return chained[:MAC_BYTES]


def _region_first(factors: bytes) -> tuple[bytes, ...]:
    """Factors come leaf first; keys are derived region first."""
    leaf_factor, region = factors[:FACTOR_BYTES], factors[FACTOR_BYTES:]
    return (region, leaf_factor) if region else (leaf_factor,)
