"""One side of an emulated pump without its electronics: nozzles, meter, valve, display, totalisers.

Theory of operation. Whoever asks says what time it is; between two looks fuel flows by itself (`advance`). The meter
counts in the smallest step of the display, the amount is volume times price, rounded half up, and the valve closes at
the most that does not exceed the limit. A delivery begins with `authorise`, flows while the nozzle is out and allowed,
and ends once: at the nozzle's return, the limit, a stop, a loss of power. Each end with fuel is a line of the book.

What a state is called on the line, and which state takes which command, is the electronics' affair: `pump_dart`,
`pump_two_wire`, `pump_lanfeng`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.pump.types import AmountLimit, Decimals, SideId, SideState, VolumeLimit

FLOW_ML_S_MAX: Final = 1_000_000
"""A tanker a minute: fast enough for any bench."""

AT_WORK: Final = frozenset({SideState.AUTHORISED, SideState.FUELLING, SideState.SUSPENDED})
"""States in which a delivery is under way."""


@dataclass(frozen=True, slots=True)
class Sale:
    """Delivery as the meter counted it: a line of the book."""

    number: int
    """Counted from 1 at its side."""
    side: SideId
    nozzle: int
    volume_ml: int
    amount_minor: int
    unit_price_milli: int
    total_volume_ml: int
    """Totaliser of the nozzle after it."""
    total_amount_minor: int
    shown_amount_minor: int
    """Amount on the display and on the line; another one only where the bench made it wrong."""
    end: str
    """`returned`, `limit`, `stopped`, `power` or `alone`."""


@dataclass(slots=True)
class Nozzle:
    """A nozzle with its price and its totalisers."""

    unit_price_milli: int
    volume_ml: int
    amount_minor: int


@dataclass(slots=True)
class Flow:
    """Valve: when it was opened, and what the meter showed then."""

    since: float
    volume_ml: int


@dataclass(slots=True)
class Dispenser:
    """One side."""

    side: SideId
    decimals: Decimals
    nozzles: dict[int, Nozzle]
    """By number, from 1."""
    flow_ml_s: int
    state: SideState = SideState.IDLE
    nozzle: int = 1
    """Nozzle that is out, or was out last."""
    out: bool = False
    called: bool = False
    """The nozzle was lifted, and nothing has been delivered since."""
    powered: bool = True
    volume_ml: int = 0
    amount_minor: int = 0
    """Display."""
    amount_error: int = 0
    """Minor units by which the display of the next delivery is wrong."""
    book: list[Sale] = field(default_factory=list)
    on_change: Callable[[], None] = lambda: None
    _limit: VolumeLimit | AmountLimit | None = None
    _allowed: tuple[int, ...] = ()
    _flow: Flow | None = None

    @property
    def now_at(self) -> Nozzle:
        """The nozzle that is out, or was out last."""
        return self.nozzles[self.nozzle]

    @property
    def _step_ml(self) -> int:
        """Smallest volume that the display tells apart."""
        return self.decimals.volume_ml(1)

    def totals(self, nozzle: int) -> tuple[int, int]:
        """Volume and amount of a nozzle's totalisers, with what flows now. Raises LookupError."""
        of = self._known(nozzle)
        if nozzle != self.nozzle or self.state not in AT_WORK:
            return of.volume_ml, of.amount_minor
        return of.volume_ml + self.volume_ml, of.amount_minor + self._metered()

    # --- time -----------------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let fuel flow until `now`."""
        if self._flow is None:
            return
        volume = self._flow.volume_ml + int((now - self._flow.since) * self.flow_ml_s)
        most = self._most_ml()
        volume -= volume % self._step_ml
        self._show(volume if most is None else min(volume, most))
        if most is not None and volume >= most:
            self._end("limit", SideState.LIMIT_REACHED)
            self.on_change()

    def next_at(self, now: float) -> float | None:
        """Time at which the limit is reached, None when nothing happens by itself."""
        most = self._most_ml()
        if self._flow is None or most is None:
            return None
        return max(now, self._flow.since + (most - self._flow.volume_ml) / self.flow_ml_s)

    # --- what the driver of the vehicle does ----------------------------------------------------------------------

    def lift(self, nozzle: int, now: float) -> None:
        """Take a nozzle out. Raises LookupError or ValueError."""
        self._known(nozzle)
        if self.out:
            raise ValueError(f"nozzle {self.nozzle} of side {self.side} is out already")
        self.nozzle, self.out, self.called = nozzle, True, True
        self._open(now)
        self.on_change()

    def put_back(self, now: float) -> None:
        """Put the nozzle back; a delivery is over then. Raises ValueError."""
        if not self.out:
            raise ValueError(f"no nozzle of side {self.side} is out")
        self.advance(now)
        self.out = self.called = False
        if self.state in AT_WORK:
            self._end("returned", SideState.COMPLETED)
        elif self.state is SideState.STOPPED:
            self.state = SideState.COMPLETED
        self.on_change()

    def squeeze(self, flow_ml_s: int, now: float) -> None:
        """Set the flow; 0: the lever is let go, and the delivery goes on later."""
        if not 0 <= flow_ml_s <= FLOW_ML_S_MAX:
            raise ValueError(f"flow {flow_ml_s} is not from 0 to {FLOW_ML_S_MAX} ml per second")
        self.advance(now)
        if self._flow is not None:
            self._flow = Flow(now, self.volume_ml)
        self.flow_ml_s = flow_ml_s
        if self._flow is None:
            self._open(now)
        elif not flow_ml_s:
            self._flow = None
        self.on_change()

    # --- what its electronics do ----------------------------------------------------------------------------------

    def authorise(self, limit: VolumeLimit | AmountLimit | None, nozzles: Sequence[int], now: float) -> None:
        """Begin a delivery from zero. No nozzles: any. No limit: none."""
        self._limit, self._allowed = limit, tuple(nozzles)
        self.state = SideState.AUTHORISED
        self._show(0)
        self._open(now)
        self.on_change()

    def stop(self, now: float) -> None:
        """End the delivery, or take the authorisation back."""
        self.advance(now)
        if self.state in AT_WORK:
            self._end("stopped", SideState.STOPPED)
            self.on_change()

    def suspend(self, now: float) -> None:
        """Close the valve for a while."""
        self.advance(now)
        if self.state is SideState.FUELLING:
            self._flow, self.state = None, SideState.SUSPENDED
            self.on_change()

    def resume(self, now: float) -> None:
        """Open the valve again."""
        if self.state is SideState.SUSPENDED:
            self.state = SideState.AUTHORISED
            self._open(now)
            self.on_change()

    def rest(self, state: SideState) -> None:
        """Enter a state in which nothing is delivered, the display at zero."""
        self.state, self.volume_ml, self.amount_minor = state, 0, 0
        self.on_change()

    def set_price(self, nozzle: int, unit_price_milli: int) -> None:
        """Change a price; the delivery under way keeps its own, so that none is changed then."""
        if nozzle in self.nozzles and self.state not in AT_WORK:
            self.nozzles[nozzle].unit_price_milli = unit_price_milli

    # --- what happens to it ---------------------------------------------------------------------------------------

    def power_off(self, now: float) -> None:
        """Lose power: the valve closes, and what was delivered is a sale. Meter and display are kept, as the law asks
        of a pump."""
        self.advance(now)
        if self.state in AT_WORK:
            self._end("power", SideState.COMPLETED)
        self.powered = False
        self.on_change()

    def power_on(self, *, prices_lost: bool = False) -> None:
        """Get power back. A nozzle that hangs outside calls again."""
        self.powered, self.called = True, self.out
        if prices_lost:
            for nozzle in self.nozzles.values():
                nozzle.unit_price_milli = 0
            self.state = SideState.NOT_PROGRAMMED

    def change_price(self, nozzle: int, unit_price_milli: int) -> None:
        """Change a price by the pump's own keys, before fuel flows. Raises LookupError or ValueError."""
        if self.state in AT_WORK and self.volume_ml:
            raise ValueError("a delivery that has begun keeps its price")
        self._known(nozzle).unit_price_milli = unit_price_milli

    def jump(self, nozzle: int, volume_ml: int) -> None:
        """Let a totaliser say more than was delivered. Raises LookupError."""
        self._known(nozzle).volume_ml += volume_ml

    def sell_alone(self, nozzle: int, volume_ml: int) -> None:
        """Deliver without a controller, by the pump's own keys. Raises LookupError or ValueError."""
        self._known(nozzle)
        if self.out or self.state in AT_WORK or volume_ml <= 0:
            raise ValueError("only a side at rest delivers by itself, and at least a millilitre")
        self.nozzle = nozzle
        self.state = SideState.AUTHORISED
        self._show(volume_ml - volume_ml % self._step_ml)
        self._end("alone", SideState.COMPLETED)
        self.on_change()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _known(self, nozzle: int) -> Nozzle:
        if nozzle not in self.nozzles:
            raise LookupError(f"side {self.side} has no nozzle {nozzle}")
        return self.nozzles[nozzle]

    def _open(self, now: float) -> None:
        """Open the valve, where there is a permission, a nozzle and a hand that squeezes it."""
        allowed = not self._allowed or self.nozzle in self._allowed
        may = self.state is SideState.AUTHORISED or (self.state is SideState.FUELLING and self._flow is None)
        if may and self.out and allowed and self.flow_ml_s:
            self._flow, self.called = Flow(now, self.volume_ml), False
            self.state = SideState.FUELLING

    def _metered(self) -> int:
        return self.decimals.amount_of(self.volume_ml, self.now_at.unit_price_milli)

    def _show(self, volume_ml: int) -> None:
        self.volume_ml = volume_ml
        self.amount_minor = self._metered() + (self.amount_error if volume_ml else 0)

    def _most_ml(self) -> int | None:
        """Most that the limit allows: a volume of the display whose amount is not above it."""
        price = self.now_at.unit_price_milli
        match self._limit:
            case VolumeLimit(volume_ml):
                return volume_ml - volume_ml % self._step_ml
            case AmountLimit(amount_minor) if price:
                coin = self.decimals.amount_minor(1)  # amounts are rounded by less
                most = (amount_minor + coin) * int(10 ** (6 - self.decimals.currency)) // price
                most -= most % self._step_ml
                while most and self.decimals.amount_of(most, price) > amount_minor:
                    most -= self._step_ml
                return most
        return None

    def _end(self, end: str, state: SideState) -> None:
        self._flow, self._limit, self._allowed, self.called = None, None, (), False
        self.state = state
        if not self.volume_ml:
            return
        of, amount = self.now_at, self._metered()
        of.volume_ml += self.volume_ml
        of.amount_minor += amount
        self.book.append(
            Sale(
                number=len(self.book) + 1,
                side=self.side,
                nozzle=self.nozzle,
                volume_ml=self.volume_ml,
                amount_minor=amount,
                unit_price_milli=of.unit_price_milli,
                total_volume_ml=of.volume_ml,
                total_amount_minor=of.amount_minor,
                shown_amount_minor=self.amount_minor,
                end=end,
            )
        )
        self.amount_error = 0
