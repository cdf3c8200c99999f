"""Pumps behind the emulated PTS-2 controller: nozzles, flow over time, totals, and what can go wrong with them.

A pump counts in steps of ten millilitres; its amount is volume times price, rounded half up to the fen, and it stops
before the step that would exceed its limit. `now` is seconds of any clock that only grows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from protocols.pump.jsonpts.messages import Data, Preset, TransactionState

STEP_ML = 10
RATE_ML_S = 600.0
"""Usual flow: 36 litres a minute."""


@dataclass(slots=True)
class Meter:
    """Nozzle with its price and totals."""

    price_milli: int
    total_ml: int = 0
    total_minor: int = 0


@dataclass(slots=True, kw_only=True)
class Sale:
    """Transaction of a pump."""

    transaction: int
    nozzles: tuple[int, ...]
    preset: Preset
    dose: int
    """Millilitres or minor units, by the preset."""
    user: str
    price_milli: int | None = None
    tag: str = ""
    auto_close: bool = False
    state: TransactionState = TransactionState.AUTHORIZED
    nozzle: int = 0
    volume_ml: int = 0
    suspended: bool = False
    by_hand: bool = False
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def amount_minor(self) -> int:
        """Amount of the volume so far."""
        return amount_minor(self.volume_ml, self.price_milli or 0)

    def full(self, volume_ml: int) -> bool:
        """True when this volume is above the limit."""
        if self.preset is Preset.FULL_TANK:
            return False
        if self.preset is Preset.VOLUME:
            return volume_ml > self.dose
        return amount_minor(volume_ml, self.price_milli or 0) > self.dose


def amount_minor(volume_ml: int, price_milli: int) -> int:
    """Amount in hundredths, rounded half up."""
    return (volume_ml * price_milli + 5_000) // 10_000


@dataclass(slots=True)
class Pump:
    """One pump with its nozzles and its open sale."""

    number: int
    meters: list[Meter]
    rate_ml_s: float = RATE_ML_S
    nozzle_up: int = 0
    online: bool = True
    sale: Sale | None = None
    last: Sale | None = None
    user: str = ""
    """User that holds it."""
    replies: deque[Data] = field(default_factory=lambda: deque(maxlen=8))
    """Totals and prices that were asked for, to be told once."""
    _flowed_at: float = 0.0

    # --- people ---------------------------------------------------------------------------------------------------

    def lift(self, nozzle: int, now: float, at: datetime) -> None:
        """Take a nozzle out; the flow begins if it is authorised. Raises ValueError."""
        if not 1 <= nozzle <= len(self.meters):
            raise ValueError(f"pump {self.number} has nozzles 1 to {len(self.meters)}")
        self.nozzle_up = nozzle
        self._maybe_begin(now, at)

    def hang_up(self, now: float, at: datetime) -> None:
        """Put the nozzle back: a delivery is over, a permission without delivery is gone."""
        self.flow(now, at)
        self.nozzle_up = 0
        if self.sale is not None and self.sale.state is TransactionState.FILLING:
            self._finish(at)

    def sell_by_hand(self, nozzle: int, volume_ml: int, transaction: int, at: datetime) -> Sale:
        """Sale at the pump itself, which no controller allowed."""
        meter = self.meters[nozzle - 1]
        sale = Sale(
            transaction=transaction,
            nozzles=(nozzle,),
            preset=Preset.FULL_TANK,
            dose=0,
            user="PTS",
            price_milli=meter.price_milli,
            state=TransactionState.FINISHED,
            nozzle=nozzle,
            volume_ml=volume_ml,
            by_hand=True,
            started=at,
            ended=at,
        )
        meter.total_ml += volume_ml
        meter.total_minor += sale.amount_minor
        self.last = sale
        return sale

    # --- controller -----------------------------------------------------------------------------------------------

    def authorise(self, sale: Sale, now: float, at: datetime) -> None:
        """Take a permission; the flow begins if the nozzle is out already."""
        self.sale = sale
        self._maybe_begin(now, at)

    def stop(self, now: float, at: datetime) -> None:
        """End delivery or permission."""
        self.flow(now, at)
        if self.sale is not None and self.sale.state is TransactionState.AUTHORIZED:
            self.sale = None
        elif self.sale is not None and self.sale.state is TransactionState.FILLING:
            self._finish(at)

    def suspend(self, suspended: bool, now: float, at: datetime) -> None:
        """Hold the flow, or let it go on."""
        self.flow(now, at)
        if self.sale is not None:
            self.sale.suspended = suspended

    def close(self) -> Sale | None:
        """Finish the open sale, and give it."""
        sale, self.sale = self.sale, None
        if sale is not None:
            sale.state = TransactionState.FINISHED
            self.last = sale
        return sale

    # --- flow -----------------------------------------------------------------------------------------------------

    def flow(self, now: float, at: datetime) -> None:
        """Bring volume and totals up to `now`."""
        sale = self.sale
        if sale is None or sale.state is not TransactionState.FILLING:
            return
        if sale.suspended or not self.online or not self.rate_ml_s:
            self._flowed_at = now
            return
        steps = int((now - self._flowed_at) * self.rate_ml_s / STEP_ML)
        self._flowed_at += steps * STEP_ML / self.rate_ml_s
        for _ in range(steps):
            if sale.full(sale.volume_ml + STEP_ML):
                self._finish(at)
                return
            before = sale.amount_minor
            sale.volume_ml += STEP_ML
            meter = self.meters[sale.nozzle - 1]
            meter.total_ml += STEP_ML
            meter.total_minor += sale.amount_minor - before

    def cut_power(self, now: float, at: datetime) -> None:
        """Lose the mains: the flow stops where it is, and the pump keeps it."""
        self.flow(now, at)
        self.online = False

    def restore_power(self, at: datetime) -> None:
        """Have the mains back: a delivery that was cut is over."""
        self.online = True
        if self.sale is not None and self.sale.state is TransactionState.FILLING:
            self._finish(at)

    def _maybe_begin(self, now: float, at: datetime) -> None:
        sale = self.sale
        if sale is None or sale.state is not TransactionState.AUTHORIZED or self.nozzle_up not in sale.nozzles:
            return
        sale.state, sale.nozzle, sale.started = TransactionState.FILLING, self.nozzle_up, at
        meter = self.meters[self.nozzle_up - 1]
        if sale.price_milli is None:
            sale.price_milli = meter.price_milli
        self._flowed_at = now

    def _finish(self, at: datetime) -> None:
        sale = self.sale
        if sale is None:
            return
        if sale.volume_ml == 0:
            self.sale = None  # a transaction without fuel did not take place
            return
        sale.state, sale.ended = TransactionState.END_OF_TRANSACTION, at
