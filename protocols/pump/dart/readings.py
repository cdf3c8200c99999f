"""DART transactions as what every pump has: readings from them, commands to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from protocols.errors import LocalProtocolError
from protocols.pump import types
from protocols.pump.dart import layout, meanings
from protocols.pump.dart.meanings import NOZZLE_BITS, NOZZLE_OUT_BIT, OrderCode, Status
from protocols.pump.types import Decimals, Reading, SideState

STATES: Final[Mapping[int, SideState]] = MappingProxyType(
    {
        Status.NOT_PROGRAMMED: SideState.NOT_PROGRAMMED,
        Status.RESET: SideState.IDLE,
        Status.AUTHORIZED: SideState.AUTHORISED,
        Status.FILLING: SideState.FUELLING,
        Status.FILLING_COMPLETED: SideState.COMPLETED,
        Status.MAX_AMOUNT_OR_VOLUME_REACHED: SideState.LIMIT_REACHED,
        Status.SWITCHED_OFF: SideState.CLOSED,
        Status.SUSPENDED: SideState.SUSPENDED,
    }
)
"""A nozzle that calls is no status of its own: `NozzleSeen` says it."""


def readings(transactions: Iterable[layout.Transaction], decimals: Decimals) -> tuple[Reading, ...]:
    """Readings in the order in which the pump told them. A transaction that says none gives none."""
    found = (_reading(one, decimals) for one in transactions)
    return tuple(one for one in found if one is not None)


def _reading(one: layout.Transaction, decimals: Decimals) -> Reading | None:
    match one:
        case layout.PumpStatus(status) if status in STATES:
            return types.StateSeen(STATES[status])
        case layout.Filled(volume, amount):
            return types.Delivered(decimals.volume_ml(volume), decimals.amount_minor(amount))
        case layout.NozzlePrice():
            return types.NozzleSeen(one.nozzle, one.nozzle_out, decimals.unit_price_milli(one.price_raw))
        case layout.Alarm(alarm):
            return types.AlarmSeen(alarm, meanings.ALARMS.get(alarm, meanings.UNLISTED_ALARM))
        case layout.BothTotals(counter, volume, amount):
            nozzle = counter & NOZZLE_BITS
            return types.TotalsSeen(nozzle, decimals.volume_ml(volume), decimals.amount_minor(amount))
        case layout.Total(counter, total) | layout.MeteredTotal(counter, total):
            nozzle = counter & NOZZLE_BITS
            if counter & NOZZLE_OUT_BIT:  # the same bit tells totalisers of amount
                return types.TotalsSeen(nozzle, None, decimals.amount_minor(total))
            return types.TotalsSeen(nozzle, decimals.volume_ml(total), None)
    return None


_ORDERS: Final[Mapping[type, OrderCode]] = MappingProxyType(
    {
        types.AskState: OrderCode.RETURN_STATUS,
        types.Stop: OrderCode.STOP,
        types.Suspend: OrderCode.SUSPEND,
        types.Resume: OrderCode.RESUME,
        types.AskDelivered: OrderCode.RETURN_FILLING_INFORMATION,
        types.Clear: OrderCode.RESET,
    }
)


def steps(command: types.Command, decimals: Decimals) -> tuple[layout.ToPump, ...]:
    """Transactions of a command, each to be accepted before the next is sent. Only the last one acts.

    One a block, as every controller known sends them. Raises LocalProtocolError for what the pump's digits cannot hold.
    """
    match command:
        case types.SetPrices(prices):
            found: tuple[layout.ToPump, ...] = (
                layout.SetPrices(tuple(layout.Price(decimals.price_digits(price)) for price in prices)),
            )
        case types.Authorise(limit, nozzles):
            found = (layout.AllowNozzles(nozzles), _preset(limit, decimals), layout.Order(OrderCode.AUTHORIZE))
        case types.AskTotals(nozzle):
            found = (layout.AskTotal(nozzle),)
        case _:
            found = (layout.Order(_ORDERS[type(command)]),)
    for one in found:
        layout.write(one)  # what does not fit is refused before anything is sent
    return found


def _preset(
    limit: types.VolumeLimit | types.AmountLimit, decimals: Decimals
) -> layout.PresetVolume | layout.PresetAmount:
    preset: layout.PresetVolume | layout.PresetAmount
    if isinstance(limit, types.VolumeLimit):
        digits = decimals.volume_digits(limit.volume_ml)
        preset = layout.PresetVolume(digits)
    else:
        digits = decimals.amount_digits(limit.amount_minor)
        preset = layout.PresetAmount(digits)
    if digits <= 0:
        # What a preset of nothing does is not documented; without a preset a pump delivers without end.
        raise LocalProtocolError("limit below the smallest step of the pump", field="limit", hint="refuse the customer")
    return preset
