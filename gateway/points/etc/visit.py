"""Visit of one vehicle at an antenna, from the first report to a committed decision; its purpose is an errand.

Theory of operation. The visit walks in order: tag, status lists, card; then the errand goes on (`gateway.points.etc.
sale`: payer, price, hold with the purchase's intent, purchase, bank, decision). One deadline, set when the vehicle was
first reported, goes down every step.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.debit.claims import Decision, Identity, PurchaseResult
from gateway.debit.engine import ProvenClaim, StorageLate, Superseded, Timing
from gateway.ledger.writer import StorageUnavailable
from gateway.model.passage import Occasion, Release
from gateway.payers.mandates import Issuers
from gateway.payers.status_lists import ListKind, obu_key
from gateway.points.etc.dialogue import Dialogue, Gone
from gateway.points.etc.inspection import tag_problem
from gateway.points.etc.purchase import CardPurchases, factor_of
from gateway.points.etc.rsu_errors import ReportType, RsuErrorProfile
from gateway.points.etc.settings import EtcSettings
from gateway.points.ports import Report
from gateway.points.visit import Services, SightOutdated, Visit
from protocols.card.files import CardFile, decode_card_file
from protocols.obu.vehicle_file import VehicleFile, decode_vehicle_file
from protocols.rsu.messages import DebitResult, DeviceType, ObuReport, StopType, UserReport

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcServices(Services):
    """Services that every visit at an antenna uses."""

    settings: EtcSettings
    issuers: Issuers
    errors: RsuErrorProfile


@dataclass(frozen=True, slots=True)
class Read:
    """Reading of tag and card, as reported and as understood."""

    user: UserReport
    vehicle: VehicleFile
    card: CardFile


class Errand(Protocol):
    """Errand of a vehicle. Each returns the committed decision, or None when there was nothing to decide."""

    async def card(self, visit: EtcVisit, seen: Identity, read: Read) -> Decision | None:
        """Go on with a tag and the card in it."""
        ...

    async def tag(self, visit: EtcVisit, seen: Identity, user: UserReport) -> Decision | None:
        """Go on with a tag of one piece, which has no card."""
        ...


class EtcVisit(Visit):
    """Visit of a vehicle, see the module. Made for one first report, used once."""

    def __init__(self, services: EtcServices, errand: Errand, first: Report, inbox: asyncio.Queue[Report]) -> None:
        super().__init__(services)
        self.settings = services.settings
        self.issuers = services.issuers
        self.errors = services.errors
        self.antenna = Dialogue(
            self.settings.name, first, inbox, deadline_s=services.settings.deadline_s, clock=services.clock
        )
        self.purchases = CardPurchases(services.settings, services.errors, self.antenna)
        self.timing: Timing | None = None
        """Timing, set with the decision; its record number and the time of the release are filled in by the point."""
        self._errand = errand
        self._report_fault = services.report_fault

    async def run(self, first: ObuReport) -> Decision | None:
        """Decide about this vehicle; None when it went away before there was anything to decide."""
        try:
            decision = await self._identify(first)
        except Gone:
            log.info("%s: a vehicle stopped answering before its purchase", self.settings.name)
            return None
        except (SightOutdated, Superseded) as reason:
            log.info("%s: a vehicle is left alone for now: %s", self.settings.name, reason)
            self.antenna.let_go()
            return None
        except (StorageLate, StorageUnavailable) as trouble:
            # Without the ledger not even this can be recorded.
            log.warning("%s: cannot sell, the ledger does not store: %s", self.settings.name, trouble)
            self._report_fault("ledger", str(trouble) or "the ledger is too slow")
            self.antenna.let_go()
            return None
        self._report_fault("ledger", None)
        return decision

    async def take_late_result(self, message: DebitResult) -> Decision | None:
        """Take a B5 that came after its visit was decided as unknown."""
        found = await self.engine.open_in_tag(message.obu_id)
        if found is None:
            log.warning(
                "%s: a purchase result (error %02X) that no purchase waits for", self.settings.name, message.error
            )
            self.antenna.acknowledge()
            return None
        self.occasion = Occasion.READING
        card_number, previous = found
        claim = self.claim_again(previous, card_number)
        return await self.bring_in(claim, self.purchases.late_result(message, previous))

    # --- who is there ---------------------------------------------------------------------------------------------

    async def _identify(self, first: ObuReport) -> Decision | None:
        self.antenna.factor = factor_of(first.issuer)
        contract = obu_key(first.issuer, first.serial)
        seen = Identity(obu_id=first.obu_id, contract=contract, device_type=first.device_type)
        if first.device_type == DeviceType.CPC_CARD:
            return await self._record_cpc(seen)
        if first.error:
            return await self.turn_away(seen, self._error_reason(first.error))
        problem = tag_problem(first, self.today(), self.issuers)
        if problem is not None:
            return await self.turn_away(seen, problem)
        listed = self.listed(ListKind.OBU, contract)
        if listed is not None:
            return await self.turn_away(seen, listed)
        user = await self.antenna.read_user()
        if user.error:
            return await self.turn_away(seen, self._error_reason(user.error))
        if first.device_type == DeviceType.ONE_PIECE:
            return await self._errand.tag(self, seen, user)
        return await self.go_on_with_card(seen, user)

    async def go_on_with_card(self, seen: Identity, user: UserReport) -> Decision | None:
        """Go on with the errand, with what was read; also once more when an earlier visit has been settled."""
        if user.vehicle_file is None or user.card_file is None:
            return await self.turn_away(seen, "card_unreadable")
        vehicle, card = decode_vehicle_file(user.vehicle_file), decode_card_file(user.card_file)
        seen = replace(with_vehicle(seen, vehicle), card_number=card.card_number)
        return await self._errand.card(self, seen, Read(user, vehicle, card))

    async def _record_cpc(self, seen: Identity) -> Decision:
        """Record a composite pass card, which has no account; the attendant takes over."""
        user = await self.antenna.ask(self.antenna.onward(), UserReport)
        log.info("%s: CPC card, %d bytes of entry data", self.settings.name, len(user.station))
        return await self.turn_away(seen, "cpc_to_attendant", Release.ATTENDANT)

    def _error_reason(self, code: int) -> str:
        reason = self.errors.meaning(ReportType.USER, code).reason
        return "rsu_error_unlisted" if reason is None else reason.code

    # --- deciding -------------------------------------------------------------------------------------------------

    async def bring_in(self, claim: ProvenClaim, result: PurchaseResult | None) -> Decision:
        """Decide. The antenna is let go once what it reported is durable: it waits a second, a bank may take longer."""
        claim = self.answered(claim, result)
        deadline, durable = self.antenna.deadline, self.antenna.close
        brought = await self.engine.bring_in(claim, deadline=deadline, on_stored=durable)
        self.note_spent(brought.bank_us, brought.commit_us)
        return brought.decision

    async def turn_away(self, seen: Identity, reason: str, release: Release | None = None) -> Decision:
        """Refuse with a reason, recorded; the antenna looks for the next tag."""
        self.antenna.stop(StopType.SEARCH_AGAIN)
        decision = await self.refuse(seen, reason, release)
        self.note_spent()
        return decision

    async def let_through_again(self, passage_id: str, debit_id: str, release: Release | None) -> Decision:
        """Let the same vehicle through, which has its right to pass: recorded, and nothing charged."""
        self.occasion = Occasion.READING
        decision = await self.engine.repeat(passage_id, debit_id, release or Release.ATTENDANT, self.context())
        self.antenna.stop(StopType.SEARCH_AGAIN)
        self.note_spent()
        return decision

    def note_spent(self, bank_us: int = 0, commit_us: int = 0) -> None:
        """Keep the timing, with the decision."""
        self.timing = Timing(0, *self.antenna.spent_us(), bank_us, commit_us, None)


def with_vehicle(seen: Identity, vehicle: VehicleFile) -> Identity:
    """Identity with what the tag says of its vehicle."""
    return replace(seen, plate=vehicle.plate, plate_colour=vehicle.plate_colour, vehicle_class=vehicle.vehicle_class)
