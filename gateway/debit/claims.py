"""Values of the debit engine. Money is integer fen, times are UTC microseconds unless named otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.ids import digest_of
from gateway.model.passage import Abandoned, Funding, Occasion, PassageOutcome, PurchaseOutcome, Release, Service


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of the customer at the charge point, as far as it was read."""

    obu_id: bytes | None = None
    contract: str | None = None
    """Issuer and serial of the tag, hex."""
    card_number: str | None = None
    """20 digits."""
    plate: str | None = None
    plate_colour: int | None = None
    vehicle_class: int | None = None
    device_type: int | None = None
    code: str | None = None
    """Scanned code; stored nowhere, it only tells one payer from another."""


@dataclass(frozen=True, slots=True)
class Payer:
    """Payer of a debit: exactly one funding source."""

    funding: Funding
    name: str
    """Issuer (purse, issuer_clearing) or bank channel (bank_online)."""
    mandate_id: str | None = None
    contract_ref: str | None = None
    limit_fen: int | None = None
    """Most the obligor may owe us at once; None = no limit of ours (the purse is its own)."""
    stand_in_limit_fen: int = 0
    """Most that may be owed on our own decision."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of a purchase that a card reader knows before the debit; an antenna tells them with its result."""

    terminal: str
    """Terminal number of the PSAM, 12 hex digits."""
    card_serial: int
    """Serial under which the card will know this purchase: one more than its INIT told."""
    psam_serial: int
    algorithm: int
    key_version: int


@dataclass(frozen=True, slots=True)
class PurchasePlan:
    """Purchase that the card will be asked for."""

    written_fen: int
    """Amount the purchase carries: the fare, or zero where a charge card only proves the passage."""
    purchase_time: str
    """YYYYMMDDhhmmss as in C6."""
    balance_before: int | None
    file_before: bytes | None
    """File 0019 as read, and as it will stand on the card; None where the purchase does not touch it."""
    file_after: bytes | None
    numbers: Numbers | None = None
    """Numbers that its proof will be asked for by; None through an antenna."""


@dataclass(frozen=True, slots=True)
class PurchaseResult:
    """Result of a purchase as the card answered. Fields are None where the answer was lost or the dialect has none."""

    outcome: PurchaseOutcome
    reason: str | None = None
    """Code of the reason why it was not taken, is unknown or disputed, where the antenna or the lane said so."""
    error: int | None = None
    terminal: str | None = None
    card_serial: int | None = None
    psam_serial: int | None = None
    tac: bytes | None = None
    tac_source: str | None = None
    """Source of the TAC: `b5`, or `54` on a card reader, with the result; `b8`, `c7` or `5a` fetched later."""
    algorithm: int | None = None
    key_version: int | None = None
    balance_after: int | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """Sight of one vehicle at one charge point, before anything was decided."""

    passage_id: str
    charge_point: str
    service: Service
    identity: Identity
    opened_at: int
    clock_quality: str
    day: str = ""
    """Local day of the event, YYYYMMDD."""


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Request for a hold. Same key and same content is the same claim; same key and other content is refused."""

    idempotency_key: str
    sight: Sight
    merchant: str
    payer: Payer
    amount_fen: int
    plan: PurchasePlan | None
    abandoned: Abandoned
    """Fate of the hold when nobody comes back to it."""

    @property
    def content_hash(self) -> str:
        """Digest of everything that must not differ between two requests with one key."""
        return digest_of(
            self.sight.charge_point,
            self.sight.service,
            self.merchant,
            self.payer.funding,
            self.payer.name,
            self.payer.mandate_id,
            self.amount_fen,
            self.plan.file_before if self.plan else None,
        )


@dataclass(frozen=True, slots=True)
class HoldPlaced:
    """Hold and intent that are durable."""

    debit_id: str
    purchase_id: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class HoldRefused:
    """Refusal of a hold: `reason` is a code of `gateway.model.reasons`."""

    reason: str


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """Context of a decision, stored beside the money: charge point, occasion and versions it was made with."""

    charge_point: str
    tariff_version: str | None = None
    list_version: str | None = None
    list_age_s: int | None = None
    occasion: Occasion = Occasion.LANE
    rules_version: str | None = None

    def under(self, rules_version: str) -> DecisionContext:
        """Copy with the version of the rules. Field by field: `replace` costs as much as storing a row."""
        return DecisionContext(
            self.charge_point,
            self.tariff_version,
            self.list_version,
            self.list_age_s,
            self.occasion,
            rules_version,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Decision that is committed."""

    record_no: int
    decided_at: int
    passage_id: str
    debit_id: str | None
    release: Release
    outcome: PassageOutcome
    reason: str | None
    amount_fen: int
    funding: Funding | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """Claim that was made under an idempotency key."""

    state: str
    """State of its debit."""
    decision: Decision | None
    """Newest decision about it; None while there is none."""


@dataclass(frozen=True, slots=True)
class PreviousPurchase:
    """Newest purchase of a card that the ledger knows."""

    purchase_id: str
    passage_id: str
    debit_id: str
    charge_point: str
    idempotency_key: str
    attempt_no: int
    state: str
    file_before: bytes | None
    """Files are None where the purchase did not touch any."""
    file_after: bytes | None
    written_fen: int
    amount_fen: int
    payer: Payer
    """Payer, fixed with the hold; its limits are the mandate's present ones, as they bind now."""
    purchase_time: str
    card_serial: int | None
    """Serial of this purchase, from its own result, else one more than the last one seen of the card."""
    terminal: str | None
    """Terminal number, once it is known: from the beginning on a card reader, whose serial is then no guess."""
    balance_before: int | None
    """Balance read before the order; None where the antenna told none."""
    reason: str | None
    """Code of the reason why it was not taken, is unknown or disputed."""
    debit_state: str
    release: Release | None
    """Release by the passage's newest decision; None while there is none."""
    decided_s_ago: float | None
    """Seconds since that decision, whatever lane, process or person made it."""


@dataclass(frozen=True, slots=True)
class PreviousPassage:
    """Newest claim on a tag contract."""

    passage_id: str
    debit_id: str
    debit_state: str
    charge_point: str
    amount_fen: int
    payer: Payer
    """Payer, fixed with the hold; its limits are the mandate's present ones, as they bind now."""
    release: Release | None
    """Release by its newest decision; None while there is none."""
    decided_s_ago: float | None


@dataclass(frozen=True, slots=True)
class PreviousEntry:
    """Newest recorded entry of a card at one lane."""

    passage_id: str
    charge_point: str
    decided_s_ago: float


@dataclass(frozen=True, slots=True)
class BankRequest:
    """Stored attempt, ready to be sent to its bank."""

    channel: str
    reference: str
    request: bytes
