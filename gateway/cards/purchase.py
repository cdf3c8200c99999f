"""Composite purchase of a card on a reader, with a PSAM beside it.

    card 8050 INIT -> card 80DC file 0019 -> PSAM 8070 MAC1 | intent durable | card 8054 DEBIT -> PSAM 8072 MAC2

`open` goes up to the bar: nothing is taken yet, and whoever stops there leaves nothing behind but a number of the PSAM.
`debit` goes on from the second bar. A card that answers the debit with anything but 9000 is not believed: it is asked
for proof at once (`gateway.cards.proof`), and where it cannot be asked any more the end is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from drivers.card_slot import CardSlot
from drivers.errors import DeviceError, DeviceRefused, RequestOutcome
from drivers.psam import Psam, PsamInfo, PsamRefused
from gateway.cards import proof
from gateway.cards.proof import Ordered
from gateway.cards.psam import REFUSALS
from gateway.debit.claims import Numbers, PurchasePlan, PurchaseResult
from gateway.debit.purchase_proof import SERIALS
from gateway.model.passage import PurchaseOutcome
from protocols.card.apdu import SW_BALANCE, SW_KEY_INDEX, SW_MAC, Response, status_text
from protocols.card.codes import TradeType
from protocols.card.commands import ETC_APPLICATION, RECORD_AA, select_id
from protocols.card.files import CardFile
from protocols.card.psam import SamPurchase
from protocols.card.purse import (
    PurchaseOpened,
    debit,
    get_balance,
    init_purchase,
    parse_balance,
    parse_debit,
    parse_purchase_opened,
    update_cache,
)
from protocols.crypto.algorithm import Algorithm
from protocols.errors import ProtocolError

log = logging.getLogger(__name__)

_INIT_REFUSED: Final[Mapping[int, str]] = MappingProxyType(
    {SW_BALANCE: "purse_too_low", 0x6A81: "card_locked", 0x9303: "card_locked"}
)
"""Status word of INIT -> code of the reason; any other is `purchase_init_failed`."""

_DEBIT_REFUSED: Final[Mapping[int, str]] = MappingProxyType({SW_MAC: "mac1_failed", SW_BALANCE: "purse_too_low"})
"""Status word of a debit that was not taken -> code of the reason; any other is `purchase_refused`."""


class PurchaseRefused(Exception):
    """Purchase that was not begun, with the code of the reason. Nothing was taken."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class OpenPurchase:
    """Purchase that card and PSAM have agreed on, before the debit."""

    amount_fen: int
    time: str
    terminal: bytes
    opened: PurchaseOpened
    sam: SamPurchase
    file_before: bytes | None
    file_after: bytes

    @property
    def plan(self) -> PurchasePlan:
        """Intent of the purchase, to be made durable before the debit."""
        numbers = Numbers(
            terminal=self.terminal.hex(),
            card_serial=self.opened.proof_sequence % SERIALS,
            psam_serial=self.sam.terminal_serial,
            algorithm=self.opened.algorithm,
            key_version=self.opened.key_version,
        )
        return PurchasePlan(
            written_fen=self.amount_fen,
            purchase_time=self.time,
            balance_before=self.opened.balance_raw,
            file_before=self.file_before,
            file_after=self.file_after,
            numbers=numbers,
        )

    @property
    def ordered(self) -> Ordered:
        """The same, as a proof is asked for it."""
        return Ordered.planned(self.plan)


