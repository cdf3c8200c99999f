"""One vehicle in a toll lane, from the antenna's first report to a committed decision.

Theory of operation. The trade walks the passage in order: sight, who pays and may they, fare, hold with the purchase's
intent, purchase, bank, decision. One deadline, set when the vehicle was first reported, goes down every step. Before
anything new is sold the ledger is asked what it knows of this card:

    newest purchase of the card          file 0019 read now            then
    ----------------------------------   ---------------------------   ------------------------------------------------
    not ended (intent, unknown)          as we meant to write it       it was taken: fetch the TAC, bring it in
                                         that, and another balance     disputed: attendant
                                         as it was before              it never happened: next attempt on the same hold
                                         anything else                 disputed: attendant
    taken, not decided                   whatever                      bring it in
    disputed, held, within the window    whatever                      still the attendant's
    taken, decided, within the window    as we wrote it                the same vehicle still here: let it through
    anything else                                                      a new passage

So a crash, a lost answer and an impatient antenna all end in the same few questions, and none charges twice. A purchase
that another charge point asked for a moment ago is left to that one: what is read here may be older than its answer.
So may a reading here that crossed the purchase order on the line: it proves no purchase undone.

That a purchase was taken is the antenna's word, fresh, late or fetched: the change that stores it compares it with what
is known (`gateway.debit.purchase_proof`), and where that contradicts it the purchase is disputed instead.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone

from gateway.debit.claims import (
    Decision,
    DecisionContext,
    HoldPlaced,
    HoldRequest,
    Identity,
    Payer,
    PreviousEntry,
    PreviousPassage,
    PreviousPurchase,
    PurchasePlan,
    PurchaseResult,
    Sight,
)
from gateway.debit.engine import ProvenClaim, StorageLate, Superseded, Timing
from gateway.debit.purchase_proof import balance_agrees
from gateway.ledger.writer import StorageUnavailable
from gateway.model.clock import to_us
from gateway.model.ids import digest_of
from gateway.model.passage import Barrier, Funding, Occasion, PurchaseOutcome, Service
from gateway.model.plate import Plate
from gateway.model.reasons import REASONS, Severity
from gateway.payers import mandates
from gateway.payers.mandates import CredentialKind
from gateway.payers.status_lists import ListKind, obu_key, plate_key
from gateway.points.antenna_dialogue import Dialogue, Gone
from gateway.points.devices import Report
from gateway.points.inspection import card_problem, plate_of, tag_problem, vehicle_problem
from gateway.points.purchase_result import Ordered, result_of
from gateway.points.rsu_errors import MoneyMeaning
from gateway.points.rsu_errors import Report as ReportKind
from gateway.points.station_record import STATION_TAIL, entered_here, entry_of, entry_record, purchase_record
from gateway.points.toll_services import LaneServices
from gateway.points.toll_settings import (
    ChargeCardPurchase,
    EntryWrite,
    LaneKind,
    OnePiecePolicy,
    TacCommand,
)
from gateway.tariffs.quote import EntryFact, Refusal, quote
from protocols.card.codes import CardType
from protocols.card.files import CardFile, decode_card_file
from protocols.card.station import Station, decode_station
from protocols.obu.vehicle_file import VehicleFile, decode_vehicle_file
from protocols.rsu.messages import (
    Debit,
    DebitResult,
    DeviceType,
    FetchTac,
    ObuReport,
    RecoverTac,
    StopType,
    TacResult,
    UserReport,
    VehicleReport,
    WriteEntry,
    WriteResult,
)

OPEN_STATES = ("intent", "unknown")
PURSE_SUSPICIOUS = 1 << 31
"""A stored-value balance with its top bit set: a card in debt in one scheme, to be looked at by a person."""

ELSEWHERE_S = 5.0
"""A purchase asked for at another charge point may be under way for this long: its deadline and a late answer."""

REFUSAL_COMMIT_S = 5.0
"""A refusal opens no barrier, so its record may take longer than a sale's."""

log = logging.getLogger(__name__)


class Elsewhere(Exception):
    """What was read of this vehicle may not be true any more: it is left alone and looked at again."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What stands on tag and card, as reported and as understood."""

    user: UserReport
    vehicle: VehicleFile
    card: CardFile


