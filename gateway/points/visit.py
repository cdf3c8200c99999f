"""Visit of one customer at one charge point: the common part, whatever stands there to read and to release.

A visit asks the engine, keeps the facts for the record, and knows how long the customer's right lasts. What is read,
and in which order things happen, is the kind's business (`gateway.points.etc` for tags and cards at an antenna).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from typing import Protocol

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
from gateway.debit.engine import BroughtIn, DebitEngine, ProvenClaim, Timing
from gateway.model.clock import Clock, to_us
from gateway.model.ids import digest_of
from gateway.model.passage import Occasion, Release
from gateway.model.plate import Plate
from gateway.model.reasons import REASONS, Severity
from gateway.payers.list_file import StatusListError
from gateway.payers.mandates import CredentialKind, Mandate
from gateway.payers.status_lists import ListKind, StatusLists, plate_key
from gateway.points.settings import PointSettings
from gateway.timekeeping import Timekeeper

log = logging.getLogger(__name__)

REFUSAL_COMMIT_S = 5.0
"""Seconds for the commit of a refusal: it releases nothing, so its record may take longer than a sale's."""

PURCHASE_UNDER_WAY_S = 5.0
"""Seconds for which a purchase asked for at another charge point may be under way: its deadline and a late answer."""


class SightOutdated(Exception):
    """Sight that may not be true any more: the customer is left alone and looked at again."""


class Mandates(Protocol):
    """Mandates as they stand now."""

    async def find(self, kind: CredentialKind, key: str) -> Mandate | None:
        """Find the mandate behind a credential."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services that every visit of a charge point uses."""

    settings: PointSettings
    engine: DebitEngine
    mandates: Mandates
    lists: StatusLists
    clock: Clock
    time: Timekeeper
    note_timing: Callable[[Timing], None]
    report_fault: Callable[[str, str | None], None]
    """Reports the name of a part of this charge point and its fault; None when it works again."""


