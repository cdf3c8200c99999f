"""Pump sides as a charge point sees them, whatever the pump speaks: state, readings, commands, decimals.

Volumes are integer millilitres, amounts integer minor units of the currency, unit prices thousandths of its main unit
per litre (2.180 a litre is 2180). A pump sends digits without a point: `Decimals` of the pump turn them into these
units and back. A side is one place at which one vehicle is filled; its name is its owner's (`SideId`).

Delivery (`Delivered`) is what the display of the pump shows: to be billed only when the state says that it is over, and
then as it stands, never as volume times price.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NewType

from protocols.errors import LocalProtocolError
from protocols.fields import Label

SideId = NewType("SideId", int)
"""Number of a side at its link: the address on a bus, the pump number at a controller."""

VOLUME_DECIMALS_MAX: Final = 3
"""A pump that counts finer than millilitres is not known."""
PRICE_DECIMALS_MAX: Final = 3


class SideState(Enum):
    """State of a side, with its words."""

    NOT_PROGRAMMED = Label("未设价格", "has no prices")
    """Wants its prices, then `Clear`."""
    IDLE = Label("空闲", "idle")
    """Ready: an authorisation is taken."""
    CALLING = Label("提枪请求", "nozzle out, waiting for authorisation")
    AUTHORISED = Label("已授权", "authorised, nothing delivered yet")
    FUELLING = Label("加油中", "delivering")
    SUSPENDED = Label("已暂停", "suspended")
    COMPLETED = Label("加油完毕", "delivery over")
    """The sale is to be read and stored before `Clear`."""
    LIMIT_REACHED = Label("达到预置量", "preset reached")
    """Like COMPLETED once the nozzle is in."""
    STOPPED = Label("已停止", "stopped")
    CLOSED = Label("已关机", "switched off")
    FAULT = Label("故障", "out of order")


# --- readings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StateSeen:
    """State that the side reports."""

    state: SideState


@dataclass(frozen=True, slots=True)
class NozzleSeen:
    """Nozzle in its holder or out of it, with the unit price it delivers at."""

    nozzle: int
    """Counted from 1; 0 when the pump names none."""
    out: bool
    unit_price_milli: int | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """Delivery so far, or the whole of it once the state says that it is over. None: not said in this message."""

    volume_ml: int | None
    amount_minor: int | None
    unit_price_milli: int | None = None
    name: str | None = None
    """Name by which a controller tells this delivery of its side from all others; None where pumps have none."""


@dataclass(frozen=True, slots=True)
class TotalsSeen:
    """Totalisers of one nozzle, which only ever grow. None: this pump or message does not say."""

    nozzle: int | None
    volume_ml: int | None
    amount_minor: int | None


@dataclass(frozen=True, slots=True)
class AlarmSeen:
    """Alarm of the pump, with the maker's code."""

    code: int
    words: Label


Reading = StateSeen | NozzleSeen | Delivered | TotalsSeen | AlarmSeen

# --- commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskState:
    """Ask for the state and the nozzle."""


@dataclass(frozen=True, slots=True)
class SetPrices:
    """Set the unit prices of nozzle 1, 2, ..."""

    unit_prices_milli: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VolumeLimit:
    """Most that may be delivered, by volume."""

    volume_ml: int


@dataclass(frozen=True, slots=True)
class AmountLimit:
    """Most that may be delivered, by amount."""

    amount_minor: int


@dataclass(frozen=True, slots=True)
class Authorise:
    """Let one delivery begin, at these nozzles and within this limit.

    Nozzles, limit and permission are one command: where a link needs several messages for it, the permission goes last
    and only after all others were accepted. Fuel is paid afterwards, so the limit bounds the loss.
    """

    limit: VolumeLimit | AmountLimit
    nozzles: tuple[int, ...] = (1,)
    tag: str = field(default="", compare=False)
    """Up to 32 hex digits that a controller keeps with the sale and tells again; pumps on a line know none."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the delivery, or take the authorisation back."""


@dataclass(frozen=True, slots=True)
class Suspend:
    """Hold the delivery."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a suspended delivery."""


