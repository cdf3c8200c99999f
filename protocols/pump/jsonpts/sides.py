"""Pump sides of a controller in the words of `protocols.pump.types`: statuses to readings, commands to requests.

A controller's numbers have their decimal point, so they need no table to be read; what has more decimals than we keep
is refused, never rounded. Limits are cut down to the places that the pump counts in: a limit is never exceeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Label
from protocols.pump.jsonpts.messages import (
    Data,
    Preset,
    PumpAuthorize,
    PumpCloseTransaction,
    PumpEndOfTransactionStatus,
    PumpFillingStatus,
    PumpGetStatus,
    PumpGetTotals,
    PumpIdleStatus,
    PumpLastSavedTotals,
    PumpOfflineStatus,
    PumpRequest,
    PumpResume,
    PumpSetPrices,
    PumpStatus,
    PumpStop,
    PumpSuspend,
    PumpTotals,
    UploadAlertRecord,
    UploadPumpTransaction,
)
from protocols.pump.jsonpts.words import PUMP_ALERTS
from protocols.pump.types import (
    PRICE_DECIMALS_MAX,
    VOLUME_DECIMALS_MAX,
    AlarmSeen,
    AmountLimit,
    AskDelivered,
    AskState,
    AskTotals,
    Authorise,
    Clear,
    Command,
    Decimals,
    Delivered,
    NozzleSeen,
    Reading,
    Resume,
    SetPrices,
    SideId,
    SideState,
    StateSeen,
    Stop,
    Suspend,
    TotalsSeen,
)

# --- readings -------------------------------------------------------------------------------------------------------


def readings(data: Data, decimals: Decimals) -> Iterator[tuple[SideId, Reading]]:
    """Readings in an answer or alert, each with its side. Raises RemoteProtocolError for a number that we cannot keep.

    A pump that is off line is a fault, whatever was known of it before: nothing of that may be billed.
    """
    match data:
        case PumpIdleStatus() | PumpFillingStatus() | PumpEndOfTransactionStatus() | PumpOfflineStatus():
            side = SideId(data.pump)
            yield side, StateSeen(_state(data))
            for reading in _details(data, decimals):
                yield side, reading
        case PumpTotals():
            yield SideId(data.pump), _totals(data.nozzle, data.volume, data.amount, decimals)
        case PumpLastSavedTotals():
            for saved in data.nozzles:
                yield SideId(data.pump), _totals(saved.nozzle, saved.volume, saved.amount, decimals)
        case UploadAlertRecord() if data.device_type == "Pump":
            words = PUMP_ALERTS.get(data.code, Label(f"报警 {data.code}", f"alert {data.code}"))
            yield SideId(data.device_number), AlarmSeen(data.code, words)


def _state(status: PumpStatus) -> SideState:
    match status:
        case PumpIdleStatus():
            if status.transaction:
                return SideState.AUTHORISED
            return SideState.CALLING if status.nozzle_up else SideState.IDLE
        case PumpFillingStatus():
            if status.is_suspended:
                return SideState.SUSPENDED
            # With its nozzle out a pump fills as soon as it may, by this word, whether anything flows or not.
            return SideState.AUTHORISED if status.volume == 0 else SideState.FUELLING
        case PumpEndOfTransactionStatus():
            return SideState.STOPPED if status.nozzle_up else SideState.COMPLETED
        case PumpOfflineStatus():
            return SideState.FAULT


def _details(status: PumpStatus, decimals: Decimals) -> Iterator[Reading]:
    match status:
        case PumpIdleStatus():
            nozzle = status.nozzle_up or 0
            prices = status.nozzle_prices or ()
            price = prices[nozzle - 1] if 1 <= nozzle <= len(prices) else None
            yield NozzleSeen(nozzle, nozzle > 0, unit_price_milli(price))
        case PumpFillingStatus():
            yield NozzleSeen(status.nozzle or 0, True, unit_price_milli(status.price))
            yield _delivered(status, decimals)
        case PumpEndOfTransactionStatus():
            yield NozzleSeen(status.nozzle or 0, bool(status.nozzle_up), unit_price_milli(status.price))
            yield replace(_delivered(status, decimals), name=_name(status.transaction, status.date_time_start))
            if status.total_volume is not None:
                yield _totals(status.nozzle, status.total_volume, status.total_amount, decimals)


def _delivered(status: PumpFillingStatus | PumpEndOfTransactionStatus, decimals: Decimals) -> Delivered:
    return Delivered(volume_ml(status.volume), amount_minor(status.amount, decimals), unit_price_milli(status.price))


def _totals(nozzle: int | None, volume: Decimal, amount: Decimal | None, decimals: Decimals) -> TotalsSeen:
    return TotalsSeen(nozzle, volume_ml(volume), amount_minor(amount, decimals))


def volume_ml(value: Decimal | None) -> int | None:
    """Millilitres of litres."""
    return None if value is None else _scaled("Volume", value, VOLUME_DECIMALS_MAX)


def unit_price_milli(value: Decimal | None) -> int | None:
    """Thousandths of a price for a litre."""
    return None if value is None else _scaled("Price", value, PRICE_DECIMALS_MAX)


def amount_minor(value: Decimal | None, decimals: Decimals) -> int | None:
    """Minor units of an amount. Raises RemoteProtocolError for a fraction of one."""
    return None if value is None else _scaled("Amount", value, decimals.currency)


def _scaled(name: str, value: Decimal, places: int) -> int:
    scaled = value.scaleb(places)
    if scaled != scaled.to_integral_value():
        raise RemoteProtocolError(
            f"{value} has more than {places} decimals",
            field=name,
            clause="jsonPTS R129, section 43",
            hint="set the decimal digits of the controller to those of the currency",
        )
    return int(scaled)


# --- commands -------------------------------------------------------------------------------------------------------


def request(
    command: Command,
    pump: SideId,
    decimals: Decimals,
    *,
    transaction: int | None = None,
    unit_prices_milli: tuple[int, ...] = (),
    tag: str | None = None,
) -> PumpRequest:
    """Request for a command. Raises LocalProtocolError for one that cannot be given.

    `transaction`: the open one, to be closed by `Clear`. `unit_prices_milli`: prices of nozzle 1, 2, ...; an
    authorisation of one nozzle names its price, so that a price changed at the controller is not sold; without, the
    controller's own counts. `tag`: hex under which the controller keeps the sale.
    """
    match command:
        case AskState() | AskDelivered():
            return PumpGetStatus(pump=pump)
        case SetPrices():
            return PumpSetPrices(
                pump=pump, prices=tuple(_price(price, decimals) for price in command.unit_prices_milli)
            )
        case Authorise():
            return _authorisation(command, pump, decimals, unit_prices_milli, tag)
        case Stop():
            return PumpStop(pump=pump)
        case Suspend():
            return PumpSuspend(pump=pump)
        case Resume():
            return PumpResume(pump=pump)
        case AskTotals():
            return PumpGetTotals(pump=pump, nozzle=command.nozzle)
        case Clear():
            if not transaction:
                raise LocalProtocolError("no transaction is open", field="transaction", hint="ask for the state first")
            return PumpCloseTransaction(pump=pump, transaction=transaction)


def _authorisation(
    command: Authorise, pump: SideId, decimals: Decimals, prices: tuple[int, ...], tag: str | None
) -> PumpAuthorize:
    if isinstance(command.limit, AmountLimit):
        kind, dose = Preset.AMOUNT, _digits(decimals.amount_digits(command.limit.amount_minor), decimals.amount)
    else:
        kind, dose = Preset.VOLUME, _digits(decimals.volume_digits(command.limit.volume_ml), decimals.volume)
    one = command.nozzles[0] if len(command.nozzles) == 1 else None
    price = _price(prices[one - 1], decimals) if one is not None and 1 <= one <= len(prices) else None
    return PumpAuthorize(
        pump=pump,
        nozzle=one,
        nozzles=None if one is not None else command.nozzles,
        type=kind,
        dose=dose,
        price=price,
        auto_close_transaction=False,
        tag=tag,
        no_tag_verification=None if tag is None else True,
    )


def _price(milli: int, decimals: Decimals) -> Decimal:
    return _digits(decimals.price_digits(milli), decimals.price)


def _digits(digits: int, places: int) -> Decimal:
    return Decimal(digits).scaleb(-places)


# --- sales ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SaleKey:
    """Identity of a sale, by which a repeated push is told: transaction numbers begin anew after 65535."""

    controller: str
    pump: SideId
    transaction: int
    started: datetime
    """Controller's local time."""

    @property
    def name(self) -> str:
        """Name of the delivery at its side, as `Delivered` has it."""
        return f"{self.transaction} {self.started:%Y-%m-%dT%H:%M:%S}"


