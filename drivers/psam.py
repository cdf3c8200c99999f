"""PSAM in a slot: the terminal's keys, which never leave it, at work for one user at a time.

A purchase is 8070 before the card debits and 8072 after it; a leaf key is 801A and the 80FA that uses it. Both are
pairs that another command between them would break, so each runs within a *turn*:

    async with psam.turn():
        made = await psam.open_purchase(opened, ...)    # spends one terminal number
        ...                                             # the card debits
        right = await psam.close_purchase(proof.mac2)

What a PSAM answers is compared with what it was asked and with what it said before. One that contradicts itself raises
`RemoteProtocolError`; one that says no raises `DeviceRefused` in a technician's words; silence and removal are the
errors of its slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final

from drivers.card_slot import CardSlot
from drivers.errors import DeviceRefused
from protocols.card import apdu, commands, psam
from protocols.card.apdu import Command, Response, status_text
from protocols.card.psam import Crypt, KeyKind, PsamApplication, PsamIssue, SamPurchase
from protocols.card.psam_profiles import NATIONAL, PsamProfile
from protocols.card.purse import PurchaseOpened
from protocols.codings import time_bytes
from protocols.crypto import Algorithm, MacVerdict, Trade, judge_vehicle_mac, split_vehicle_block, tac_input
from protocols.crypto.keys import FACTOR_BYTES
from protocols.crypto.primitives import pad
from protocols.crypto.purse import MAC_BYTES
from protocols.crypto.vehicle import vehicle_mac_input
from protocols.errors import LocalProtocolError, RemoteProtocolError

_SHORTER_READ: Final = frozenset({0x6282, apdu.SW_WRONG_LENGTH, 0x6B00})
"""Answers of a file that is shorter than what was asked of it."""

_NO_SUCH_KEY: Final = frozenset({0x6A80, 0x6A81, 0x6A86, 0x6A88, 0x6D00, apdu.SW_KEY_INDEX})
"""Answers to 801A of a PSAM that does not have this key, or not under these P1 and P2."""

_NOT_AUTHORISED: Final = frozenset({apdu.SW_SECURITY, apdu.SW_CONDITIONS})
"""Answers to 801A of a PSAM that no centre has authorised: field notes name 6985, PBOC 6982."""

_PROBE_FACTOR: Final = bytes(FACTOR_BYTES)
"""Factor of a leaf that is derived and never used."""


class PsamCannot(DeviceRefused):
    """A PSAM does not have the key that was asked for: another PSAM may."""


class PsamRefused(DeviceRefused):
    """A PSAM said no, with this status word."""

    def __init__(self, problem: str, *, device: str, sw: int, hint: str | None) -> None:
        super().__init__(f"{problem} (SW {sw:04X})", device=device, hint=hint)
        self.sw = sw


class KeyState(Enum):
    """State of one key of a PSAM, as far as it tells without being used."""

    PRESENT = "present"
    ABSENT = "absent"
    LOCKED = "locked"
    """The PSAM must be authorised first."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PsamInfo:
    """Files of a PSAM."""

    issue: PsamIssue
    terminal: bytes
    """6 bytes, as INITIALIZE FOR PURCHASE, MAC1 and TAC want them."""
    application: PsamApplication

    @property
    def starts(self) -> date | None:
        """First day of validity."""
        return self.application.starts

    @property
    def expires(self) -> date | None:
        """Last day of validity."""
        return self.application.expires

    @property
    def has_sm4(self) -> bool:
        """True when its files tell of SM4 keys (key type agreed, key index one source)."""
        return self.issue.key_type == Algorithm.SM4 or bool(self.application.sm4_key_index)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts on what is odd about its files."""
        return self.issue.warnings + self.application.warnings


@dataclass(frozen=True, slots=True)
class VehicleRead:
    """Vehicle file of a tag in clear."""

    data: bytes
    mac: MacVerdict


class Psam:
    """One PSAM, from its reset to its removal."""

    def __init__(self, slot: CardSlot, *, profile: PsamProfile = NATIONAL) -> None:
        """`profile`: its maker's or province's ways."""
        self._slot = slot
        self._profile = profile
        self._lock = asyncio.Lock()
        self._in_application = False
        self._info: PsamInfo | None = None
        self._terminal_serial: int | None = None

    @property
    def name(self) -> str:
        """Name of its reader."""
        return self._slot.name

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have the PSAM for oneself: against other tasks, and against other programs. Not to be nested."""
        async with self._lock, self._slot.alone():
            yield

    async def info(self) -> PsamInfo:
        """Files of the PSAM. It leaves the application for them, which may cost an authorisation: read them first.

        Raises RemoteProtocolError when serial or terminal number are not those it had before.
        """
        async with self.turn():
            await self._select(commands.MF)
            issue = psam.decode_issue(await self._ask(psam.read_issue(), "reading file 0015"))
            terminal = psam.decode_terminal(await self._ask(psam.read_terminal(), "reading file 0016"))
            await self._select(self._profile.application)
            info = PsamInfo(issue, terminal, psam.decode_application(await self._application_file()))
        known = self._info
        if known is not None and (known.terminal, known.issue.serial) != (info.terminal, info.issue.serial):
            raise RemoteProtocolError(
                f"PSAM in {self.name} is another one than before", hint="open it again, and nothing of the one before"
            )
        self._info = info
        return info

    # --- purchase: within a turn -------------------------------------------------------------------------------------

    async def open_purchase(
        self,
        opened: PurchaseOpened,
        *,
        amount_fen: int,
        trade_type: int,
        time: str,
        inner_number: bytes,
        region: bytes,
    ) -> SamPurchase:
        """Terminal serial and MAC1 for a card's purchase (8070). Spends one terminal number, whatever follows.

        Raises RemoteProtocolError for a terminal serial that has not moved on since the last one.
        """
        self._expect_turn()
        await self._enter()
        command = psam.init_sam_for_purchase(
            opened,
            amount_fen=amount_fen,
            trade_type=trade_type,
            time=time,
            inner_number=inner_number,
            region=region if self._profile.levels == 2 else None,
        )
        made = psam.parse_sam_purchase(await self._ask(command, "MAC1"))
        last, self._terminal_serial = self._terminal_serial, made.terminal_serial
        if last is not None and made.terminal_serial <= last:
            raise RemoteProtocolError(
                f"terminal serial {made.terminal_serial} of the PSAM in {self.name} follows {last}",
                hint="it must move on with each purchase: take this PSAM out of service",
            )
        return made

    async def close_purchase(self, mac2: bytes) -> bool:
        """Verdict on the card's MAC2 (8072). False: it is wrong, and the purchase is doubtful."""
        self._expect_turn()
        response = await self._slot.transmit(psam.credit_sam_for_purchase(mac2))
        if response.sw == apdu.SW_MAC:
            return False
        self._good(response, "MAC2")
        return True

    # --- leaf keys: each a turn of its own ---------------------------------------------------------------------------

    async def decrypt_vehicle(
        self,
        cipher: bytes,
        *,
        contract_serial: bytes,
        region: bytes,
        algorithm: Algorithm,
        rsu_random: bytes | None = None,
    ) -> VehicleRead:
        """Vehicle file of a tag; with the `rsu_random` it was read with, its MAC is checked too.

        Raises RemoteProtocolError for what does not decrypt to a vehicle file, `PsamCannot` without such a key.
        """
        if not cipher or len(cipher) % algorithm.block_bytes:
            raise RemoteProtocolError(
                f"{len(cipher)} cipher bytes are not whole blocks of {algorithm.block_bytes}", field="80FA"
            )
        async with self.turn():
            await self._derive(KeyKind.VEHICLE, algorithm, contract_serial, region)
            plain = await self._crypt(Crypt.DECRYPT, cipher, len(cipher))
            block = split_vehicle_block(plain, algorithm)
            if rsu_random is None:
                return VehicleRead(block.data, MacVerdict.NOT_CHECKED)
            wanted = vehicle_mac_input(block.data, rsu_random, algorithm)
            computed = await self._crypt(Crypt.ENCRYPT, wanted, len(wanted))
        return VehicleRead(block.data, judge_vehicle_mac(block.mac, computed, algorithm))

    async def verify_tac(
        self,
        tac: bytes,
        *,
        trade: Trade,
        terminal_serial: int,
        time: str,
        inner_number: bytes,
        region: bytes,
        algorithm: Algorithm,
    ) -> bool:
        """Verdict on a TAC. Raises `PsamCannot` for a PSAM without TAC keys, which most in lanes are."""
        covered = pad(tac_input(trade, terminal_serial, time_bytes(time)), algorithm.block_bytes)
        async with self.turn():
            await self._derive(KeyKind.TAC, algorithm, inner_number, region)
            computed = await self._crypt(Crypt.MAC, bytes(algorithm.block_bytes) + covered, MAC_BYTES)
        return computed == tac

    async def key_state(self, kind: KeyKind, algorithm: Algorithm) -> KeyState:
        """State of a key, told by deriving a leaf that nobody uses: it spends no terminal number."""
        if self._profile.usage_of(kind, algorithm) is None:
            return KeyState.UNKNOWN
        async with self.turn():
            await self._enter()
            command = self._profile.derive(kind, algorithm, _PROBE_FACTOR, _PROBE_FACTOR)
            sw = (await self._slot.transmit(command)).sw
        if sw == apdu.SW_OK:
            return KeyState.PRESENT
        if sw in _NO_SUCH_KEY:
            return KeyState.ABSENT
        return KeyState.LOCKED if sw in _NOT_AUTHORISED else KeyState.UNKNOWN

    # --- authorisation by a centre -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def authorisation(self) -> AsyncIterator[bytes]:
        """Challenge of 8 bytes for a centre, which `authorise` is to answer before this turn ends."""
        async with self.turn():
            await self._enter()
            length = psam.AUTHORISATION_CHALLENGE_BYTES
            yield await self._ask(commands.get_challenge(length), "a challenge", answer_bytes=length)

    async def authorise(self, proof: bytes) -> None:
        """Answer the challenge with the centre's 8 bytes. A wrong answer costs one of a few tries: never repeat it."""
        self._expect_turn()
        await self._ask(commands.external_authenticate(psam.AUTHORISATION_KEY, proof), "authorisation")

    # --- exchanges ---------------------------------------------------------------------------------------------------

    def _expect_turn(self) -> None:
        if not self._lock.locked():
            raise LocalProtocolError("a purchase at a PSAM needs a turn")

    async def _enter(self) -> None:
        """Be in the application. It is selected once: selecting it again may undo an authorisation."""
        if not self._in_application:
            await self._select(self._profile.application)

    async def _select(self, file_id: int) -> None:
        self._in_application = False
        await self._ask(commands.select_id(file_id), f"selecting {file_id:04X}")
        self._in_application = file_id == self._profile.application

    async def _application_file(self) -> bytes:
        longest, *shorter = self._profile.application_bytes
        response = await self._slot.transmit(psam.read_application(longest))
        for length in shorter:
            if response.sw in _SHORTER_READ:
                response = await self._slot.transmit(psam.read_application(length))
        return self._good(response, "reading file 0017")

    async def _derive(self, kind: KeyKind, algorithm: Algorithm, leaf_factor: bytes, region: bytes) -> None:
        key = f"{algorithm.title} {kind.value} key"
        if self._profile.usage_of(kind, algorithm) is None:
            raise PsamCannot(
                f"PSAM profile {self._profile.name} has no {key}",
                device=self.name,
                hint="name the profile of its maker, or use a PSAM that has this key",
            )
        await self._enter()
        response = await self._slot.transmit(self._profile.derive(kind, algorithm, leaf_factor, region))
        if response.sw in _NO_SUCH_KEY:
            raise PsamCannot(
                f"PSAM has no {key} (SW {response.sw:04X})",
                device=self.name,
                hint="name the profile of its maker, or use a PSAM that has this key",
            )
        if response.sw in _NOT_AUTHORISED:
            raise self._refused(apdu.SW_SECURITY, response.sw, key)
        self._good(response, key)

    async def _crypt(self, function: Crypt, data: bytes, answer_bytes: int) -> bytes:
        command = self._profile.crypt(function, data, answer_bytes)
        return await self._ask(command, f"function {function.name}", answer_bytes=answer_bytes)

    async def _ask(self, command: Command, what: str, *, answer_bytes: int | None = None) -> bytes:
        data = self._good(await self._slot.transmit(command), what)
        if answer_bytes not in (None, len(data)):
            raise RemoteProtocolError(f"{len(data)} bytes, {answer_bytes} wanted", field=what, offset=0)
        return data

    def _good(self, response: Response, what: str) -> bytes:
        if not response.ok:
            raise self._refused(response.sw, response.sw, what)
        return response.data

    def _refused(self, meaning: int, sw: int, what: str) -> PsamRefused:
        if meaning == apdu.SW_CONDITIONS:
            self._in_application = False  # somebody else may have left it
        known = _REFUSALS.get(meaning)
        if known is None:
            problem, hint = f"PSAM refused {what}: {status_text(sw).en}", None
        else:
            problem, hint = known
        return PsamRefused(problem, device=self.name, sw=sw, hint=hint)


_LOCKED: Final = ("PSAM is locked", "it does not come back by itself: change it, and return it to who issued it")

_REFUSALS: Final = {
    apdu.SW_SECURITY: ("PSAM is not authorised", "have the centre authorise it"),
    apdu.SW_CONDITIONS: (
        "PSAM is not in a state to do this",
        "another program may use it: end that one, and try again",
    ),
    0x6901: ("PSAM has no purchase open", "it was reset or used by another program since MAC1"),
    apdu.SW_KEY_INDEX: ("PSAM has no key for this card", "cards with SM4 keys need a PSAM that has them too"),
    0x6983: _LOCKED,
    0x9303: _LOCKED,
    0x9402: ("PSAM has no terminal numbers left", "change the PSAM"),
    apdu.SW_FILE_NOT_FOUND: ("PSAM lacks a file that every PSAM has", "look whether a PSAM is in this slot"),
}
"""Problem and cure of refusals that mean the same for whatever was asked."""