@dataclass(frozen=True, slots=True)
class AskDelivered:
    """Ask for the delivery, running or last."""


@dataclass(frozen=True, slots=True)
class AskTotals:
    """Ask for the totalisers of a nozzle."""

    nozzle: int


@dataclass(frozen=True, slots=True)
class Clear:
    """Set the display back for the next customer. Never before the sale is stored."""


Command = AskState | SetPrices | Authorise | Stop | Suspend | Resume | AskDelivered | AskTotals | Clear


class Outcome(Enum):
    """Outcome of a command at the side, as far as the link can tell."""

    ACCEPTED = "accepted"
    """The side has it. What it does is told by readings."""
    NOT_SENT = "not_sent"
    """Nothing that acts was sent; after an `Authorise` its nozzles or its limit may be set."""
    REFUSED = "refused"
    """The side said no."""
    UNKNOWN = "unknown"
    """Sent, and no answer came: the side may act on it. After an `Authorise`, send `Stop`."""


# --- decimals -------------------------------------------------------------------------------------------------------


def _ten_to(places: int) -> int:
    return int(10**places)


@dataclass(frozen=True, slots=True)
class Decimals:
    """Places after the point of the numbers of one pump, which are not on the wire, and of its currency."""

    volume: int = 2
    amount: int = 2
    price: int = 2
    currency: int = 2
    """2 for a currency with hundredths."""

    def __post_init__(self) -> None:
        """Refuse a pump whose numbers are finer than ours."""
        for name, value, most in (
            ("volume", self.volume, VOLUME_DECIMALS_MAX),
            ("amount", self.amount, self.currency),
            ("price", self.price, PRICE_DECIMALS_MAX),
        ):
            if not 0 <= value <= most:
                raise LocalProtocolError(
                    f"{value} decimals of the {name}, 0 to {most} can be kept",
                    field=name,
                    hint="look at the display of the pump, and at the currency of the site",
                )

    def volume_ml(self, digits: int) -> int:
        """Millilitres of digits of the pump."""
        return digits * _ten_to(VOLUME_DECIMALS_MAX - self.volume)

    def amount_minor(self, digits: int) -> int:
        """Minor units of digits of the pump."""
        return digits * _ten_to(self.currency - self.amount)

    def unit_price_milli(self, digits: int) -> int:
        """Thousandths of the main unit of digits of the pump."""
        return digits * _ten_to(PRICE_DECIMALS_MAX - self.price)

    def volume_digits(self, volume_ml: int) -> int:
        """Digits of a limit, down to the pump's last place: a limit is never exceeded."""
        return volume_ml // _ten_to(VOLUME_DECIMALS_MAX - self.volume)

    def amount_digits(self, amount_minor: int) -> int:
        """Digits of a limit, down to the pump's last place."""
        return amount_minor // _ten_to(self.currency - self.amount)

    def price_digits(self, unit_price_milli: int) -> int:
        """Digits of a unit price, which must be exact: another price would be sold."""
        digits, rest = divmod(unit_price_milli, _ten_to(PRICE_DECIMALS_MAX - self.price))
        if rest:
            raise LocalProtocolError(
                f"unit price {unit_price_milli} thousandths has more than {self.price} decimals", field="price"
            )
        return digits

    def amount_of(self, volume_ml: int, unit_price_milli: int) -> int:
        """Amount of volume times price in minor units, rounded half up at the pump's last place: a check of what the
        pump says, never what is billed."""
        step = _ten_to(self.currency - self.amount)
        exact_divisor = _ten_to(VOLUME_DECIMALS_MAX + PRICE_DECIMALS_MAX - self.currency) * step
        return (2 * volume_ml * unit_price_milli + exact_divisor) // (2 * exact_divisor) * step

    def explains(self, delivered: Delivered, unit_price_milli: int) -> bool:
        """True when the amount is volume times price, to at most one smallest step. Otherwise nothing may be billed
        without a person."""
        if delivered.volume_ml is None or delivered.amount_minor is None:
            return False
        gap = abs(delivered.amount_minor - self.amount_of(delivered.volume_ml, unit_price_milli))
        return gap <= _ten_to(self.currency - self.amount)
