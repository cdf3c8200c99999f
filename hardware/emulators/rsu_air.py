"""Work of the emulated antenna on the air: one pass over one vehicle, step by step, with its faults and its time.

The chips do the work (`hardware.emulators.transaction`); here are the radio that all vehicles share, the shares of air
time, the faults and pauses of a vehicle's script, and the reports that come of it. What the lane says to them, and what
follows, is `hardware.emulators.rsu_antenna`.

In the serial dialects an antenna writes an entry (C3) and fetches a lost result (C7) by commands whose work no
document tells. Here, all inferred: C3 and C7 carry the last 36 bytes of file 0019, and the antenna puts the file's
header and its own station before them; C3 is a composite purchase of zero, because a card takes that file in no other
way; C7 is GET TRANSACTION PROVE for the last purchase the antenna ordered from that OBU, else for the newest one in
the card's log, whichever time and station the lane names: the report has those of the purchase found. No table of
their error codes is known, so those of `pcrsu-v3` stand in for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from hardware.emulators.road import (
    PURCHASE_FAULTS,
    AntennaPsam,
    Event,
    FaultKind,
    Forgery,
    Mac1Fault,
    PausePoint,
    Phase,
    Vehicle,
)
from hardware.emulators.transaction import (
    AirTransaction,
    DebitError,
    LoggedPurchase,
    PurchaseResult,
    ReadError,
    TacAnswer,
    TacError,
    UserData,
)
from protocols.card.codes import TradeType
from protocols.card.layout import STATION_HEADER
from protocols.card.station import STATION_BYTES
from protocols.rsu.messages import (
    Debit,
    DebitResult,
    DeviceType,
    FetchTac,
    Message,
    ObuReport,
    RecoverTac,
    RsuMessage,
    TacResult,
    UserReport,
    VehicleReport,
    WriteEntry,
    WriteResult,
)

READ_SHARE, PURCHASE_SHARE, TAC_SHARE = 0.45, 0.55, 0.15
"""Parts of the radio time of a sale: before B4 and before B5. Asking for a TAC adds a little."""
VEHICLE_SHARE = 0.15
"""Part of the whole that the vehicle file takes where it is reported by itself (B3); B4 then takes so much less."""
CARD_SHARE = 0.6
"""Part of a purchase's radio time before the card debits; MAC2, SetMMI and EventReport come after it."""
JITTER = 0.1

ANTENNA_ID = 1
EQUIPMENT = 0x10
"""B2 EquipmentCV: device class 1, version 0."""
TRANS_TYPE_READ = 0x10
"""B4 TransType: composite purchase."""
TRANS_TYPE_ONE_PIECE = 0x80
BALANCE_UNREAD = 0xFFFFFFFF
"""B5 balance when it could not be read (as the older dialect has it; one source)."""

# B5 and B8 codes that `DebitError` and `TacError` leave out (one source, complete tables).
ONE_PIECE_NOT_WRITTEN = 0x0A
CPC_NOTHING_WRITTEN = 0x0E
EF04_ONLY_FAILED = 0x10
EF04_FAILED_TOO = 0x13
EF04_FAILED_PURCHASE_MADE = 0x14
EF04_FAILED_TAC_GIVEN = 0x05

NO_TIME = "00000000000000"
"""B5 purchase time when there is no purchase to tell of."""

TRADE_PURCHASE_ONLY = 2
TRADE_EF04_ONLY = 1

STATION_CODE_BYTES = 4
"""Length of network and station, after the header of file 0019."""
STATION_TAIL_BYTES = STATION_BYTES - len(STATION_HEADER) - STATION_CODE_BYTES
"""The rest of the file: what C3, C7 and the short C6 carry of it (36)."""
CARD_FILE_STEPWISE_BYTES = 43
"""File 0015 in a B4 of the serial dialects: as old cards have it."""
PURCHASES_MAX = 4096
"""Purchases remembered, one an OBU: as many as vehicles of one run."""

FORGED_TAC = bytes.fromhex("F0F0F0F0")
"""TAC of a result that no card has made."""

T = TypeVar("T")

MAC1_FAULTS = {FaultKind.REFUSE_MAC1: Mac1Fault.REFUSE, FaultKind.PURCHASE_REFUSED: Mac1Fault.DAMAGE}


class SpellOver(Exception):
    """End of a spell: the radio is off or the lane is gone, no pass goes on."""


