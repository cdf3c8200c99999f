"""Work of an antenna with one vehicle, APDU by APDU: identify it, read it, debit it, fetch a lost TAC.

It talks to the emulated chips with the commands of `protocols.card` and `protocols.obu` and reports in the terms of
B2, B4, B5 and B8 frames. Radio time, repeats and frames are the antenna emulator's business.

Error codes are those of pcrsu-v3 for gantry interface V3.1 to V3.4 (one source, complete tables).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from hardware.emulators.card import TRANSACTIONS_MAX, UserCard
from hardware.emulators.chip import Chip, RandomSource
from hardware.emulators.obu import Obu
from hardware.emulators.psam import Psam
from protocols.card import commands, decode_card_file, decode_transaction_log, psam, purse, time_bytes
from protocols.card.apdu import Command, Response
from protocols.card.codes import TradeType
from protocols.card.files import CARD_FILE_LENGTHS, CardFile
from protocols.card.psam_profiles import NATIONAL
from protocols.card.station import STATION_BYTES
from protocols.crypto import Algorithm, split_vehicle_block, vehicle_mac_input
from protocols.crypto.vehicle import RANDOM_BYTES, VehicleBlock
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.obu import SystemInfo, decode_system_info
from protocols.obu.commands import OBU_APPLICATION, read_obu_id, read_system_info, read_vehicle
from protocols.rsu.messages import DeviceType

VEHICLE_BYTES: Final = 79
VEHICLE_LENGTHS: Final = (79, 59, 16)
"""Lengths to ask the ESAM for, longest first: older tags have shorter files."""

CARD_FILE_BYTES: Final = 50
LOG_BYTES: Final = 23
"""One record of file 0018."""
CPC_PROVINCE_BYTES: Final = 4
CPC_FEE_BYTES: Final = 10


class ReadError(IntEnum):
    """B4 codes that occur on the bench; `NO_ANSWER` is for the antenna emulator, whose radio can fail."""

    OK = 0x00
    NO_ANSWER = 0x01
    VEHICLE_UNDECIPHERABLE = 0x05
    VEHICLE_CHECKSUM = 0x06
    NO_CARD = 0x11
    CARD_FAILED = 0x15


class DebitError(IntEnum):
    """B5 codes that occur on the bench."""

    OK = 0x00
    NO_ANSWER = 0x01
    """The purchase may have happened: only 805A, or the card seen again, tells."""
    MAC1_FAILED = 0x06
    MAC2_FAILED = 0x07
    """Result where the card debited, but the PSAM rejects its MAC2; the TAC stands."""
    PURCHASE_FAILED = 0x11


class TacError(IntEnum):
    """B8 codes that occur on the bench; `NO_ANSWER` is for the antenna emulator, whose radio can fail."""

    OK = 0x00
    NO_ANSWER = 0x01
    TAC_FAILED = 0x04


@dataclass(frozen=True, slots=True)
class Identity:
    """Content of a B2."""

    obu_id: bytes
    device_type: DeviceType
    system_info: SystemInfo
    """27 bytes in `.raw`."""
    status: bytes


@dataclass(frozen=True, slots=True)
class UserData:
    """Content of a B4. Missing parts are zeros, as on the wire."""

    error: ReadError
    vehicle_file: bytes = field(default=bytes(VEHICLE_BYTES), repr=False)
    """79 bytes, in clear."""
    balance_raw: int = 0
    card_file: bytes = field(default=bytes(CARD_FILE_BYTES), repr=False)
    """0015 in 50 bytes; a one-piece tag's EF07 head instead."""
    station: bytes = field(default=bytes(STATION_BYTES), repr=False)
    """43 bytes: file 0019 (two-piece), EF02 (one-piece), EF01 (CPC)."""
    cpc_province: bytes | None = None
    """4 bytes, CPC cards only."""
    cpc_fee: bytes | None = None
    """10 bytes, CPC cards only."""


@dataclass(frozen=True, slots=True)
class PurchaseResult:
    """Content of a B5. None: the antenna never learned it."""

    error: DebitError
    terminal: bytes
    time: str
    trade_type: int
    tac: bytes | None = None
    mac2_ok: bool | None = None
    """Verdict of the PSAM on MAC2; None when it was not asked."""
    card_serial: int | None = None
    """Offline sequence after the purchase = value of the 8050 answer + 1: the number under which 805A finds it.

    Whether real antennas put this or the 8050 value into B5 is not established (inferred from how C8 must work).
    """
    psam_serial: int | None = None
    balance_raw: int | None = None
    key_version: int | None = None
    algorithm: Algorithm | None = None


