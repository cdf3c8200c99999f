"""Purchase on a card through an antenna: the order, the reading of its answer, and the proof of one that was lost.

That a purchase was taken is the antenna's word, fresh, late or fetched: the change that stores it compares it with what
is known (`gateway.debit.purchase_proof`), and where that contradicts it the purchase is disputed instead.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from gateway.debit.claims import PreviousPurchase, PurchasePlan, PurchaseResult
from gateway.debit.purchase_proof import balance_agrees
from gateway.model.passage import Funding, PurchaseOutcome
from gateway.points.card.file_0019 import STATION_TAIL
from gateway.points.etc.dialogue import Dialogue, Gone
from gateway.points.etc.purchase_result import Ordered, result_of
from gateway.points.etc.rsu_errors import RsuErrorProfile
from gateway.points.etc.settings import EtcSettings, TacCommand
from protocols.rsu.messages import Debit, DebitResult, FetchTac, RecoverTac, TacResult

log = logging.getLogger(__name__)


class CardPurchases:
    """Purchases on the card of one vehicle."""

    def __init__(self, settings: EtcSettings, errors: RsuErrorProfile, antenna: Dialogue) -> None:
        self._settings = settings
        self._errors = errors
        self._antenna = antenna

    async def buy(self, plan: PurchasePlan, issuer: bytes, funding: Funding) -> PurchaseResult:
        """Order a purchase (C6) and wait for its result. From here on the card may have paid."""
        if plan.file_after is None:
            raise ValueError("a purchase through an antenna writes file 0019: nothing else could prove it")
        order = Debit(
            obu_id=self._antenna.obu_id,
            div_factor=factor_of(issuer),
            amount_fen=plan.written_fen,
            purchase_time_bcd=plan.purchase_time,
            station=plan.file_after,
        )
        try:
            answer = await self._antenna.ask(order, DebitResult)
        except Gone:
            return PurchaseResult(PurchaseOutcome.UNKNOWN)
        return self.result(answer, Ordered(plan.purchase_time, plan.written_fen, funding is Funding.PURSE))

    def late_result(self, answer: DebitResult, previous: PreviousPurchase) -> PurchaseResult:
        """Result in a B5 that came after its visit had ended."""
        return self.result(answer, _ordered_before(previous))

    def result(self, answer: DebitResult, ordered: Ordered, *, fetched: bool = False) -> PurchaseResult:
        """Result in a B5 of this purchase. One of another time speaks of an earlier try: it proves nothing."""
        if answer.trans_time_bcd != ordered.purchase_time:
            log.warning("%s: a result of another purchase, error %02X", self._settings.name, answer.error)
            return PurchaseResult(PurchaseOutcome.UNKNOWN, error=answer.error)
        return result_of(answer, ordered, self._errors, fetched=fetched)

    async def proof(self, previous: PreviousPurchase, balance_raw: int | None, issuer: bytes) -> PurchaseResult:
        """Result of a purchase that file 0019 proves, with its TAC where the dialect can fetch it.

        The file is what this antenna says of the card. Where the balance it read beside it does not agree nothing more
        is asked for: the purchase is disputed as it is stored.
        """
        shown = PurchaseResult(PurchaseOutcome.TAKEN, balance_after=balance_raw)
        if not balance_agrees(previous.balance_before, previous.written_fen, balance_raw):
            return shown
        if self._settings.tac_command is TacCommand.BY_SERIAL:
            return await self._fetch_tac(previous, shown)
        if self._settings.tac_command is TacCommand.BY_CONTENT:
            return await self._recover_tac(previous, shown, issuer)
        return shown

    async def _fetch_tac(self, previous: PreviousPurchase, shown: PurchaseResult) -> PurchaseResult:
        """Fetch the TAC of a purchase whose answer was lost; without it the visit is charged and listed."""
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

    async def _recover_tac(self, previous: PreviousPurchase, shown: PurchaseResult, issuer: bytes) -> PurchaseResult:
        """Recover the same in dialects that are asked by the purchase's content: its result comes once more, whole."""
        if previous.file_after is None:
            return shown
        tail = previous.file_after[STATION_TAIL]
        order = RecoverTac(self._antenna.obu_id, factor_of(issuer), previous.purchase_time, tail)
        try:
            answer = await self._antenna.ask(order, DebitResult)
        except Gone:
            return shown
        result = self.result(answer, _ordered_before(previous), fetched=True)
        if result.outcome is not PurchaseOutcome.TAKEN:
            # The file proves the purchase; only its proof for clearing could not be had.
            return replace(shown, error=result.error)
        return replace(result, tac_source="c7")


def factor_of(issuer: bytes) -> bytes:
    """Diversification factor of C1 and C6: the region's four bytes, twice (rsu protocol table 4.3)."""
    return issuer[:4] * 2


def _ordered_before(previous: PreviousPurchase) -> Ordered:
    return Ordered(previous.purchase_time, previous.written_fen, previous.payer.funding is Funding.PURSE)
