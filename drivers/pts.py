"""Driver of one PTS-2 controller: polls its pumps, gives them commands, and takes what it reports by itself.

Theory of operation. There are two ways to a controller. Where its address is known we are its client and POST to it
(`PtsConfig.http`). Otherwise it dials in: `pts_door` brings its WebSocket here, and requests and answers travel on
that. Either way one message is under way at a time, since the controller has one small buffer, and answers are told by
their ids. `run` asks all pumps for their status once a second; readings are told as they come, repetitions too. A pump
that is let deliver is asked more often, and so is one whose totals were asked for: they come in place of its next
status.

What the controller reports by itself is answered when it has been dealt with: a sale is confirmed once `on_sale` says
that it is stored, and until then the controller sends it again. One that sends nothing tells the last sale of each
idle pump with its status; `on_sale` hears of that in the same way.

A command has one of the outcomes that every pump has. It is `UNKNOWN` from the moment the message may have left us. The
number of the open transaction, which `Clear` needs, is the one that the last status named.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from drivers.clock import Clock
from drivers.errors import DeviceError, DeviceUnavailable, LinkLost, RequestOutcome
from drivers.http_client import HttpClient, HttpClientConfig
from drivers.restraint import LogBySource, LogStretch
from protocols.errors import RemoteProtocolError
from protocols.pump.jsonpts import codec
from protocols.pump.jsonpts.codec import Confirmation, Content, Failure, Message, Packet, Undeclared, Unreadable
from protocols.pump.jsonpts.errors import INVALID_REQUEST, PREFIX, ErrorCode
from protocols.pump.jsonpts.messages import (
    PUSHES_PASSED_OVER,
    Data,
    PumpAuthorizeConfirmation,
    PumpEndOfTransactionStatus,
    PumpFillingStatus,
    PumpGetStatus,
    PumpIdleStatus,
    PumpOfflineStatus,
    PumpTotals,
    Push,
    Request,
    UploadAlertRecord,
    UploadPumpTransaction,
    UploadStatus,
)
from protocols.pump.jsonpts.sides import SaleKey, UploadedSale, last_sale, readings, request, uploaded_sale
from protocols.pump.jsonpts.words import CONTROLLER_ALERTS
from protocols.pump.types import AskTotals, Command, Decimals, Outcome, Reading, SetPrices, SideId

log = logging.getLogger(__name__)

PUMPS_A_MESSAGE: Final = 60
"""Questions in one message: nine JSON tokens each, of which the controller takes 600."""

BUSY_S: Final = 0.25
"""Pause between two looks at pumps that are let deliver: the bank's two seconds begin when the nozzle is back."""

ASK_TIMEOUT_S: Final = 2.0
"""Time for a status: the controller has it in memory, and a command waits for its turn behind it."""

STORE_TIMEOUT_S: Final = 5.0
"""Time to store a sale. Afterwards the controller is asked to send it again; it waits no longer than it is set to."""

HURRY_S: Final = 0.1
"""Pause between questions to a pump whose totals are waited for."""

HURRIED_MAX: Final = 30
"""Such questions: a pump that has not told its totals by then is asked at the usual pace."""

NOT_STORED: Final = 96
"""Error by which we ask for a push again: OPERATION_ERROR."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PtsConfig:
    """One controller."""

    device: str
    pts_id: str
    """Number of the controller, 24 hex digits, as its own page shows it."""
    pumps: tuple[SideId, ...]
    decimals: Decimals = field(default_factory=Decimals)
    """Places its pumps count in."""
    http: HttpClientConfig | None = None
    """Address and login; None: it dials in."""
    poll_every_s: float = 1.0
    silence_s: float = 10.0
    """Time without an answer after which it is reported to be down."""


@dataclass(frozen=True, slots=True)
class Done:
    """Outcome of a command, with the controller's own reason when it said no."""

    outcome: Outcome
    error: ErrorCode | None = None
    transaction: int | None = None
    """Number of the transaction that was authorised."""


Exchange = Callable[[bytes, frozenset[int], float], Awaitable[Message]]
"""Way to a controller: a body there, the message that answers these ids back, within seconds. Raises DeviceError."""