class CardPurchase:
    """Purchases of one card, within one turn of the PSAM."""

    def __init__(self, card: CardSlot, psam: Psam, info: PsamInfo) -> None:
        """`info`: what the PSAM tells of itself, read before."""
        self.psam_lost = False
        """True once the PSAM failed to answer, or contradicted itself: it is of no more use as it is."""
        self._card = card
        self._psam = psam
        self._info = info

    async def open(
        self, file: CardFile, amount_fen: int, time: str, *, file_before: bytes, file_after: bytes
    ) -> OpenPurchase:
        """Begin a purchase. `time`: 14 digits, local. Raises `PurchaseRefused`, or `DeviceError` when the card goes."""
        terminal = self._info.terminal
        opened = await self._init(file, amount_fen, terminal)
        cached = await self._card.transmit(update_cache(RECORD_AA, file_after))
        if not cached.ok:
            raise _refused("record_update_failed", "UPDATE CAPP DATA CACHE", cached)
        try:
            sam = await self._psam.open_purchase(
                opened,
                amount_fen=amount_fen,
                trade_type=TradeType.COMPOSITE,
                time=time,
                inner_number=file.inner_number,
                region=file.region_factor,
            )
        except (DeviceError, ProtocolError) as error:
            self._note(error)
            raise PurchaseRefused(psam_reason(error), str(error)) from error
        return OpenPurchase(amount_fen, time, terminal, opened, sam, file_before, file_after)

    async def debit(self, purchase: OpenPurchase) -> PurchaseResult:
        """Debit. Its intent is durable. Never raises for what devices do: whatever happens has an outcome."""
        order = debit(purchase.sam.terminal_serial, purchase.time, purchase.sam.mac1)
        try:
            answer = await self._card.transmit(order)
        except DeviceError as error:
            log.warning("the debit was not answered: %s", error)
            if error.outcome is RequestOutcome.NOT_SENT:
                return PurchaseResult(PurchaseOutcome.NOT_TAKEN, reason="card_removed")
            return PurchaseResult(PurchaseOutcome.UNKNOWN)
        try:
            paid = parse_debit(answer.data) if answer.ok else None
        except ProtocolError:
            paid = None
        if paid is None:
            return await self._doubt(purchase, answer)
        reason, outcome = None, PurchaseOutcome.TAKEN
        try:
            if not await self._psam.close_purchase(paid.mac2):
                reason, outcome = "mac2_failed", PurchaseOutcome.DISPUTED
        except (DeviceError, ProtocolError) as error:
            self._note(error)
            log.warning("MAC2 was not checked: %s", error)
            reason = "mac2_unchecked"
        return PurchaseResult(
            outcome,
            reason=reason,
            tac=paid.tac,
            tac_source="54",
            balance_after=await self._balance(),
        )

    def _note(self, error: DeviceError | ProtocolError) -> None:
        """Note what the PSAM did. A refusal is an answer like any other."""
        self.psam_lost = self.psam_lost or not isinstance(error, DeviceRefused)

    async def _init(self, file: CardFile, amount_fen: int, terminal: bytes) -> PurchaseOpened:
        """INIT with the keys that the card's version names, else with the other set that cards for both have."""
        await self._card.transmit(select_id(ETC_APPLICATION))
        own = file.algorithm
        other = Algorithm.DES3 if own is Algorithm.SM4 else Algorithm.SM4
        algorithm, answer = own, await self._card.transmit(init_purchase(own.purse_key_index, amount_fen, terminal))
        if answer.sw == SW_KEY_INDEX:
            algorithm, answer = (
                other,
                await self._card.transmit(init_purchase(other.purse_key_index, amount_fen, terminal)),
            )
        if not answer.ok:
            raise _refused(_INIT_REFUSED.get(answer.sw, "purchase_init_failed"), "INITIALIZE FOR PURCHASE", answer)
        try:
            opened = parse_purchase_opened(answer.data)
        except ProtocolError as error:
            raise PurchaseRefused("purchase_init_failed", str(error)) from error
        if (opened.algorithm, opened.key_version) != (algorithm, algorithm.purse_key_index):
            asked, told = algorithm.purse_key_index, opened.key_version
            raise PurchaseRefused("purchase_init_failed", f"key {asked:02X} was asked for, the card used {told:02X}")
        return opened

    async def _doubt(self, purchase: OpenPurchase, answer: Response) -> PurchaseResult:
        """Result of a debit that the card did not answer with a proof: what it shows now, or unknown."""
        log.warning("the debit was answered with %04X: the card is asked for proof", answer.sw)
        try:
            judged = proof.judge(purchase.ordered, await proof.ask(self._card, purchase.ordered))
        except DeviceError as error:
            log.warning("it could not be asked: %s", error)
            return PurchaseResult(PurchaseOutcome.UNKNOWN)
        if judged.outcome is PurchaseOutcome.NOT_TAKEN:
            reason = _DEBIT_REFUSED.get(answer.sw, "purchase_refused")
            return PurchaseResult(PurchaseOutcome.NOT_TAKEN, reason=reason, error=answer.sw)
        return proved(judged)

    async def _balance(self) -> int | None:
        """Balance afterwards, which the ledger compares; None where the card has gone already."""
        try:
            answer = await self._card.transmit(get_balance())
        except DeviceError:
            return None
        return parse_balance(answer.data) if answer.ok and len(answer.data) == 4 else None


def proved(judged: proof.Judged) -> PurchaseResult:
    """Result of a purchase whose end its card has proved."""
    return PurchaseResult(
        judged.outcome,
        card_serial=judged.card_serial,
        tac=judged.tac,
        tac_source=None if judged.tac is None else "5a",
        balance_after=judged.balance_after,
    )


def psam_reason(error: DeviceError | ProtocolError) -> str:
    """Code of the reason for which a PSAM cannot be used."""
    return REFUSALS.get(error.sw if isinstance(error, PsamRefused) else 0, "psam_operation_failed")


def _refused(reason: str, step: str, answer: Response) -> PurchaseRefused:
    return PurchaseRefused(reason, f"{step}: {answer.sw:04X} {status_text(answer.sw).en}")