class Spell:
    """A time with the radio on, for one lane."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def air(self, milliseconds: float) -> None:
        """Let air time pass. Raises SpellOver when the spell ends meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), milliseconds / 1000)
        if self.over.is_set():
            raise SpellOver


@dataclass(frozen=True, slots=True)
class Pass:
    """One attempt to trade with one vehicle."""

    vehicle: Vehicle
    spell: Spell
    transaction: AirTransaction
    radio_ms: float
    search_ms: float

    async def take_air(self, share: float) -> None:
        """Let a share of the radio time pass, give or take the jitter."""
        await self.spell.air(self.radio_ms * share * self.jitter())

    def jitter(self) -> float:
        """A factor from the vehicle's own series."""
        return self.vehicle.random.uniform(1 - JITTER, 1 + JITTER)


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A purchase as far as the antenna knew it, whether or not the card has made it."""

    purchase: LoggedPurchase
    psam_serial: int
    unix_seconds: int
    """The antenna's clock at the purchase, UTC."""


class Air:
    """The antenna's radio and PSAM."""

    def __init__(
        self,
        psam: AntennaPsam,
        chance: random.Random,
        note: Callable[[Vehicle, Event], None],
        *,
        stepwise: bool,
        station: bytes,
        clock: Callable[[], int],
    ) -> None:
        """`chance`: source of the antenna's own challenges. `note` is told what happens to a vehicle.

        `stepwise`: vehicle and card are reported apart. `station`: network and station of the antenna, 4 bytes.
        `clock`: its own, seconds since 1970 in UTC.
        """
        self._psam = psam
        self._chance = chance
        self._note = note
        self._stepwise = stepwise
        self._station = station
        self._clock = clock
        self._radio = asyncio.Lock()
        self._ordered: dict[bytes, _Ordered] = {}
        self._asked: dict[bytes, bytes] = {}
        """File 0019 as the last C6 to an OBU was to write it."""

    def power_off(self) -> None:
        """Power off and on: what was remembered of purchases is gone."""
        self._ordered.clear()
        self._asked.clear()
        self._psam.reset()

    def begin(self, vehicle: Vehicle, spell: Spell, *, radio_ms: int, search_ms: int) -> Pass:
        """A new pass. A vehicle made slow takes more radio time in it."""
        slow = vehicle.script.strike(FaultKind.SLOW)
        transaction = AirTransaction(vehicle.obu, vehicle.card_on_air, self._psam, random=self._chance.randbytes)
        return Pass(vehicle, spell, transaction, radio_ms + (0 if slow is None else slow.extra_ms), search_ms)

    async def identify(self, this: Pass) -> ObuReport:
        """B2. Raises SpellOver, also when the vehicle has left."""
        async with self._radio:
            await this.spell.air(this.search_ms * this.jitter())
            if not this.vehicle.present:
                raise SpellOver
            seen = this.transaction.identify()
        system = seen.system_info.raw
        return ObuReport(
            obu_id=seen.obu_id,
            error=0,
            issuer=system[0:8],
            serial=system[10:18],
            issued=system[18:22],
            expires=system[22:26],
            equipment=EQUIPMENT,
            status=this.vehicle.status(),
            antenna_id=ANTENNA_ID,
            device_type=seen.device_type,
            contract_type=None if self._stepwise else system[8],
            contract_version=None if self._stepwise else system[9],
        )

    async def work(self, this: Pass, order: Message) -> RsuMessage | None:
        """Do on the air what the lane ordered; None when no report comes of it."""
        if isinstance(order, Debit):
            return await self._buy(this, order)
        if isinstance(order, WriteEntry):
            return await self._write_entry(this, order)
        if isinstance(order, FetchTac):
            return await self._prove(this, order)
        if isinstance(order, RecoverTac):
            return await self._recover(this)
        if this.vehicle.phase is Phase.DESCRIBING:
            return await self._describe(this)
        return await self._read_user(this)

    async def _describe(self, this: Pass) -> VehicleReport:
        """B3. Bench tags say 16 bytes about the vehicle; the long form has more."""
        await self._hold(this, PausePoint.READ)
        async with self._radio:
            await this.take_air(VEHICLE_SHARE)
            present = this.vehicle.present
            read = this.transaction.read_vehicle() if present else UserData(ReadError.NO_ANSWER)
        file = read.vehicle_file
        return VehicleReport(
            obu_id=this.vehicle.obu_id,
            error=read.error,
            plate=file[0:12],
            plate_color=file[12:14],
            vehicle_class=file[14],
            user_type=file[15],
        )

    async def _read_user(self, this: Pass) -> UserReport:
        vehicle = this.vehicle
        if not self._stepwise:
            await self._hold(this, PausePoint.READ)
        async with self._radio:
            await this.take_air(READ_SHARE - VEHICLE_SHARE if self._stepwise else READ_SHARE)
            if not vehicle.present or vehicle.script.strike(FaultKind.READ_ERROR) is not None:
                user = UserData(ReadError.NO_ANSWER)
            else:
                user = this.transaction.read_card() if self._stepwise else this.transaction.read_user()
                user = self._shown(vehicle, user)
        if user.error is ReadError.NO_CARD and vehicle.card is not None:
            user = replace(user, error=ReadError.CARD_FAILED)
        if vehicle.obu.device_type is DeviceType.CPC_CARD:
            return UserReport(
                obu_id=vehicle.obu_id,
                error=user.error,
                trans_type=TRANS_TYPE_READ,
                station=user.station,
                cpc_province=user.cpc_province or bytes(4),
                cpc_fee=user.cpc_fee or bytes(10),
            )
        return UserReport(
            obu_id=vehicle.obu_id,
            error=user.error,
            trans_type=TRANS_TYPE_READ,
            station=user.station,
            vehicle_file=None if self._stepwise else user.vehicle_file,
            balance_raw=user.balance_raw,
            card_file=user.card_file[:CARD_FILE_STEPWISE_BYTES] if self._stepwise else user.card_file,
        )

    def _shown(self, vehicle: Vehicle, user: UserData) -> UserData:
        """Card data that B4 reports: the true ones, unless forged."""
        asked = self._asked.get(vehicle.obu_id)
        if asked is None or user.error or vehicle.script.strike(FaultKind.FORGE_READING) is None:
            return user
        self._note(vehicle, Event.FORGED)
        return replace(user, station=asked)

    async def _buy(self, this: Pass, order: Debit) -> DebitResult | None:
        await self._hold(this, PausePoint.DEBIT)
        fault = None
        async with self._radio:
            await this.take_air(PURCHASE_SHARE * CARD_SHARE)
            if this.vehicle.obu.device_type is not DeviceType.TWO_PIECE:
                report = self._buy_nothing(this.vehicle, order)
            else:
                armed = this.vehicle.script.strike(*PURCHASE_FAULTS)
                fault = None if armed is None else armed.what
                self._keep(self._asked, order.obu_id, self._whole(order.station))
                if armed is not None and fault is FaultKind.FORGE_RESULT:
                    report = self._forge(this, order, armed.forgery)
                else:
                    result = self._debit(this, order, fault)
                    self._remember(order.obu_id, result)
                    report = _debit_result(order, result, keep_serial=fault is FaultKind.LOSE_ANSWER_KEEP_SERIAL)
                report = replace(report, unix_seconds=self._clock() if self._stepwise else None)
            await this.take_air(PURCHASE_SHARE * (1 - CARD_SHARE))
        await self._hold(this, PausePoint.RESULT)
        return None if fault is FaultKind.DROP_RESULT else report

    def _forge(self, this: Pass, order: Debit, forgery: Forgery) -> DebitResult:
        """Result that says success and is none, or whose values are wrong."""
        vehicle = this.vehicle
        if vehicle.card is None or vehicle.purse is None:
            return _debit_result(order, self._not_made(order), keep_serial=False)
        before = vehicle.purse.balance_fen()
        if forgery.debits:
            result = self._transact(this, order, order.amount_fen, None, Event.TAKEN)
        else:
            result = PurchaseResult(
                DebitError.OK,
                self._psam.terminal,
                order.purchase_time_bcd,
                TradeType.COMPOSITE,
                tac=FORGED_TAC,
                card_serial=(vehicle.card.offline_sequence + 1) % (1 << 16),
                psam_serial=self._psam.terminal_serial + 1,
                balance_raw=(before - order.amount_fen) % (1 << 32),
                key_version=1,
            )
        if forgery.balance_unchanged:
            result = replace(result, balance_raw=before % (1 << 32))
        self._note(vehicle, Event.FORGED)
        return _forged(_debit_result(order, result, keep_serial=False), forgery)

    async def _write_entry(self, this: Pass, order: WriteEntry) -> WriteResult | None:
        """The short B5."""
        await self._hold(this, PausePoint.DEBIT)
        async with self._radio:
            await this.take_air(PURCHASE_SHARE * CARD_SHARE)
            armed = this.vehicle.script.strike(*PURCHASE_FAULTS)
            fault = None if armed is None else armed.what
            result = self._transact(this, order, 0, fault, Event.WRITTEN)
            report = WriteResult(order.obu_id, result.error, self._clock(), result.terminal)
            await this.take_air(PURCHASE_SHARE * (1 - CARD_SHARE))
        await self._hold(this, PausePoint.RESULT)
        return None if fault is FaultKind.DROP_RESULT else report

    def _remember(self, obu_id: bytes, result: PurchaseResult) -> None:
        """Remember the purchase that a C7 will be about. Only one that the PSAM has begun has numbers of its own."""
        if result.card_serial is None or result.psam_serial is None:
            return
        purchase = LoggedPurchase(result.card_serial, result.terminal, result.time)
        self._keep(self._ordered, obu_id, _Ordered(purchase, result.psam_serial, self._clock()))

    @staticmethod
    def _keep(memory: dict[bytes, T], obu_id: bytes, value: T) -> None:
        """Remember one thing of an OBU, and as many as there is room for."""
        memory.pop(obu_id, None)
        if len(memory) >= PURCHASES_MAX:
            del memory[next(iter(memory))]
        memory[obu_id] = value

    def _debit(self, this: Pass, order: Debit, fault: FaultKind | None) -> PurchaseResult:
        if order.ef04 is not None and order.trade_type == TRADE_EF04_ONLY:
            return self._not_made(order)
        return self._transact(this, order, order.amount_fen, fault, Event.TAKEN)

    def _transact(
        self, this: Pass, order: Debit | WriteEntry, amount_fen: int, fault: FaultKind | None, done: Event
    ) -> PurchaseResult:
        """The purchase itself, in one go: nothing comes between card and PSAM. `done` is noted when the card acts."""
        vehicle = this.vehicle
        before = None if vehicle.card is None else vehicle.card.offline_sequence
        self._psam.mac1_fault = None if fault is None else MAC1_FAULTS.get(fault)
        try:
            result = this.transaction.purchase(
                amount_fen,
                order.purchase_time_bcd,
                self._whole(order.station),
                region=order.div_factor if any(order.div_factor) else None,
                lose_answer=fault in (FaultKind.LOSE_ANSWER, FaultKind.LOSE_ANSWER_KEEP_SERIAL),
                leave_before_debit=not vehicle.present,
            )
        finally:
            self._psam.mac1_fault = None
        if vehicle.card is not None and vehicle.purse is not None and vehicle.card.offline_sequence != before:
            vehicle.purse.update()
            self._note(vehicle, done)
        return result

    def _whole(self, station: bytes) -> bytes:
        """File 0019 from what travelled of it."""
        return STATION_HEADER + self._station + station if len(station) == STATION_TAIL_BYTES else station

    def _not_made(self, order: Debit) -> PurchaseResult:
        return PurchaseResult(
            DebitError.PURCHASE_FAILED, self._psam.terminal, order.purchase_time_bcd, TradeType.COMPOSITE
        )

    def _buy_nothing(self, vehicle: Vehicle, order: Debit) -> DebitResult:
        """C6 to a device without a purse. Its files are not written: B5 says so."""
        cpc = vehicle.obu.device_type is DeviceType.CPC_CARD
        if not cpc:
            plain = _debit_result(replace(order, ef04=None), self._not_made(order), keep_serial=False)
            return replace(plain, error=ONE_PIECE_NOT_WRITTEN, trans_type=TRANS_TYPE_ONE_PIECE)
        return DebitResult(
            obu_id=vehicle.obu_id,
            error=CPC_NOTHING_WRITTEN,
            terminal=self._psam.terminal,
            trans_time_bcd=order.purchase_time_bcd,
            trans_type=TradeType.COMPOSITE,
        )

    async def _prove(self, this: Pass, order: FetchTac) -> TacResult:
        async with self._radio:
            await this.take_air(TAC_SHARE)
            answer = (
                this.transaction.fetch_tac(order.card_serial) if this.vehicle.present else TacAnswer(TacError.NO_ANSWER)
            )
        wants_ef04 = order.ef04_command == 1 or bool(order.ef04_extra and order.ef04_extra[0])
        error = int(answer.error)
        if wants_ef04 and answer.error is TacError.OK:
            error = EF04_FAILED_TAC_GIVEN  # the bench's tags have no such file
        report = TacResult(this.vehicle.obu_id, error, answer.tac, answer.mac, answer.balance_raw)
        forgery = self._forged_proof(this.vehicle, error)
        if forgery is None:
            return report
        balance = (report.balance_raw + forgery.balance_off_fen) % (1 << 32)
        return replace(report, tac=forgery.tac or report.tac, balance_raw=balance)

    def _forged_proof(self, vehicle: Vehicle, error: int) -> Forgery | None:
        """Forgery of the proof of a purchase that was found, None when there is none."""
        fault = None if error else vehicle.script.strike(FaultKind.FORGE_PROOF)
        if fault is None:
            return None
        self._note(vehicle, Event.FORGED)
        return fault.forgery

    async def _recover(self, this: Pass) -> DebitResult:
        """B5 of a purchase made before: its terminal, time and counters are those of then, the balance is today's."""
        ordered = self._ordered.get(this.vehicle.obu_id)
        found, answer = None, TacAnswer(TacError.NO_ANSWER)
        async with self._radio:
            await this.take_air(TAC_SHARE)
            if this.vehicle.present:
                found = this.transaction.newest_purchase() if ordered is None else ordered.purchase
                serial = None if found is None else found.card_serial
                answer = TacAnswer(TacError.TAC_FAILED) if serial is None else this.transaction.fetch_tac(serial)
        if found is None or answer.error is not TacError.OK:
            found, ordered = LoggedPurchase(0, self._psam.terminal, NO_TIME), None
            answer = replace(answer, balance_raw=BALANCE_UNREAD)
        report = DebitResult(
            obu_id=this.vehicle.obu_id,
            error=answer.error,
            terminal=found.terminal,
            trans_time_bcd=found.time,
            trans_type=TradeType.COMPOSITE,
            tac=answer.tac,
            card_serial=found.card_serial,
            psam_serial=0 if ordered is None else ordered.psam_serial,
            balance_raw=answer.balance_raw,
            # When the file was written, the antenna cannot know of a purchase it has not ordered itself.
            unix_seconds=self._clock() if ordered is None else ordered.unix_seconds,
        )
        forgery = self._forged_proof(this.vehicle, answer.error)
        return report if forgery is None else _forged(report, forgery)

    async def _hold(self, this: Pass, point: PausePoint) -> None:
        """Stop here when told so, until `continue`, or until the vehicle leaves or the spell ends."""
        script, vehicle = this.vehicle.script, this.vehicle
        if script.pause_before is not point:
            return
        script.pause_before = None
        script.proceed.clear()
        vehicle.paused_before = point
        self._note(vehicle, Event.PAUSED)
        try:
            await _first_of(script.proceed, vehicle.left, this.spell.over)
        finally:
            vehicle.paused_before = None


