"""Emulated PTS-2 controller without its network: pumps, users, transactions, and an answer to every request.

Documents do not say which error comes where several fit; the order here is inferred: number of the pump, lock, then
state. What is asked of a pump (totals, prices) is told in the next answer to PumpGetStatus, once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from hardware.emulators.pts_pump import Pump, Sale
from protocols.pump.jsonpts import messages as m
from protocols.pump.jsonpts.codec import Confirmation, Content, Failure, Message, Packet, Undeclared, Unreadable
from protocols.pump.jsonpts.errors import ERRORS, PREFIX
from protocols.pump.jsonpts.messages import TransactionState

KEPT_MAX = 1000
"""Transactions that can be asked for (section 118), and uploads that wait."""

_NAMES = {error.code: error.name for error in ERRORS}


class Refused(Exception):
    """Request that the controller says no to."""

    def __init__(self, code: int, **data: object) -> None:
        self.code = code
        self.data = data
        super().__init__(code)


@dataclass(slots=True)
class Refusal:
    """Error to be given to the next requests of a type, whatever their state."""

    code: int
    count: int


class PtsBox:
    """Controller. `now` gives seconds that only grow, `at` its own local time."""

    def __init__(self, pts_id: str, pumps: list[Pump], *, now: Callable[[], float], at: Callable[[], datetime]) -> None:
        self.pts_id = pts_id
        self.pumps = {pump.number: pump for pump in pumps}
        self.uploads: deque[m.Push] = deque(maxlen=KEPT_MAX)
        self.refusals: dict[str, Refusal] = {}
        self.requests: deque[str] = deque(maxlen=KEPT_MAX)
        """Types of the requests that came, oldest first; polls are left out."""
        self.on_upload: Callable[[], None] = lambda: None
        self._now = now
        self._at = at
        self._finished: deque[tuple[int, Sale]] = deque(maxlen=KEPT_MAX)
        self._transactions = itertools.cycle(range(1, m.TRANSACTION_MAX + 1))

    # --- what happens at the pumps --------------------------------------------------------------------------------

    @property
    def finished(self) -> Iterator[tuple[int, Sale]]:
        """Sales that are closed, each with the number of its pump, oldest first."""
        return iter(self._finished)

    def set_flow(self, number: int, rate_ml_s: float) -> None:
        """Press or let go the lever."""
        self.flow()
        self.pumps[number].rate_ml_s = rate_ml_s

    def flow(self) -> None:
        """Bring every pump up to now."""
        for pump in self.pumps.values():
            pump.flow(self._now(), self._at())
            sale = pump.sale
            if sale is not None and sale.auto_close and sale.state is TransactionState.END_OF_TRANSACTION:
                self._close(pump)

    def lift(self, number: int, nozzle: int) -> None:
        """Take a nozzle out."""
        self.pumps[number].lift(nozzle, self._now(), self._at())

    def hang_up(self, number: int) -> None:
        """Put the nozzle back."""
        self.pumps[number].hang_up(self._now(), self._at())
        _free(self.pumps[number])
        self.flow()

    def sell_by_hand(self, number: int, nozzle: int, volume_ml: int) -> None:
        """Sell at the pump itself."""
        pump = self.pumps[number]
        sale = pump.sell_by_hand(nozzle, volume_ml, next(self._transactions), self._at())
        self._keep(pump, sale)

    def power(self, number: int, on: bool) -> None:
        """Cut or restore the mains of a pump."""
        pump = self.pumps[number]
        if on:
            pump.restore_power(self._at())
        else:
            pump.cut_power(self._now(), self._at())
        self.alert("Pump", number, 1, m.AlertState.FINISHED if on else m.AlertState.STARTED)

    def alert(self, device: str, number: int, code: int, state: m.AlertState) -> None:
        """Report an alert."""
        self._upload(
            m.UploadAlertRecord(date_time=self._at(), device_type=device, device_number=number, state=state, code=code)
        )

    def status(self) -> m.UploadStatus:
        """Status push of all pumps."""
        groups: dict[str, dict[str, list[Any]]] = {"idle_status": {}, "filling_status": {}, "offline_status": {}}
        groups["end_of_transaction_status"] = {}
        for pump in self.pumps.values():
            status = self._status(pump)
            group, keys = _PUSHED[type(status)]
            row = status.on_wire()
            for plural, key in keys.items():
                groups[group].setdefault(plural, []).append(row.get(key))
        return m.UploadStatus(date_time=self._at(), pumps=m.PumpGroups.model_validate(groups))

    # --- requests -------------------------------------------------------------------------------------------------

    def answer(self, message: Message, user: str) -> Message:
        """Answers to all packets of a message."""
        self.flow()
        return Message(tuple(self._answer(packet, user) for packet in message.packets))

    def _answer(self, packet: Packet, user: str) -> Packet:
        if isinstance(packet, Unreadable):
            return self._failure(packet.id, packet.type, 83)
        if not isinstance(packet, Content) or not isinstance(packet.data, m.Request):
            return self._failure(packet.id, packet.type if isinstance(packet, Undeclared) else None, 1)
        kind = packet.data.type_on_wire
        if kind != "PumpGetStatus":
            self.requests.append(kind)
        try:
            self._maybe_refuse(kind)
            answer = self._done(packet.data, user)
        except Refused as refused:
            return self._failure(packet.id, kind, refused.code, refused.data)
        return Confirmation(packet.id, kind) if answer is None else Content(packet.id, answer)

    def _failure(self, number: int, kind: str | None, code: int, data: Mapping[str, object] | None = None) -> Failure:
        return Failure(number, kind, code, PREFIX + _NAMES[code], data or {})

    def _maybe_refuse(self, kind: str) -> None:
        refusal = self.refusals.get(kind)
        if refusal is not None and refusal.count > 0:
            refusal.count -= 1
            raise Refused(refusal.code)

    def _done(self, request: m.Request, user: str) -> m.Answer | None:
        """Carry a request out; its answer, None for OK. Raises Refused."""
        match request:
            case m.GetUniqueIdentifier():
                return m.UniqueIdentifier(id=self.pts_id)
            case m.GetConfigurationIdentifier():
                return m.ConfigurationIdentifier(id="1234ABCD")
            case m.GetDateTime():
                return m.DateTime(date_time=self._at(), auto_synchronize=False, utc_offset=480)
            case m.GetSystemDecimalDigits():
                return m.SystemDecimalDigits(price=2, amount=2, volume=2, amount_total=2, volume_total=2)
            case m.PumpRequest():
                pump = self.pumps.get(request.pump)
                if pump is None:
                    raise Refused(52)
                return self._done_at(pump, request, user)
            case _:
                raise Refused(1)

    def _done_at(self, pump: Pump, request: m.PumpRequest, user: str) -> m.Answer | None:
        match request:
            case m.PumpGetStatus():
                reply = pump.replies.popleft() if pump.replies else self._status(pump)
                return reply if isinstance(reply, m.Answer) else None
            case m.PumpGetTransactionInformation():
                return self._information(pump, request.transaction or 0)
            case m.PumpGetLastSavedTotals():
                return m.PumpLastSavedTotals(pump=pump.number, nozzles=tuple(_saved_totals(pump)))
            case m.PumpEmergencyStop():
                pump.stop(self._now(), self._at())
                self._close(pump)
                pump.user = ""
                return None
        if pump.user not in ("", user):
            raise Refused(40, Pump=pump.number, User=pump.user)
        return self._ordered(pump, request, user)

    def _ordered(self, pump: Pump, request: m.PumpRequest, user: str) -> m.Answer | None:
        """Carry out what only the user of the pump may order."""
        match request:
            case m.PumpAuthorize():
                return self._authorised(pump, request, user)
            case m.PumpStop():
                pump.stop(self._now(), self._at())
                _free(pump)
            case m.PumpSuspend() | m.PumpResume():
                if not _delivers(pump):
                    raise Refused(43)
                pump.suspend(isinstance(request, m.PumpSuspend), self._now(), self._at())
            case m.PumpCloseTransaction():
                if pump.sale is None or pump.sale.state is not TransactionState.END_OF_TRANSACTION:
                    raise Refused(69)
                if request.transaction != pump.sale.transaction:
                    raise Refused(27)
                self._close(pump)
            case m.PumpLock():
                pump.user = user
            case m.PumpUnlock():
                if pump.user != user:
                    raise Refused(91)
                pump.user = ""
            case _:
                self._read(pump, request, user)
        return None

    def _read(self, pump: Pump, request: m.PumpRequest, user: str) -> None:
        """Read totals or prices from the pump, or write prices, to be told at the next status."""
        match request:
            case m.PumpGetTotals():
                pump.replies.append(_totals(pump, request.nozzle or 1, user))
            case m.PumpGetPrices() | m.PumpSetPrices():
                if isinstance(request, m.PumpSetPrices):
                    if _delivers(pump):
                        raise Refused(42, Pump=pump.number)
                    for meter, price in zip(pump.meters, request.prices, strict=False):
                        meter.price_milli = int(price.scaleb(3))
                prices = tuple(_price(meter.price_milli) for meter in pump.meters)
                pump.replies.append(m.PumpPrices(pump=pump.number, prices=prices, user=user))
            case _:
                raise Refused(1)

    def _authorised(self, pump: Pump, order: m.PumpAuthorize, user: str) -> m.PumpAuthorizeConfirmation:
        if pump.sale is not None:
            if pump.sale.state is TransactionState.AUTHORIZED:
                raise Refused(39)
            if pump.sale.state is TransactionState.FILLING:
                raise Refused(42, Pump=pump.number)
            raise Refused(41, Pump=pump.number, Request="PumpAuthorize")
        if not pump.online:
            raise Refused(101)
        nozzles = order.nozzles or ((order.nozzle,) if order.nozzle else tuple(range(1, len(pump.meters) + 1)))
        if max(nozzles) > len(pump.meters):
            raise Refused(33)
        sale = Sale(
            transaction=order.transaction or next(self._transactions),
            nozzles=nozzles,
            preset=order.type,
            dose=int((order.dose or Decimal()).scaleb(3 if order.type is m.Preset.VOLUME else 2)),
            user=user,
            price_milli=None if order.price is None else int(order.price.scaleb(3)),
            tag=order.tag or "",
            auto_close=order.auto_close_transaction is True,
        )
        pump.user = user
        pump.authorise(sale, self._now(), self._at())
        return m.PumpAuthorizeConfirmation(pump=pump.number, transaction=sale.transaction)

    def _close(self, pump: Pump) -> None:
        sale = pump.close()
        pump.user = ""
        if sale is not None and sale.volume_ml:
            self._keep(pump, sale)

    def _keep(self, pump: Pump, sale: Sale) -> None:
        self._finished.append((pump.number, sale))
        meter = pump.meters[sale.nozzle - 1]
        self._upload(
            m.UploadPumpTransaction(
                date_time_start=sale.started or self._at(),
                date_time=sale.ended or self._at(),
                pump=pump.number,
                total_volume=_litres(meter.total_ml),
                total_amount=_money(meter.total_minor),
                is_offline=True if sale.by_hand else None,
                user_id=1,
                **{name: value for name, value in _figures(sale).items() if name != "user"},
            )
        )

    def _upload(self, push: m.Push) -> None:
        self.uploads.append(push)
        self.on_upload()

    # --- answers --------------------------------------------------------------------------------------------------

    def _status(self, pump: Pump) -> m.PumpStatus:
        sale = pump.sale
        if not pump.online:
            state = TransactionState.FINISHED if sale is None else sale.state
            return m.PumpOfflineStatus(pump=pump.number, state=state, user=pump.user, **_last(pump))
        if sale is None or sale.state is TransactionState.AUTHORIZED:
            ordered: dict[str, Any] = {}
            if sale is not None:
                ordered = {
                    "transaction": sale.transaction,
                    "request": "PumpAuthorize",
                    "ordered_nozzles": sale.nozzles,
                    "ordered_type": sale.preset,
                }
            return m.PumpIdleStatus(
                pump=pump.number,
                nozzle_up=pump.nozzle_up,
                nozzle=pump.nozzle_up,
                nozzle_prices=tuple(_price(meter.price_milli) for meter in pump.meters),
                user=pump.user,
                **ordered,
                **_last(pump),
            )
        if sale.state is TransactionState.FILLING:
            return m.PumpFillingStatus(
                pump=pump.number,
                date_time_start=sale.started,
                flow_rate=0 if sale.suspended else int(pump.rate_ml_s * 60 / 1000),
                is_suspended=sale.suspended,
                **_figures(sale),
            )
        meter = pump.meters[sale.nozzle - 1]
        return m.PumpEndOfTransactionStatus(
            pump=pump.number,
            nozzle_up=pump.nozzle_up,
            date_time_start=sale.started,
            date_time=sale.ended,
            total_volume=_litres(meter.total_ml),
            total_amount=_money(meter.total_minor),
            **_figures(sale),
        )

    def _information(self, pump: Pump, transaction: int) -> m.PumpTransactionInformation:
        sales = [sale for number, sale in self._finished if number == pump.number]
        if pump.sale is not None:
            sales.append(pump.sale)
        for sale in reversed(sales):
            if transaction in (0, sale.transaction):
                return m.PumpTransactionInformation(pump=pump.number, state=sale.state, **_figures(sale))
        return m.PumpTransactionInformation(pump=pump.number, transaction=transaction, state=TransactionState.NOT_FOUND)


_PUSHED: Mapping[type[Any], tuple[str, Mapping[str, str]]] = {
    m.PumpIdleStatus: ("idle_status", {"Ids": "Pump", "NozzlesUp": "NozzleUp"}),
    m.PumpFillingStatus: (
        "filling_status",
        {
            "Ids": "Pump",
            "Nozzles": "Nozzle",
            "Transactions": "Transaction",
            "Volumes": "Volume",
            "Amounts": "Amount",
            "Prices": "Price",
        },
    ),
    m.PumpEndOfTransactionStatus: (
        "end_of_transaction_status",
        {
            "Ids": "Pump",
            "Nozzles": "Nozzle",
            "Transactions": "Transaction",
            "Volumes": "Volume",
            "Amounts": "Amount",
            "Prices": "Price",
        },
    ),
    m.PumpOfflineStatus: ("offline_status", {"Ids": "Pump"}),
}
"""Group and keys of each status in a status push."""


def _figures(sale: Sale) -> dict[str, Any]:
    return {
        "nozzle": sale.nozzle,
        "transaction": sale.transaction,
        "volume": _litres(sale.volume_ml),
        "price": _price(sale.price_milli or 0),
        "amount": _money(sale.amount_minor),
        "tag": sale.tag,
        "user": sale.user,
    }


def _last(pump: Pump) -> dict[str, Any]:
    last = pump.last
    if last is None:
        return {}
    return {
        "last_nozzle": last.nozzle,
        "last_transaction": last.transaction,
        "last_volume": _litres(last.volume_ml),
        "last_price": _price(last.price_milli or 0),
        "last_amount": _money(last.amount_minor),
        "last_date_time_start": last.started,
        "last_date_time": last.ended,
        "last_total_volume": _litres(pump.meters[last.nozzle - 1].total_ml),
        "last_total_amount": _money(pump.meters[last.nozzle - 1].total_minor),
        "last_user": last.user,
    }


def _delivers(pump: Pump) -> bool:
    return pump.sale is not None and pump.sale.state is TransactionState.FILLING


def _free(pump: Pump) -> None:
    """Free a pump whose sale did not take place."""
    if pump.sale is None:
        pump.user = ""


def _totals(pump: Pump, nozzle: int, user: str) -> m.PumpTotals:
    if nozzle > len(pump.meters):
        raise Refused(33)
    meter = pump.meters[nozzle - 1]
    return m.PumpTotals(
        pump=pump.number,
        nozzle=nozzle,
        volume=_litres(meter.total_ml),
        amount=_money(meter.total_minor),
        transaction=0 if pump.last is None else pump.last.transaction,
        user=user,
    )


def _saved_totals(pump: Pump) -> Iterator[m.SavedTotals]:
    for number, meter in enumerate(pump.meters, 1):
        yield m.SavedTotals(nozzle=number, volume=_litres(meter.total_ml), amount=_money(meter.total_minor))


def _litres(volume_ml: int) -> Decimal:
    return Decimal(volume_ml).scaleb(-3)


def _money(minor: int) -> Decimal:
    return Decimal(minor).scaleb(-2)


def _price(milli: int) -> Decimal:
    return Decimal(milli).scaleb(-3)