class Trade:
    """One vehicle's way through the lane. Made for one first report, used once."""

    def __init__(self, services: LaneServices, first: Report, inbox: asyncio.Queue[Report]) -> None:
        self._services = services
        self._settings = services.settings
        self._antenna = Dialogue(
            self._settings.name, first, inbox, deadline_s=services.settings.deadline_s, clock=services.clock
        )
        self._lists = services.lists.snapshot
        self._occasion = Occasion.LANE
        self._tariff_version: str | None = None
        self.timing: Timing | None = None
        """Set with the decision; its record number and barrier time are filled in by the lane."""

    async def run(self, first: ObuReport) -> Decision | None:
        """The decision about this vehicle, or None when it went away before there was anything to decide."""
        try:
            decision = await self._identify(first)
        except Gone:
            log.info("%s: a vehicle stopped answering before its purchase", self._settings.name)
            return None
        except (Elsewhere, Superseded) as reason:
            log.info("%s: a vehicle is left alone for now: %s", self._settings.name, reason)
            self._antenna.let_go()
            return None
        except (StorageLate, StorageUnavailable) as trouble:
            # Without the ledger not even this can be recorded.
            log.warning("%s: cannot sell, the ledger does not store: %s", self._settings.name, trouble)
            self._services.report_fault("ledger", str(trouble) or "the ledger is too slow")
            self._antenna.let_go()
            return None
        self._services.report_fault("ledger", None)
        return decision

    async def take_late_result(self, message: DebitResult) -> Decision | None:
        """A B5 that came after its passage was decided as unknown."""
        card_number = self._services.engine.card_of_open_purchase(message.obu_id)
        previous = None if card_number is None else self._services.engine.previous(card_number)
        if previous is None or previous.state not in OPEN_STATES or card_number is None:
            log.warning(
                "%s: a purchase result (error %02X) that no purchase waits for", self._settings.name, message.error
            )
            self._antenna.acknowledge()
            return None
        self._occasion = Occasion.READING
        claim = self._claim(previous.debit_id, self._payer_again(previous), card_number, previous.purchase_id)
        return await self._bring_in(claim, self._result_of(message, _ordered_before(previous)))

    # --- who is there ---------------------------------------------------------------------------------------------

    async def _identify(self, first: ObuReport) -> Decision | None:
        self._antenna.factor = factor_of(first.issuer)
        contract = obu_key(first.issuer, first.serial)
        seen = Identity(obu_id=first.obu_id, contract=contract, device_type=first.device_type)
        if first.device_type == DeviceType.CPC_CARD:
            return await self._record_cpc(seen)
        if first.error:
            return await self._refuse(seen, self._error_reason(first.error))
        problem = tag_problem(first, self._today(), self._services.issuers)
        if problem is not None:
            return await self._refuse(seen, problem)
        listed = self._lists.lookup(ListKind.OBU, contract)
        if listed is not None:
            return await self._refuse(seen, listed.reason.code)
        user = await self._read_user()
        if user.error:
            return await self._refuse(seen, self._error_reason(user.error))
        if first.device_type == DeviceType.ONE_PIECE:
            return await self._one_piece(seen, user)
        return await self._two_piece(seen, user)

    async def _read_user(self) -> UserReport:
        """What stands on tag and card, in one report or, where the dialect has a step for the vehicle, in two."""
        step: VehicleReport | UserReport = await self._antenna.ask(self._antenna.onward(), VehicleReport, UserReport)
        if isinstance(step, UserReport):
            return step
        if step.error:
            return UserReport(step.obu_id, step.error, trans_type=0, station=b"")
        user = await self._antenna.ask(self._antenna.onward(), UserReport)
        return replace(user, vehicle_file=step.vehicle_file)

    async def _two_piece(self, seen: Identity, user: UserReport) -> Decision | None:
        if user.vehicle_file is None or user.card_file is None:
            return await self._refuse(seen, "card_unreadable")
        vehicle, card = decode_vehicle_file(user.vehicle_file), decode_card_file(user.card_file)
        seen = replace(
            seen,
            card_number=card.card_number,
            plate=vehicle.plate,
            plate_colour=vehicle.plate_colour,
            vehicle_class=vehicle.vehicle_class,
        )
        read = _Read(user, vehicle, card)
        if self._settings.kind is LaneKind.ENTRY:
            return await self._enter(seen, read)
        previous = self._services.engine.previous(card.card_number)
        if previous is not None and previous.debit_state == "held":
            return await self._recover(previous, seen, read)
        if previous is not None and self._still_here(previous, user):
            return await self._repeat(previous.passage_id, previous.debit_id, previous.barrier)
        return await self._sell(seen, read, previous)

    async def _one_piece(self, seen: Identity, user: UserReport) -> Decision | None:
        """A tag without a card: refused, or paid by the mandate behind its contract; no purchase is written."""
        contract = seen.contract
        if self._settings.one_piece is OnePiecePolicy.REFUSE or user.vehicle_file is None or contract is None:
            return await self._refuse(seen, "one_piece_refused")
        vehicle = decode_vehicle_file(user.vehicle_file)
        seen = replace(
            seen, plate=vehicle.plate, plate_colour=vehicle.plate_colour, vehicle_class=vehicle.vehicle_class
        )
        earlier = self._services.engine.newest_of_contract(contract)
        if earlier is not None and earlier.debit_state == "held":
            return await self._finish_one_piece(earlier)
        settled = earlier is not None and earlier.debit_state != "voided"
        if earlier is not None and settled and self._within_window(earlier):
            return await self._repeat(earlier.passage_id, earlier.debit_id, earlier.barrier)
        plate = plate_of(vehicle.plate, vehicle.plate_colour)
        listed = self._listed_plate(plate)
        if listed is not None:
            return await self._refuse(seen, listed)
        mandate = self._services.find_mandate(CredentialKind.CONTRACT, contract)
        payer = mandates.payer_of_contract(mandate, plate)
        if isinstance(payer, str):
            return await self._refuse(seen, payer)
        fare = self._fare(vehicle, None)
        if isinstance(fare, str):
            return await self._refuse(seen, fare)
        entry_data = user.station + (b"" if earlier is None else earlier.passage_id.encode())
        placed = await self._hold(seen, payer, fare, None, entry_data)
        if isinstance(placed, str):
            return await self._refuse(seen, placed)
        self._antenna.stop(StopType.FREEZE)
        return await self._bring_in(self._claim(placed.debit_id, payer, None, None), None)

    async def _finish_one_piece(self, earlier: PreviousPassage) -> Decision:
        """The tag's last claim was never decided: it is brought in, and the bank is asked once."""
        self._leave_if_elsewhere(earlier)
        self._occasion = Occasion.READING
        self._antenna.stop(StopType.FREEZE)
        claim = self._claim(earlier.debit_id, self._payer_again(earlier), None, None)
        return await self._bring_in(claim, None)

    async def _record_cpc(self, seen: Identity) -> Decision:
        """A composite pass card has no account: recorded, and the attendant takes over."""
        user = await self._antenna.ask(self._antenna.onward(), UserReport)
        log.info("%s: CPC card, %d bytes of entry data", self._settings.name, len(user.station))
        return await self._refuse(seen, "cpc_to_attendant", Barrier.ATTENDANT)

    # --- seen before ----------------------------------------------------------------------------------------------

    def _still_here(self, previous: PreviousPurchase, user: UserReport) -> bool:
        """The vehicle has paid and file 0019 is as we wrote it: it has been nowhere else since."""
        if previous.state != "taken" or user.station != previous.file_after:
            return False
        return self._within_window(previous)

    def _within_window(self, previous: PreviousPurchase | PreviousPassage | PreviousEntry) -> bool:
        """Decided at this station, and so lately that the vehicle still has its right to pass."""
        here = previous.charge_point == self._settings.name or previous.charge_point in self._settings.same_station
        if not here or previous.record_no is None or previous.decided_at is None:
            return False
        # Not by the time of day alone: setting the clock must neither lengthen anybody's right nor end it.
        age_s = self._services.engine.decided_s_ago(previous.record_no, previous.decided_at)
        return age_s < self._settings.repeat_window_s

    async def _repeat(self, passage_id: str, debit_id: str, barrier: Barrier | None) -> Decision:
        self._occasion = Occasion.READING
        decision = await self._services.engine.repeat(
            passage_id, debit_id, barrier or Barrier.ATTENDANT, self._context()
        )
        self._antenna.stop(StopType.SEARCH_AGAIN)
        self._note(0, 0)
        return decision

    async def _recover(self, previous: PreviousPurchase, seen: Identity, read: _Read) -> Decision | None:
        """The card's last claim is not decided; where its purchase has no end yet, file 0019 tells which."""
        self._leave_if_elsewhere(previous)
        self._occasion = Occasion.READING
        payer = self._payer_again(previous)
        card_number = read.card.card_number
        claim = self._claim(previous.debit_id, payer, card_number, previous.purchase_id)
        if previous.state == "disputed":
            return await self._disputed_before(previous, seen, read)
        if previous.state not in OPEN_STATES:
            return await self._bring_in(claim, None)
        if read.user.station == previous.file_after:
            return await self._bring_in(claim, await self._proof_of(previous, read))
        if not self._antenna.up_to_date:
            raise Elsewhere("its card was read before the purchase order had arrived")
        if read.user.station != previous.file_before:
            return await self._bring_in(claim, PurchaseResult(PurchaseOutcome.DISPUTED))
        not_taken = PurchaseResult(PurchaseOutcome.NOT_TAKEN)
        if previous.charge_point != self._settings.name:
            # Not taken there, and the vehicle is here now: that passage is void, this one begins.
            await self._services.engine.bring_in(replace(claim, result=not_taken), deadline=self._antenna.deadline)
            return await self._two_piece(seen, read.user)
        plan = self._plan(read, payer, previous.amount_fen, previous)
        if isinstance(plan, str):
            self._antenna.stop(StopType.SEARCH_AGAIN)
            return await self._bring_in(claim, replace(not_taken, reason=plan))
        purchase_id = await self._services.engine.next_purchase(previous, plan, timeout_s=self._antenna.time_left())
        return await self._purchase(replace(claim, purchase_id=purchase_id), plan, read.card)

    def _leave_if_elsewhere(self, previous: PreviousPurchase | PreviousPassage) -> None:
        """What is read from the card here may be older than what another charge point has just asked of it."""
        lately = self._services.engine.asked_s_ago(previous.debit_id) < ELSEWHERE_S
        if previous.charge_point != self._settings.name and lately:
            raise Elsewhere(f"{previous.charge_point} deals with it")

    async def _disputed_before(self, previous: PreviousPurchase, seen: Identity, read: _Read) -> Decision | None:
        """A disputed purchase is the attendant's while the vehicle stands here; no second one is tried on it."""
        if self._within_window(previous):
            return await self._refuse(seen, previous.reason or "purchase_disputed")
        return await self._sell(seen, read, previous)

    async def _proof_of(self, previous: PreviousPurchase, read: _Read) -> PurchaseResult:
        """The result of a purchase that file 0019 proves, with its TAC where the dialect can fetch it.

        The file is what this antenna says of the card. Where the balance it read beside it does not agree nothing more
        is asked for: the purchase is disputed as it is stored.
        """
        shown = PurchaseResult(PurchaseOutcome.TAKEN, balance_after=read.user.balance_raw)
        if not balance_agrees(previous.balance_before, previous.written_fen, read.user.balance_raw):
            return shown
        if self._settings.tac_command is TacCommand.BY_SERIAL:
            return await self._fetch_tac(previous, shown)
        if self._settings.tac_command is TacCommand.BY_CONTENT:
            return await self._recover_tac(previous, shown, read.card)
        return shown

    async def _fetch_tac(self, previous: PreviousPurchase, shown: PurchaseResult) -> PurchaseResult:
        """The proof of a purchase whose answer was lost; without it the passage is charged and listed."""
        serial = previous.card_serial
        if serial is None:
            return shown
        taken = replace(shown, card_serial=serial)
        try:
            answer = await self._antenna.ask(FetchTac(self._antenna.obu_id, serial), TacResult)
        except Gone:
            return taken
        if answer.error or not any(answer.tac):
            # The serial was a guess, and wrong: it proves nothing and is not remembered.
            return replace(shown, error=answer.error)
        return replace(taken, tac=answer.tac, tac_source="b8", balance_after=answer.balance_raw)

    async def _recover_tac(self, previous: PreviousPurchase, shown: PurchaseResult, card: CardFile) -> PurchaseResult:
        """The same in dialects that are asked by the purchase's content: its result comes once more, whole."""
        order = RecoverTac(
            self._antenna.obu_id, factor_of(card.issuer), previous.purchase_time, previous.file_after[STATION_TAIL]
        )
        try:
            answer = await self._antenna.ask(order, DebitResult)
        except Gone:
            return shown
        result = self._result_of(answer, _ordered_before(previous), fetched=True)
        if result.outcome is not PurchaseOutcome.TAKEN:
            # The file proves the purchase; only its proof for clearing could not be had.
            return replace(shown, error=result.error)
        return replace(result, tac_source="c7")

    # --- an entry lane ----------------------------------------------------------------------------------------------

    async def _enter(self, seen: Identity, read: _Read) -> Decision | None:
        """Write the entry of the trip on the card. Written twice it says the same, so a lost answer costs nothing."""
        problem = card_problem(read.card, self._today(), self._services.issuers) or vehicle_problem(
            read.vehicle, read.card, None
        )
        problem = problem or self._listed(read.card, plate_of(read.vehicle.plate, read.vehicle.plate_colour))
        if problem is not None:
            return await self._refuse(seen, problem)
        if entered_here(self._settings, decode_station(read.user.station), self._services.clock.utcnow()):
            return await self._entered_before(seen)
        seconds = int(self._services.clock.utcnow().timestamp())
        station = entry_record(self._settings, read.vehicle, seconds)
        try:
            error = await self._write_entry(read.card, station, seconds)
        except Gone:
            return None
        meaning = self._services.errors.meaning(ReportKind.RESULT, error)
        if meaning.money is not MoneyMeaning.TAKEN:
            reason = "record_update_failed" if meaning.reason is None else meaning.reason.code
            return await self._refuse(seen, reason)
        return await self._admit(seen)

    async def _write_entry(self, card: CardFile, station: bytes, seconds: int) -> int:
        """The error byte of the antenna's answer; its report is acknowledged when the entry is recorded."""
        factor = factor_of(card.issuer)
        if self._settings.entry_write is EntryWrite.COMMAND:
            command = WriteEntry(self._antenna.obu_id, factor, self._local(seconds), station[STATION_TAIL])
            written: WriteResult | DebitResult = await self._antenna.ask(command, WriteResult, DebitResult)
            return written.error
        order = Debit(self._antenna.obu_id, factor, 0, self._local(seconds), station)
        return (await self._antenna.ask(order, DebitResult)).error

    async def _entered_before(self, seen: Identity) -> Decision | None:
        """The entry stands on the card already: recorded before and still here, or its answer was lost."""
        self._occasion = Occasion.READING
        self._antenna.stop(StopType.SEARCH_AGAIN)
        earlier = None
        if seen.card_number is not None:
            earlier = self._services.engine.newest_entry(seen.card_number, self._settings.name)
        if earlier is not None and self._within_window(earlier):
            decision = await self._services.engine.repeat_entry(earlier, self._context())
            self._note(0, 0)
            return decision
        return await self._admit(seen)

    async def _admit(self, seen: Identity) -> Decision:
        """Record the entry; the antenna is let go after it."""
        decision = await self._services.engine.admit(self._sight(seen), self._context(), timeout_s=REFUSAL_COMMIT_S)
        self._antenna.acknowledge()
        self._note(0, 0)
        return decision

    # --- a new passage --------------------------------------------------------------------------------------------

    async def _sell(self, seen: Identity, read: _Read, previous: PreviousPurchase | None) -> Decision | None:
        card, vehicle = read.card, read.vehicle
        plate = plate_of(vehicle.plate, vehicle.plate_colour)
        problem = (
            card_problem(card, self._today(), self._services.issuers)
            or vehicle_problem(vehicle, card, None)
            or self._listed(card, plate)
        )
        if problem is not None:
            return await self._refuse(seen, problem)
        payer = self._payer(card, plate)
        if isinstance(payer, str):
            return await self._refuse(seen, payer)
        fare = self._fare(vehicle, decode_station(read.user.station))
        if isinstance(fare, str):
            return await self._refuse(seen, fare)
        plan = self._plan(read, payer, fare, previous)
        if isinstance(plan, str):
            return await self._refuse(seen, plan)
        if not self._services.engine.selling_allowed:
            raise StorageLate
        earlier = "" if previous is None else previous.purchase_id
        placed = await self._hold(seen, payer, fare, plan, plan.file_before + earlier.encode())
        if isinstance(placed, str):
            return await self._refuse(seen, placed)
        if placed.replayed:
            raise Elsewhere("its claim was stored by another reading")
        claim = self._claim(placed.debit_id, payer, card.card_number, placed.purchase_id)
        return await self._purchase(claim, plan, card)

    async def _purchase(self, claim: ProvenClaim, plan: PurchasePlan, card: CardFile) -> Decision:
        """C6, and what comes of it. From here on the card may have paid."""
        order = Debit(
            obu_id=self._antenna.obu_id,
            div_factor=factor_of(card.issuer),
            amount_fen=plan.written_fen,
            purchase_time_bcd=plan.purchase_time,
            station=plan.file_after,
        )
        try:
            answer = await self._antenna.ask(order, DebitResult)
        except Gone:
            return await self._bring_in(claim, PurchaseResult(PurchaseOutcome.UNKNOWN))
        ordered = Ordered(plan.purchase_time, plan.written_fen, claim.payer.funding is Funding.PURSE)
        return await self._bring_in(claim, self._result_of(answer, ordered))

    def _result_of(self, answer: DebitResult, ordered: Ordered, *, fetched: bool = False) -> PurchaseResult:
        """What a B5 says of this purchase. One of another time speaks of an earlier try: it proves nothing."""
        if answer.trans_time_bcd != ordered.purchase_time:
            log.warning("%s: a result of another purchase, error %02X", self._settings.name, answer.error)
            return PurchaseResult(PurchaseOutcome.UNKNOWN, error=answer.error)
        return result_of(answer, ordered, self._services.errors, fetched=fetched)

    async def _bring_in(self, claim: ProvenClaim, result: PurchaseResult | None) -> Decision:
        """Decide. The antenna is let go once what it reported is durable: it waits a second, a bank may take longer."""
        claim = replace(claim, result=result, context=self._context())
        deadline, durable = self._antenna.deadline, self._antenna.close
        brought = await self._services.engine.bring_in(claim, deadline=deadline, on_stored=durable)
        self._note(brought.bank_us, brought.commit_us)
        return brought.decision

    def _error_reason(self, code: int) -> str:
        reason = self._services.errors.meaning(ReportKind.USER, code).reason
        return "rsu_error_unlisted" if reason is None else reason.code

    # --- parts of a sale ------------------------------------------------------------------------------------------

    def _listed(self, card: CardFile, plate: Plate) -> str | None:
        hit = self._lists.lookup(ListKind.CARD, card.card_number)
        return self._listed_plate(plate) if hit is None else hit.reason.code

    def _listed_plate(self, plate: Plate) -> str | None:
        hit = self._lists.lookup(ListKind.PLATE, plate_key(plate)) if plate.known else None
        return None if hit is None else hit.reason.code

    def _payer(self, card: CardFile, plate: Plate) -> Payer | str:
        issuer = self._services.issuers.of(card.issuer)
        if issuer is None:
            return "card_issuer_unknown"
        if card.card_type == CardType.STORED_VALUE:
            return mandates.payer_of_stored_value(issuer)
        mandate = self._services.find_mandate(CredentialKind.CARD, card.card_number)
        return mandates.payer_of_charge_card(issuer, mandate, plate)

    def _payer_again(self, previous: PreviousPurchase | PreviousPassage) -> Payer:
        """The payer fixed with the hold; the mandate's present limits, as they bind now."""
        mandate = None
        if previous.mandate_id is not None:
            mandate = self._services.mandate_by_id(previous.mandate_id)
        return Payer(
            previous.funding,
            previous.payer,
            previous.mandate_id,
            previous.contract_ref,
            None if mandate is None else mandate.limit_fen,
            0 if mandate is None else mandate.stand_in_limit_fen,
        )

    def _fare(self, vehicle: VehicleFile, station: Station | None) -> int | str:
        """The fare by the tariff version in force, frozen from here on, or the code of why there is none."""
        entry: EntryFact | None = None
        if self._settings.kind is LaneKind.EXIT:
            found = entry_of(station)
            if isinstance(found, str):
                return found
            entry = found
        quoted = quote(
            self._services.tariffs(),
            self._services.time.now,
            self._settings.station,
            vehicle.vehicle_class,
            entry,
            user_type=vehicle.user_type,
        )
        self._tariff_version = quoted.tariff_version
        if isinstance(quoted, Refusal):
            log.warning("%s: no fare: %s", self._settings.name, quoted.detail)
            return quoted.reason.code
        return quoted.amount_fen

    def _plan(self, read: _Read, payer: Payer, fare: int, previous: PreviousPurchase | None) -> PurchasePlan | str:
        """What C6 will carry, or why the purse cannot pay it."""
        card, user = read.card, read.user
        balance = user.balance_raw or 0
        if payer.funding is Funding.PURSE:
            if balance >= PURSE_SUSPICIOUS:
                return "purse_suspicious"
            if balance < fare:
                return "purse_zero" if balance == 0 else "purse_too_low"
        charge = card.card_type == CardType.CHARGE
        zero = charge and self._settings.charge_card_purchase is ChargeCardPurchase.ZERO
        seconds = self._purchase_second(previous)
        return PurchasePlan(
            written_fen=0 if zero else fare,
            purchase_time=self._local(seconds),
            balance_before=user.balance_raw,
            file_before=user.station,
            file_after=purchase_record(self._settings, decode_station(user.station), read.vehicle, seconds, fare),
        )

    def _purchase_second(self, previous: PreviousPurchase | None) -> int:
        """UNIX second of the purchase, later than that of the card's last one: file 0019 must differ from it."""
        now = int(self._services.clock.utcnow().timestamp())
        if previous is None:
            return now
        last = datetime.strptime(previous.purchase_time, "%Y%m%d%H%M%S").replace(tzinfo=self._zone())
        return max(now, int(last.timestamp()) + 1)

    async def _hold(
        self, seen: Identity, payer: Payer, fare: int, plan: PurchasePlan | None, entry_data: bytes
    ) -> HoldPlaced | str:
        request = HoldRequest(
            idempotency_key=digest_of(self._settings.name, seen.obu_id, seen.card_number or seen.contract, entry_data),
            sight=self._sight(seen),
            merchant=self._settings.merchant,
            payer=payer,
            amount_fen=fare,
            plan=plan,
        )
        placed = await self._services.engine.hold(request, timeout_s=self._antenna.time_left())
        return placed if isinstance(placed, HoldPlaced) else placed.reason

    def _claim(self, debit_id: str, payer: Payer, card_number: str | None, purchase_id: str | None) -> ProvenClaim:
        return ProvenClaim(
            debit_id=debit_id,
            payer=payer,
            context=self._context(),
            collection=self._settings.collection,
            purchase_id=purchase_id,
            card_number=card_number,
        )

    async def _refuse(self, seen: Identity, reason: str, barrier: Barrier | None = None) -> Decision:
        """Turn the vehicle away with a reason, recorded; nothing was asked of its card."""
        self._antenna.stop(StopType.SEARCH_AGAIN)
        if barrier is None:
            attendant = REASONS[reason].severity in (Severity.ATTENDANT, Severity.STOP)
            barrier = Barrier.ATTENDANT if attendant else Barrier.CLOSED
        decision = await self._services.engine.refuse(
            self._sight(seen), reason, barrier, self._context(), timeout_s=REFUSAL_COMMIT_S
        )
        self._note(0, 0)
        return decision

    def _note(self, bank_us: int, commit_us: int) -> None:
        self.timing = Timing(0, *self._antenna.spent_us(), bank_us, commit_us, None)

    # --- facts for the record -------------------------------------------------------------------------------------

    def _today(self) -> date | None:
        """The local day, None while the clock is not to be trusted."""
        if not self._services.time.trusted:
            return None
        return self._services.clock.utcnow().astimezone(self._zone()).date()

    def _zone(self) -> timezone:
        return timezone(timedelta(seconds=self._settings.utc_offset_s))

    def _local(self, unix_seconds: int) -> str:
        return datetime.fromtimestamp(unix_seconds, self._zone()).strftime("%Y%m%d%H%M%S")

    def _sight(self, seen: Identity) -> Sight:
        return Sight(
            passage_id=self._services.engine.new_id(),
            charge_point=self._settings.name,
            service=Service.TOLL,
            identity=seen,
            opened_at=to_us(self._services.clock.utcnow()),
            clock_quality=self._services.time.quality.value,
            day=self._services.clock.utcnow().astimezone(self._zone()).strftime("%Y%m%d"),
        )

    def _context(self) -> DecisionContext:
        age = self._services.clock.utcnow() - self._lists.created_at
        return DecisionContext(
            charge_point=self._settings.name,
            tariff_version=self._tariff_version,
            list_version=self._lists.version,
            list_age_s=int(age.total_seconds()),
            occasion=self._occasion,
        )


def _ordered_before(previous: PreviousPurchase) -> Ordered:
    return Ordered(previous.purchase_time, previous.written_fen, previous.funding is Funding.PURSE)


def factor_of(issuer: bytes) -> bytes:
    """Diversification factor of C1 and C6: the region's four bytes, twice (rsu protocol table 4.3)."""
    return issuer[:4] * 2