def _forged(report: DebitResult, forgery: Forgery) -> DebitResult:
    """A result with what the forgery tells otherwise."""
    return replace(
        report,
        terminal=forgery.terminal or report.terminal,
        card_serial=report.card_serial if forgery.card_serial is None else forgery.card_serial,
        psam_serial=report.psam_serial if forgery.psam_serial is None else forgery.psam_serial,
        tac=forgery.tac or report.tac,
        balance_raw=((report.balance_raw or 0) + forgery.balance_off_fen) % (1 << 32),
    )


def _debit_result(order: Debit, result: PurchaseResult, *, keep_serial: bool) -> DebitResult:
    """B5 of a purchase. What the antenna does not know is zero, the balance all ones."""
    debited = result.error in (DebitError.OK, DebitError.MAC2_FAILED)
    return DebitResult(
        obu_id=order.obu_id,
        error=_with_ef04(order, result.error),
        terminal=result.terminal,
        trans_time_bcd=result.time,
        trans_type=result.trade_type,
        algorithm=0 if result.algorithm is None else result.algorithm,
        key_version=result.key_version or 0,
        tac=result.tac or bytes(4),
        card_serial=(result.card_serial or 0) if debited or keep_serial else 0,
        psam_serial=result.psam_serial or 0,
        balance_raw=BALANCE_UNREAD if result.balance_raw is None else result.balance_raw,
    )


def _with_ef04(order: Debit, error: DebitError) -> int:
    """The code when the lane asked for EF04 too. The bench's tags have no such file, so it is never written."""
    if order.ef04 is None or order.trade_type == TRADE_PURCHASE_ONLY:
        return error
    if order.trade_type == TRADE_EF04_ONLY:
        return EF04_ONLY_FAILED
    return {DebitError.OK: EF04_FAILED_PURCHASE_MADE, DebitError.PURCHASE_FAILED: EF04_FAILED_TOO}.get(error, error)


async def _first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