@dataclass(frozen=True, slots=True)
class TacAnswer:
    """Content of a B8."""

    error: TacError
    tac: bytes = bytes(4)
    mac: bytes = bytes(4)
    balance_raw: int = 0


@dataclass(frozen=True, slots=True)
class LoggedPurchase:
    """A purchase as the card's own file 0018 tells it."""

    card_serial: int
    terminal: bytes
    time: str
    """YYYYMMDDhhmmss"""


class RefusedByChipError(Exception):
    """A chip answered something else than 9000."""

    def __init__(self, command: Command, sw: int) -> None:
        super().__init__(f"{command.cla:02X}{command.ins:02X} answered {sw:04X}")
        self.sw = sw


class AirTransaction:
    """One vehicle in front of one antenna, as long as it is there."""

    def __init__(
        self,
        obu: Obu,
        card: UserCard | None,
        sam: Psam,
        *,
        random: RandomSource = secrets.token_bytes,
    ) -> None:
        """`random`: source of the antenna's own challenges for encrypted reads."""
        self._obu = obu
        self._card = card if obu.device_type is DeviceType.TWO_PIECE else None
        self._sam = sam
        self._random = random

    def identify(self) -> Identity:
        """Wake the tag: id, system information, status."""
        esam = self._obu.esam
        _send(esam, commands.select_id(commands.MF))
        return Identity(
            obu_id=_send(esam, read_obu_id()),
            device_type=self._obu.device_type,
            system_info=decode_system_info(_send(esam, read_system_info())),
            status=self._obu.status(card_present=self._card is not None),
        )

    def read_vehicle(self) -> UserData:
        """Read the vehicle file alone; what a card would tell stays zero."""
        try:
            vehicle = self._read_vehicle()
        except (RefusedByChipError, RemoteProtocolError):
            return UserData(ReadError.VEHICLE_UNDECIPHERABLE)
        if vehicle is None:
            return UserData(ReadError.VEHICLE_CHECKSUM)
        return UserData(ReadError.OK, vehicle.ljust(VEHICLE_BYTES, b"\0"))

    def read_card(self, vehicle_file: bytes = bytes(VEHICLE_BYTES)) -> UserData:
        """Read card file, station record and balance of the card in a two-piece tag."""
        if self._card is None:
            return UserData(ReadError.NO_CARD, vehicle_file)
        try:
            return self._read_card(self._card, vehicle_file)
        except RefusedByChipError:
            return UserData(ReadError.CARD_FAILED, vehicle_file)

    def read_user(self) -> UserData:
        """Read vehicle file, card file, station record and balance, whatever of them this device has."""
        if self._obu.device_type is DeviceType.CPC_CARD:
            return self._read_cpc()
        vehicle = self.read_vehicle()
        if vehicle.error is not ReadError.OK:
            return vehicle
        if self._obu.device_type is DeviceType.ONE_PIECE:
            return self._read_one_piece(vehicle.vehicle_file)
        return self.read_card(vehicle.vehicle_file)

    def purchase(
        self,
        amount_fen: int,
        time: str,
        station: bytes,
        *,
        region: bytes | None = None,
        lose_answer: bool = False,
        leave_before_debit: bool = False,
    ) -> PurchaseResult:
        """One composite purchase. `time` is YYYYMMDDhhmmss, `station` the new 43-byte record AA.

        `region`: 8-byte factor the lane computer names; default the card's own. `lose_answer`: the card debits but its
        answer never arrives. `leave_before_debit`: the card is gone before 8054, so it does not debit. Both end in
        error 01, and nothing in the result tells them apart.
        """
        terminal = self._terminal()
        failed = PurchaseResult(DebitError.PURCHASE_FAILED, terminal, time, TradeType.COMPOSITE)
        if self._card is None:
            return failed
        try:
            time_bytes(time)
            card_file = self._card_file(self._card)
            opened = self._open_purchase(self._card, card_file, amount_fen, terminal)
            _send(self._card, purse.update_cache(commands.RECORD_AA, station))
        except (RefusedByChipError, LocalProtocolError):
            return failed  # the latter: what the lane computer asked for cannot be said to a card
        known = PurchaseResult(
            DebitError.MAC1_FAILED,
            terminal,
            time,
            TradeType.COMPOSITE,
            card_serial=opened.proof_sequence,
            balance_raw=opened.balance_raw,
            key_version=opened.key_version,
            algorithm=opened.algorithm,
        )
        try:
            sam_purchase = self._authorise(opened, card_file, amount_fen, time, region)
        except RefusedByChipError:
            return known
        debit = purse.debit(sam_purchase.terminal_serial, time, sam_purchase.mac1)
        if leave_before_debit:
            self._card.reset()
            return _silent(known, sam_purchase)
        try:
            proof = purse.parse_debit(_send(self._card, debit))
        except RefusedByChipError:
            return failed
        if lose_answer:
            return _silent(known, sam_purchase)
        mac2_ok = _answer(self._sam, psam.credit_sam_for_purchase(proof.mac2)).ok
        return PurchaseResult(
            DebitError.OK if mac2_ok else DebitError.MAC2_FAILED,
            terminal,
            time,
            TradeType.COMPOSITE,
            tac=proof.tac,
            mac2_ok=mac2_ok,
            card_serial=opened.proof_sequence,
            psam_serial=sam_purchase.terminal_serial,
            balance_raw=purse.parse_balance(_send(self._card, purse.get_balance())),
            key_version=opened.key_version,
            algorithm=opened.algorithm,
        )

    def fetch_tac(self, card_serial: int) -> TacAnswer:
        """Ask the card for the proof of the purchase it ended with this offline sequence."""
        if self._card is None:
            return TacAnswer(TacError.TAC_FAILED)
        try:
            _send(self._card, commands.select_id(commands.ETC_APPLICATION))
            balance_raw = purse.parse_balance(_send(self._card, purse.get_balance()))
            answer = _answer(self._card, purse.transaction_prove(card_serial))
        except RefusedByChipError:
            return TacAnswer(TacError.TAC_FAILED)
        if not answer.ok:
            return TacAnswer(TacError.TAC_FAILED, balance_raw=balance_raw)
        proof = purse.parse_transaction_prove(answer.data)
        return TacAnswer(TacError.OK, proof.tac, proof.mac2, balance_raw)

    def newest_purchase(self) -> LoggedPurchase | None:
        """The card's newest composite purchase, None when its file 0018 tells of none."""
        if self._card is None:
            return None
        try:
            _send(self._card, commands.select_id(commands.ETC_APPLICATION))
            for number in range(1, TRANSACTIONS_MAX + 1):
                raw = _send(self._card, commands.read_record(commands.SFI_TRANSACTIONS, number, LOG_BYTES))
                record = decode_transaction_log(raw)
                if record.is_blank:
                    break
                if record.trade_type == TradeType.COMPOSITE:
                    return LoggedPurchase(record.sequence, record.terminal, raw[-7:].hex())
        except RefusedByChipError:
            pass  # a card that does not let its log be read tells of none
        return None

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read_vehicle(self) -> bytes | None:
        """The vehicle file in clear, as long as the tag has it; None when its checksum is wrong."""
        esam = self._obu.esam
        _send(esam, commands.select_id(commands.MF))
        system = decode_system_info(_send(esam, read_system_info()))
        _send(esam, commands.select_id(OBU_APPLICATION))
        rsu_random = self._random(RANDOM_BYTES)
        cipher = self._longest_vehicle(rsu_random, system.algorithm)
        _send(self._sam, commands.select_id(psam.PSAM_APPLICATION))
        derive = NATIONAL.derive(psam.KeyKind.VEHICLE, system.algorithm, system.contract_serial, system.region_factor)
        _send(self._sam, derive)
        plain = _send(self._sam, psam.crypt(psam.Crypt.DECRYPT, cipher, len(cipher)))
        block = split_vehicle_block(plain, system.algorithm)
        return block.data if self._checks(block, rsu_random, system.algorithm) else None

    def _longest_vehicle(self, rsu_random: bytes, algorithm: Algorithm) -> bytes:
        asked = [read_vehicle(rsu_random, length, algorithm) for length in VEHICLE_LENGTHS]
        for command in asked[:-1]:
            answer = _answer(self._obu.esam, command)
            if answer.ok:
                return answer.data
        return _send(self._obu.esam, asked[-1])

    def _checks(self, block: VehicleBlock, rsu_random: bytes, algorithm: Algorithm) -> bool:
        """True when the MAC is right. The PSAM still has the leaf, and the MAC is one encrypted block."""
        wanted = vehicle_mac_input(block.data, rsu_random, algorithm)
        return _send(self._sam, psam.crypt(psam.Crypt.ENCRYPT, wanted, len(wanted))) == block.mac

    def _read_card(self, card: UserCard, vehicle_file: bytes) -> UserData:
        card_file = self._card_file(card)
        station = _send(card, commands.read_record(commands.SFI_STATIONS, 1, STATION_BYTES))
        balance_raw = purse.parse_balance(_send(card, purse.get_balance()))
        padded = card_file.raw.ljust(CARD_FILE_BYTES, b"\0")
        return UserData(ReadError.OK, vehicle_file, balance_raw, padded, station)

    def _card_file(self, card: UserCard) -> CardFile:
        """Select the ETC application and read file 0015: 50 bytes, or 43 on older cards."""
        _send(card, commands.select_id(commands.ETC_APPLICATION))
        longer, shorter = (commands.read_binary(commands.SFI_CARD_FILE, length) for length in CARD_FILE_LENGTHS)
        answer = _answer(card, longer)
        return decode_card_file(answer.data if answer.ok else _send(card, shorter))

    def _read_one_piece(self, vehicle_file: bytes) -> UserData:
        esam = self._obu.esam
        split = _send(esam, commands.read_binary(0x07, 43))
        station = _send(esam, commands.read_binary(0x02, STATION_BYTES))
        return UserData(ReadError.OK, vehicle_file, 0, split.ljust(CARD_FILE_BYTES, b"\0"), station)

    def _read_cpc(self) -> UserData:
        esam = self._obu.esam
        _send(esam, commands.select_id(OBU_APPLICATION))
        return UserData(
            ReadError.OK,
            station=_send(esam, commands.read_binary(0x01, STATION_BYTES)),
            cpc_province=_send(esam, commands.read_binary(0x02, CPC_PROVINCE_BYTES)),
            cpc_fee=_send(esam, commands.read_binary(0x04, CPC_FEE_BYTES)),
        )

    # --- debiting ---------------------------------------------------------------------------------------------------

    def _terminal(self) -> bytes:
        _send(self._sam, commands.select_id(commands.MF))
        return psam.decode_terminal(_send(self._sam, psam.read_terminal()))

    def _open_purchase(
        self, card: UserCard, card_file: CardFile, amount_fen: int, terminal: bytes
    ) -> purse.PurchaseOpened:
        """8050 with the key the card's version asks for."""
        init = purse.init_purchase(card_file.algorithm.purse_key_index, amount_fen, terminal)
        return purse.parse_purchase_opened(_send(card, init))

    def _authorise(
        self, opened: purse.PurchaseOpened, card_file: CardFile, amount_fen: int, time: str, region: bytes | None
    ) -> psam.SamPurchase:
        _send(self._sam, commands.select_id(psam.PSAM_APPLICATION))
        command = psam.init_sam_for_purchase(
            opened,
            amount_fen=amount_fen,
            trade_type=TradeType.COMPOSITE,
            time=time,
            inner_number=card_file.inner_number,
            region=card_file.region_factor if region is None else region,
        )
        return psam.parse_sam_purchase(_send(self._sam, command))


def _silent(known: PurchaseResult, sam_purchase: psam.SamPurchase) -> PurchaseResult:
    """The purchase whose end the antenna did not hear: what it knew before 8054, and no balance."""
    return PurchaseResult(
        DebitError.NO_ANSWER,
        known.terminal,
        known.time,
        known.trade_type,
        card_serial=known.card_serial,
        psam_serial=sam_purchase.terminal_serial,
        key_version=known.key_version,
        algorithm=known.algorithm,
    )


def _answer(chip: Chip, command: Command) -> Response:
    answer = Response.decode(chip.process(command.encode()))
    if answer.sw >> 8 == 0x61:  # a chip on T=0
        return Response.decode(chip.process(commands.get_response(answer.sw & 0xFF).encode()))
    return answer


def _send(chip: Chip, command: Command) -> bytes:
    """The answer's data; raises RefusedByChipError for anything but 9000."""
    answer = _answer(chip, command)
    if not answer.ok:
        raise RefusedByChipError(command, answer.sw)
    return answer.data