class Visit:
    """Visit of a customer, see the module. Made for one customer, used once."""

    def __init__(self, services: Services) -> None:
        self.engine = services.engine
        self.clock = services.clock
        self.occasion = Occasion.LANE
        self.tariff_version: str | None = None
        self._services = services
        self._settings = services.settings
        self._lists = services.lists.snapshot

    # --- who and how long -----------------------------------------------------------------------------------------

    def listed(self, kind: ListKind, key: str) -> str | None:
        """Code of the reason why this may not be used, by the lists in force when the visit began."""
        try:
            hit = self._lists.lookup(kind, key)
        except StatusListError as damage:
            log.warning("%s: a %s cannot be looked up: %s", self._settings.name, kind.value, damage)
            return "list_unavailable"
        return None if hit is None else hit.reason.code

    def listed_plate(self, plate: Plate) -> str | None:
        """Code of the same for a plate; one that was not read is on no list."""
        return self.listed(ListKind.PLATE, plate_key(plate)) if plate.known else None

    async def mandate_of(self, kind: CredentialKind, key: str) -> Mandate | None:
        """Find a credential's mandate. It is read before the hold, as the fare is: the hold binds what it says."""
        return await self._services.mandates.find(kind, key)

    def within_window(self, previous: PreviousPurchase | PreviousPassage | PreviousEntry) -> bool:
        """True when decided at this place, and so lately that the customer still has the right to pass."""
        # Not by the time of day alone: setting the clock must neither lengthen anybody's right nor end it.
        decided_s_ago = previous.decided_s_ago
        lately = decided_s_ago is not None and decided_s_ago < self._settings.repeat_window_s
        return lately and self.is_of_this_place(previous)

    def is_of_this_place(self, previous: PreviousPurchase | PreviousPassage | PreviousEntry) -> bool:
        """True for what was sold at this charge point, or at another of this place that sells the same."""
        return previous.charge_point == self._settings.name or previous.charge_point in self._settings.same_station

    def leave_if_elsewhere(self, previous: PreviousPurchase | PreviousPassage) -> None:
        """Raise `SightOutdated` where this reading may be older than another charge point's purchase order."""
        lately = self.engine.asked_s_ago(previous.debit_id) < PURCHASE_UNDER_WAY_S
        if previous.charge_point != self._settings.name and lately:
            raise SightOutdated(f"{previous.charge_point} deals with it")

    # --- asking the engine ----------------------------------------------------------------------------------------

    async def hold(
        self,
        seen: Identity,
        payer: Payer,
        amount_fen: int,
        plan: PurchasePlan | None,
        entry_data: bytes,
        *,
        timeout_s: float,
    ) -> HoldPlaced | str:
        """Reserve the amount, with the purchase's intent; else the code of why not.

        `entry_data` tells this visit of the customer from the one before.
        """
        placed = await self.engine.hold(self._request(seen, payer, amount_fen, plan, entry_data), timeout_s=timeout_s)
        return placed if isinstance(placed, HoldPlaced) else placed.reason

    async def charge(
        self,
        seen: Identity,
        payer: Payer,
        amount_fen: int,
        entry_data: bytes,
        *,
        deadline: float,
        on_stored: Callable[[], None],
    ) -> BroughtIn | str:
        """Claim and collect what needs no purchase on a card; else the code of why not."""
        found = await self.engine.charge_here(
            self._request(seen, payer, amount_fen, None, entry_data),
            self.context(),
            self._settings.decline_policy,
            deadline=deadline,
            on_stored=on_stored,
        )
        return found if isinstance(found, BroughtIn) else found.reason

    def _request(
        self, seen: Identity, payer: Payer, amount_fen: int, plan: PurchasePlan | None, entry_data: bytes
    ) -> HoldRequest:
        return HoldRequest(
            idempotency_key=self.key(seen, entry_data),
            sight=self.sight(seen),
            merchant=self._settings.merchant,
            payer=payer,
            amount_fen=amount_fen,
            plan=plan,
            abandoned=self._settings.abandoned,
        )

    def key(self, seen: Identity, entry_data: bytes) -> str:
        """Make the idempotency key of a claim."""
        return digest_of(self._settings.name, seen.obu_id, seen.card_number or seen.contract, entry_data)

    def claim(self, debit_id: str, payer: Payer, card_number: str | None, purchase_id: str | None) -> ProvenClaim:
        """Make the claim of a held debit, before anything is known of its purchase."""
        return ProvenClaim(
            debit_id=debit_id,
            payer=payer,
            context=self.context(),
            decline_policy=self._settings.decline_policy,
            purchase_id=purchase_id,
            card_number=card_number,
        )

    def claim_again(self, previous: PreviousPurchase | PreviousPassage, card_number: str | None) -> ProvenClaim:
        """Make the claim of a debit that was held before and is not decided."""
        purchase_id = previous.purchase_id if isinstance(previous, PreviousPurchase) else None
        return self.claim(previous.debit_id, previous.payer, card_number, purchase_id)

    def answered(self, claim: ProvenClaim, result: PurchaseResult | None) -> ProvenClaim:
        """Add to the claim what its card said, and the versions it is decided under."""
        return replace(claim, result=result, context=self.context())

    async def refuse(self, seen: Identity, reason: str, release: Release | None = None) -> Decision:
        """Turn the customer away with a reason, recorded; nothing was asked of the card."""
        if release is None:
            attendant = REASONS[reason].severity in (Severity.ATTENDANT, Severity.STOP)
            release = Release.ATTENDANT if attendant else Release.STOP
        return await self.engine.refuse(self.sight(seen), reason, release, self.context(), timeout_s=REFUSAL_COMMIT_S)

    # --- facts for the record -------------------------------------------------------------------------------------

    def today(self) -> date | None:
        """Local day, None while the clock is not to be trusted."""
        if not self._services.time.trusted:
            return None
        return self.clock.utcnow().astimezone(self.zone).date()

    @property
    def zone(self) -> timezone:
        """Time zone of times on cards."""
        return timezone(timedelta(seconds=self._settings.utc_offset_s))

    def local(self, unix_seconds: int) -> str:
        """Format a time as YYYYMMDDhhmmss."""
        return datetime.fromtimestamp(unix_seconds, self.zone).strftime("%Y%m%d%H%M%S")

    def sight(self, seen: Identity) -> Sight:
        """Sight of the customer, as it is recorded."""
        return Sight(
            passage_id=self.engine.new_id(),
            charge_point=self._settings.name,
            service=self._settings.service,
            identity=seen,
            opened_at=to_us(self.clock.utcnow()),
            clock_quality=self._services.time.quality.value,
            day=self.clock.utcnow().astimezone(self.zone).strftime("%Y%m%d"),
        )

    def context(self) -> DecisionContext:
        """Context of a decision, with the versions it is made with."""
        age = self.clock.utcnow() - self._lists.created_at
        return DecisionContext(
            charge_point=self._settings.name,
            tariff_version=self.tariff_version,
            list_version=self._lists.version,
            list_age_s=int(age.total_seconds()),
            occasion=self.occasion,
        )
