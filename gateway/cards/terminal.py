"""Card reader with a PSAM beside it: a place where a card pays, and the card that lies there now.

Devices are met here: what goes wrong with the customer's card is `CardGone`, what goes wrong with the reader is
`TerminalFault`, and a PSAM that does not work refuses purchases: a card that was pulled is settled without one. The
PSAM stays open as long as it answers; its keys and its counter are its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from drivers.card_slot import CardSlot
from drivers.errors import DeviceError
from drivers.psam import Psam, PsamInfo
from gateway.cards import proof
from gateway.cards.contents import Identified, identify
from gateway.cards.proof import Judged, Ordered
from gateway.cards.purchase import CardPurchase, OpenPurchase, PurchaseRefused, psam_reason
from gateway.debit.claims import PreviousPurchase, PurchaseResult
from protocols.card.files import CardFile
from protocols.errors import ProtocolError


class Slots(Protocol):
    """Readers with their slots."""

    def open(self, selector: str | None, *, wait_s: float) -> AbstractAsyncContextManager[CardSlot]:
        """Slot of the reader that is meant, once there is a card in it. Raises `DeviceError`."""
        ...


class CardGone(Exception):
    """Card that left, or fell silent, before anything was asked of it that matters."""


class TerminalFault(Exception):
    """Fault of the reader; `error` is the driver's."""

    def __init__(self, error: DeviceError) -> None:
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True, slots=True)
class OpenedPsam:
    """PSAM that answers, and what it told of itself."""

    psam: Psam
    info: PsamInfo


class CardTerminal:
    """Reader with its PSAM."""

    def __init__(
        self, slots: Slots, *, reader: str, psam: str, on_psam: Callable[[str | None], None] = lambda _: None
    ) -> None:
        """`reader` and `psam`: names of readers, whole or in part. `on_psam` hears why the PSAM does not work, and None
        when it does."""
        self._slots = slots
        self._reader = reader
        self._psam_reader = psam
        self._stack = AsyncExitStack()
        self._on_psam = on_psam
        self._psam: OpenedPsam | None = None

    @asynccontextmanager
    async def customer(self, *, wait_s: float) -> AsyncIterator[Customer]:
        """Next card that is laid on the reader; no other program comes between. Raises `TerminalFault`."""
        try:
            await self._look_at_psam()
            async with (
                AsyncExitStack() as turn,
                self._slots.open(self._reader, wait_s=wait_s) as card,
                card.alone(),
            ):
                yield Customer(card, self, turn)
        except DeviceError as error:
            raise TerminalFault(error) from error

    async def close(self) -> None:
        """Let the PSAM go."""
        stack, self._stack, self._psam = self._stack, AsyncExitStack(), None
        await stack.aclose()

    async def psam(self) -> OpenedPsam:
        """PSAM of this place. Raises `PurchaseRefused` where it does not work."""
        if self._psam is None:
            try:
                psam = Psam(await self._stack.enter_async_context(self._slots.open(self._psam_reader, wait_s=0)))
                self._psam = OpenedPsam(psam, await psam.info())
            except (DeviceError, ProtocolError) as error:
                await self.close()
                self._on_psam(str(error))
                raise PurchaseRefused(psam_reason(error), str(error)) from error
            self._on_psam(None)
        return self._psam

    async def _look_at_psam(self) -> None:
        """Open it before there is a card: whoever lays one there waits for the purchase alone."""
        with suppress(PurchaseRefused):
            await self.psam()


class Customer:
    """Card that lies on the reader."""

    def __init__(self, card: CardSlot, terminal: CardTerminal, turn: AsyncExitStack) -> None:
        """`turn`: keeps the PSAM for this card until it is closed."""
        self._card = card
        self._terminal = terminal
        self._turn = turn
        self._purchase: CardPurchase | None = None

    async def identify(self) -> Identified | str:
        """Read the card as far as a purchase needs it; else the code of the reason why it cannot be used."""
        with _of_the_card():
            return await identify(self._card)

    async def judge(self, previous: PreviousPurchase) -> Judged:
        """Ask the card about an earlier purchase, and judge what it shows."""
        ordered = Ordered.before(previous)
        with _of_the_card():
            return proof.judge(ordered, await proof.ask(self._card, ordered))

    async def open_purchase(
        self, file: CardFile, amount_fen: int, time: str, *, file_before: bytes, file_after: bytes
    ) -> OpenPurchase:
        """Begin a purchase, up to what needs its intent. Raises `PurchaseRefused`."""
        if self._purchase is None:
            opened = await self._terminal.psam()
            await self._turn.enter_async_context(opened.psam.turn())
            self._purchase = CardPurchase(self._card, opened.psam, opened.info)
        with _of_the_card():
            try:
                return await self._purchase.open(file, amount_fen, time, file_before=file_before, file_after=file_after)
            finally:
                await self._give_up_psam(self._purchase)

    async def debit(self, purchase: OpenPurchase) -> PurchaseResult:
        """Debit; its intent is durable. Whatever devices do has an outcome."""
        if self._purchase is None:
            raise RuntimeError("a debit follows the purchase that was opened for it")
        result = await self._purchase.debit(purchase)
        await self._give_up_psam(self._purchase)
        return result

    async def removed(self) -> None:
        """Return when the card has left the reader."""
        await self._card.removed()

    async def _give_up_psam(self, purchase: CardPurchase) -> None:
        """Let a PSAM go that failed; the next purchase opens it anew."""
        if purchase.psam_lost:
            self._purchase = None
            await self._turn.aclose()
            await self._terminal.close()


@contextmanager
def _of_the_card() -> Iterator[None]:
    """Tell the customer's card from the place it lies on."""
    try:
        yield
    except DeviceError as error:
        raise CardGone(str(error)) from error