@dataclass(frozen=True, slots=True)
class UploadedSale:
    """Sale that a controller reports by itself."""

    key: SaleKey
    ended: datetime
    nozzle: int
    delivered: Delivered
    totals: TotalsSeen | None
    tag: str
    by_hand: bool
    """Sold at the pump itself, by no order of ours."""
    pushed: bool = True
    """Told by the controller itself; otherwise it is the last one that an idle pump remembers."""


def uploaded_sale(controller: str, push: UploadPumpTransaction, decimals: Decimals) -> UploadedSale:
    """Sale in a push. Raises RemoteProtocolError for a number that we cannot keep."""
    totals = None
    if push.total_volume is not None:
        totals = _totals(push.nozzle, push.total_volume, push.total_amount, decimals)
    return UploadedSale(
        SaleKey(controller, SideId(push.pump), push.transaction, push.date_time_start),
        push.date_time,
        push.nozzle,
        Delivered(volume_ml(push.volume), amount_minor(push.amount, decimals), unit_price_milli(push.price)),
        totals,
        push.tag or "",
        push.is_offline is True,
    )


def last_sale(controller: str, status: PumpIdleStatus, decimals: Decimals) -> UploadedSale | None:
    """Sale before, as a pump that delivers nothing tells it; None where it has not told enough to know it by.

    Raises RemoteProtocolError for a number that we cannot keep.
    """
    started, volume, amount = status.last_date_time_start, status.last_volume, status.last_amount
    if not status.last_transaction or started is None or volume is None or amount is None:
        return None
    totals = None
    if status.last_total_volume is not None:
        totals = _totals(status.last_nozzle, status.last_total_volume, status.last_total_amount, decimals)
    return UploadedSale(
        SaleKey(controller, SideId(status.pump), status.last_transaction, started),
        status.last_date_time or started,
        status.last_nozzle or 0,
        Delivered(volume_ml(volume), amount_minor(amount, decimals), unit_price_milli(status.last_price)),
        totals,
        tag="",
        by_hand=False,
        pushed=False,
    )


def _name(transaction: int | None, started: datetime | None) -> str | None:
    """Name of a delivery that is over."""
    return None if not transaction or started is None else SaleKey("", SideId(0), transaction, started).name