class PtsController:
    """Driver of one controller, see the module. Callbacks run in the event loop; only `on_sale` may wait."""

    def __init__(
        self,
        config: PtsConfig,
        *,
        clock: Clock,
        on_reading: Callable[[SideId, Reading], None],
        on_sale: Callable[[UploadedSale], Awaitable[bool]],
        on_condition: Callable[[bool, str], None] = lambda _up, _cause: None,
    ) -> None:
        """`on_sale` gives True once the sale is stored, or was before. It must give no command: over a WebSocket the
        answer would wait behind it."""
        self.config = config
        self._clock = clock
        self._on_reading = on_reading
        self._on_sale = on_sale
        self._on_condition = on_condition
        self._exchange: Exchange | None = None
        self._turn = asyncio.Lock()
        self._last_id = 0
        self._heard_at: float | None = None
        self._condition: tuple[bool, str] | None = None
        self._open: dict[SideId, int] = {}
        self._last: dict[SideId, SaleKey] = {}
        """Last sale of each pump that is known to be stored."""
        self._totals_due: dict[SideId, int] = {}
        """Pumps whose totals are waited for, and how often they may be asked for it."""
        self._totals_asked = asyncio.Event()
        self._prices: dict[SideId, tuple[int, ...]] = {}
        self._complaints = LogBySource(log, config.device)
        self._polls_log = LogStretch(log, config.device, "polls without an answer")

    # --- running --------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Poll until cancelled."""
        if self.config.http is None:
            await self._poll()
        async with HttpClient(self.config.http) as client:

            async def exchange(body: bytes, _ids: frozenset[int], timeout_s: float) -> Message:
                answer = await client.post(codec.PATH, body, content_type=codec.CONTENT_TYPE, timeout_s=timeout_s)
                return self._decoded(answer.body)

            self._exchange = exchange
            try:
                await self._poll()
            finally:
                self._exchange = None

    def dialled_in(self, exchange: Exchange) -> None:
        """Use this way from now on: a controller that dials anew has lost the connection before."""
        self._exchange = exchange

    def hung_up(self, exchange: Exchange) -> None:
        """Use this way no more, if it is still the one in use."""
        if self._exchange is exchange:
            self._exchange = None
            self._tell(False, "the controller hung up")

    async def _poll(self) -> NoReturn:
        self._tell(False, "not heard yet")
        try:
            while True:
                for start in range(0, len(self.config.pumps), PUMPS_A_MESSAGE):
                    await self._poll_some(self.config.pumps[start : start + PUMPS_A_MESSAGE])
                await self._until_next()
        finally:
            self._tell(False, "stopped")

    async def _until_next(self) -> None:
        """Wait for the next round; ask meanwhile for totals that are due, and pumps that are let deliver."""
        end = self._clock.monotonic() + self.config.poll_every_s
        while (left_s := end - self._clock.monotonic()) > 0:
            self._totals_asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, self._hurry_s())):
                    await self._totals_asked.wait()
            due = tuple({**self._totals_due, **self._open})
            for start in range(0, len(due), PUMPS_A_MESSAGE):
                await self._poll_some(due[start : start + PUMPS_A_MESSAGE])
            self._totals_due = {side: left - 1 for side, left in self._totals_due.items() if left > 1}

    def _hurry_s(self) -> float:
        if self._totals_due:
            return HURRY_S
        return BUSY_S if self._open else self.config.poll_every_s

    async def _poll_some(self, pumps: Sequence[SideId]) -> None:
        asked: list[Request] = [PumpGetStatus(pump=pump) for pump in pumps]
        try:
            packets = await self._ask(asked, ASK_TIMEOUT_S)
        except DeviceError as error:
            now = self._clock.monotonic()
            self._polls_log.say(now, "%s", error)
            if self._heard_at is None or now - self._heard_at >= self.config.silence_s:
                self._tell(False, error.problem)
            return
        for packet in packets:
            self._take(packet)
            if isinstance(packet, Content) and isinstance(packet.data, PumpIdleStatus):
                await self._look_at_last(packet.data)

    async def _look_at_last(self, status: PumpIdleStatus) -> None:
        """Tell the last sale of a pump until it is stored."""
        try:
            sale = last_sale(self.config.pts_id, status, self.config.decimals)
            if sale is None or self._last.get(sale.key.pump) == sale.key:
                return
            async with asyncio.timeout(STORE_TIMEOUT_S):
                if await self._on_sale(sale):
                    self._last[sale.key.pump] = sale.key
        except (TimeoutError, RemoteProtocolError) as error:
            self._complain(f"last sale of pump {status.pump}: {str(error) or 'not stored in time'}")

    def _take(self, packet: Packet) -> None:
        """Tell the readings of an answer; one that cannot be read, or that says no, is a line in the log."""
        match packet:
            case Content(_, data):
                self._note(data)
                try:
                    for side, reading in readings(data, self.config.decimals):
                        self._on_reading(side, reading)
                except RemoteProtocolError as error:
                    self._complain(str(error))
            case Failure():
                self._complain(f"{packet.type}: {_reason(packet)}")
            case Unreadable():
                self._complain(str(packet.error))
            case _:
                self._complain(f"answer {packet} to no question of ours")

    def _note(self, data: Data) -> None:
        match data:
            case PumpIdleStatus() | PumpFillingStatus() | PumpEndOfTransactionStatus() | PumpOfflineStatus():
                if data.transaction:
                    self._open[SideId(data.pump)] = data.transaction
                elif not isinstance(data, PumpOfflineStatus):
                    self._open.pop(SideId(data.pump), None)
            case PumpTotals():
                self._totals_due.pop(SideId(data.pump), None)
            case PumpAuthorizeConfirmation():
                self._open[SideId(data.pump)] = data.transaction

    # --- commands -------------------------------------------------------------------------------------------------

    def open_transaction(self, side: SideId) -> int | None:
        """Number of the transaction that is authorised, running or not closed, as last heard."""
        return self._open.get(side)

    async def command(self, side: SideId, command: Command, *, timeout_s: float, tag: str | None = None) -> Done:
        """Give a command to a side. `tag`: hex under which the controller keeps the sale of an authorisation.

        Raises LocalProtocolError for a command that cannot be given. Totals that are asked for come as readings.
        """
        prices = self._prices.get(side, ())
        asked = request(
            command,
            side,
            self.config.decimals,
            transaction=self._open.get(side),
            unit_prices_milli=prices,
            tag=tag,
        )
        try:
            [packet] = await self._ask([asked], timeout_s)
        except DeviceError as error:
            log.warning("%s: pump %d, %s: %s", self.config.device, side, type(command).__name__, error)
            return Done(OUTCOMES[error.outcome])
        done = self._done(side, packet)
        if done.outcome is Outcome.ACCEPTED and isinstance(command, SetPrices):
            self._prices[side] = command.unit_prices_milli
        if done.outcome is Outcome.ACCEPTED and isinstance(command, AskTotals):
            self._totals_due[side] = HURRIED_MAX
            self._totals_asked.set()
        return done

    def _done(self, side: SideId, packet: Packet) -> Done:
        match packet:
            case Confirmation():
                return Done(Outcome.ACCEPTED)
            case Content(_, PumpAuthorizeConfirmation() as confirmed):
                if confirmed.pump != side:
                    self._complain(f"pump {confirmed.pump} confirmed in place of {side}")
                    return Done(Outcome.UNKNOWN)
                self._note(confirmed)
                return Done(Outcome.ACCEPTED, transaction=confirmed.transaction)
            case Failure():
                log.warning("%s: pump %d, %s: %s", self.config.device, side, packet.type, _reason(packet))
                return Done(Outcome.REFUSED, packet.meaning)
            case Content():
                self._take(packet)
                return Done(Outcome.ACCEPTED)
            case _:
                self._take(packet)
                return Done(Outcome.UNKNOWN)

    async def _ask(self, requests: Sequence[Request], timeout_s: float) -> list[Packet]:
        """Answers to these requests, in their order. Raises DeviceError."""
        exchange, device = self._exchange, self.config.device
        if exchange is None:
            raise DeviceUnavailable("no connection", device=device, hint="has the controller our address?")
        deadline = self._clock.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._turn.acquire()
        except TimeoutError as error:
            raise DeviceUnavailable(f"no turn within {timeout_s} s", device=device) from error
        try:
            ids = [self._next_id() for _ in requests]
            asked = Message(tuple(Content(number, data) for number, data in zip(ids, requests, strict=True)))
            left_s = deadline - self._clock.monotonic()
            message = await exchange(codec.encode_request(asked), frozenset(ids), left_s)
        finally:
            self._turn.release()
        self._heard_at = self._clock.monotonic()
        self._tell(True, "answers")
        if message.refused is not None:
            return [message.refused for _ in ids]
        found = {packet.id: packet for packet in message.packets}
        if not set(ids) <= set(found):
            raise LinkLost("not every question was answered", device=device)
        return [found[number] for number in ids]

    def _next_id(self) -> int:
        self._last_id = self._last_id % codec.ID_MAX + 1
        return self._last_id

    # --- what it reports by itself --------------------------------------------------------------------------------

    async def pushed(self, message: Message) -> Message:
        """Deal with the pushes in a message, and give the reply. Raises nothing of its own."""
        return Message(tuple([await self._reply(packet) for packet in message.packets]))

    async def _reply(self, packet: Packet) -> Packet:
        match packet:
            case Content(number, Push() as push):
                return await self._reply_to(number, push)
            case Undeclared(number, kind) if kind in PUSHES_PASSED_OVER:
                return Confirmation(number, kind)
            case Unreadable(number, kind, error):
                self._complain(str(error))
                return Failure(number, kind, INVALID_REQUEST, "INVALID_JSON_REQUEST")
            case _:
                self._complain(f"push {packet} that nobody serves")
                return Failure(packet.id, getattr(packet, "type", None), 1, f"{PREFIX}NOT_FOUND")

    async def _reply_to(self, number: int, push: Push) -> Packet:
        kind = push.type_on_wire
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                if await self._deal_with(push):
                    return Confirmation(number, kind)
        except TimeoutError:
            self._complain(f"{kind}: not stored within {STORE_TIMEOUT_S} s")
        except RemoteProtocolError as error:
            self._complain(str(error))
            return Failure(number, kind, INVALID_REQUEST, "INVALID_JSON_REQUEST")
        return Failure(number, kind, NOT_STORED, f"{PREFIX}OPERATION_ERROR")

    async def _deal_with(self, push: Push) -> bool:
        match push:
            case UploadPumpTransaction():
                return await self._on_sale(uploaded_sale(self.config.pts_id, push, self.config.decimals))
            case UploadStatus():
                for status in push.statuses():
                    # The end of a delivery is told there without its start and without the nozzle: polls tell it whole.
                    if not isinstance(status, PumpEndOfTransactionStatus):
                        self._take(Content(0, status))
            case UploadAlertRecord():
                self._alert(push)
        return True

    def _alert(self, push: UploadAlertRecord) -> None:
        for side, reading in readings(push, self.config.decimals):
            self._on_reading(side, reading)
        if push.device_type == "PTS":
            words = CONTROLLER_ALERTS.get(push.code)
            text = f"alert {push.code}" if words is None else words.en
            log.warning("%s: %s, %s", self.config.device, text, push.state.value)

    # --- small things ---------------------------------------------------------------------------------------------

    def _decoded(self, body: bytes) -> Message:
        try:
            return codec.decode(body)
        except RemoteProtocolError as error:
            raise LinkLost(f"answer that cannot be read: {error}", device=self.config.device) from error

    def _complain(self, text: str) -> None:
        self._complaints.say(self._clock.monotonic(), self.config.pts_id, text)

    def _tell(self, up: bool, cause: str) -> None:
        if self._condition is not None and self._condition[0] is up and (up or self._condition[1] == cause):
            return
        self._condition = (up, cause)
        self._on_condition(up, cause)


OUTCOMES: Final = {
    RequestOutcome.NOT_SENT: Outcome.NOT_SENT,
    RequestOutcome.REFUSED: Outcome.REFUSED,
    RequestOutcome.UNKNOWN: Outcome.UNKNOWN,
}


def _reason(failure: Failure) -> str:
    meaning = failure.meaning
    return f"error {failure.code} {failure.text}" if meaning is None else f"error {meaning.code}, {meaning.words.en}"
