"""Electronics of an emulated pump that speaks DART: states, orders, and what it tells unasked.

The protocol itself (numbers, acknowledgements, repetition) is `protocols.pump.dart.side`. A pump tells of every change
at the next poll, and while fuel flows now and then how much. Choices where no public source says more: a permission
without nozzles is for all of them, one without a preset has no limit; a reset is taken at rest only, prices are taken
at rest only, a side that is switched off comes back by a reset.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from hardware.emulators.dispenser import AT_WORK, Dispenser
from hardware.emulators.pump_line import Said
from protocols.errors import LocalProtocolError
from protocols.pump.dart import layout
from protocols.pump.dart.framing import Control
from protocols.pump.dart.meanings import NOZZLE_BITS, NOZZLE_OUT_BIT, OrderCode, Status
from protocols.pump.dart.side import Ordered, SideEnd
from protocols.pump.types import AmountLimit, SideState, VolumeLimit

STATUS: Final = {
    SideState.NOT_PROGRAMMED: Status.NOT_PROGRAMMED,
    SideState.IDLE: Status.RESET,
    SideState.AUTHORISED: Status.AUTHORIZED,
    SideState.FUELLING: Status.FILLING,
    SideState.SUSPENDED: Status.SUSPENDED,
    SideState.COMPLETED: Status.FILLING_COMPLETED,
    SideState.STOPPED: Status.FILLING_COMPLETED,
    SideState.LIMIT_REACHED: Status.MAX_AMOUNT_OR_VOLUME_REACHED,
    SideState.CLOSED: Status.SWITCHED_OFF,
}
ENDED: Final = frozenset({SideState.COMPLETED, SideState.STOPPED, SideState.LIMIT_REACHED})
TELL_S: Final = 0.5
"""Pause between two tellings of a running delivery."""
POWER_FAILED: Final = 0x0A
TOTAL_MODULO: Final = 10**10
"""A totaliser has ten digits."""


class DartElectronics:
    """One side's electronics."""

    def __init__(self, dispenser: Dispenser) -> None:
        self._dispenser = dispenser
        self._refuse = 0
        self.power_up()
        self._end.say(layout.PumpStatus(STATUS[dispenser.state]))

    def refuse(self, count: int) -> None:
        """Answer the next orders with NAK, all but the question for the status."""
        self._refuse = count

    def power_up(self) -> None:
        """Begin anew: numbers, waiting blocks and orders are forgotten."""
        self._end = SideEnd(self._dispenser.side, accepts=self._accepts)
        self._limit: VolumeLimit | AmountLimit | None = None
        self._allowed: tuple[int, ...] = ()
        self._told_state = self._dispenser.state
        self._told_nozzle = (self._dispenser.nozzle, False)
        self._told_volume, self._told_at = self._dispenser.volume_ml, 0.0

    def restarted(self) -> None:
        """Tell that power was lost, and how things stand."""
        self.power_up()
        self._say(layout.Alarm(POWER_FAILED), self._filled(), self._nozzle_price(), self._status())
        self._told_nozzle = (self._dispenser.nozzle, self._dispenser.out)

    def repriced(self) -> None:
        """Tell the new price of the nozzle that is out, or was out last."""
        self._say(self._nozzle_price())

    def receive(self, byte: int, now: float) -> Said | None:
        """Take one byte of the line."""
        self._tell_flow(now)
        output = self._end.receive(bytes((byte,)))
        for event in output.events:
            if isinstance(event, Ordered):
                for one in event.transactions:
                    self._do(one, now)
        confirms = len(output.to_write) > 1 and output.to_write[1] >> 4 == Control.ACK
        return Said(output.to_write, confirms=confirms) if output.to_write else None

    def changed(self) -> None:
        """Tell what has become different, in one block."""
        of = self._dispenser
        told: list[layout.FromPump] = []
        if of.state is not self._told_state and (of.state in ENDED or of.state is SideState.IDLE):
            told.append(self._filled())
        if (of.nozzle, of.out) != self._told_nozzle:
            told.append(self._nozzle_price())
            self._told_nozzle = (of.nozzle, of.out)
        if of.state is not self._told_state:
            told.append(self._status())
            self._told_state = of.state
        self._say(*told)

    # --- orders ---------------------------------------------------------------------------------------------------

    def _accepts(self, transactions: tuple[layout.Transaction, ...]) -> bool:
        if transactions == (layout.Order(OrderCode.RETURN_STATUS),):
            return True
        self._refuse, refused = max(0, self._refuse - 1), self._refuse > 0
        return not refused

    def _do(self, one: layout.Transaction, now: float) -> None:
        of = self._dispenser
        match one:
            case layout.Order(order):
                self._obey(order, now)
            case layout.AllowNozzles(nozzles):
                self._allowed = nozzles
            case layout.PresetVolume(raw):
                self._limit = VolumeLimit(of.decimals.volume_ml(raw))
            case layout.PresetAmount(raw):
                self._limit = AmountLimit(of.decimals.amount_minor(raw))
            case layout.SetPrices(prices):
                for at, price in enumerate(prices):
                    of.set_price(at + 1, of.decimals.unit_price_milli(price.price_raw))
            case layout.SuspendNozzle(nozzle):
                of.suspend(now)
                self._say(layout.Suspended(nozzle))
            case layout.ResumeNozzle(nozzle):
                of.resume(now)
                self._say(layout.Resumed(nozzle))
            case layout.AskTotal(counter) if counter & NOZZLE_BITS in of.nozzles:
                volume, amount = of.totals(counter & NOZZLE_BITS)
                raw = of.decimals.volume_digits(volume)
                if counter & NOZZLE_OUT_BIT:  # the same bit asks for the amount
                    raw = of.decimals.amount_digits(amount)
                self._say(layout.Total(counter, raw % TOTAL_MODULO))

    def _obey(self, order: int, now: float) -> None:
        of = self._dispenser
        match order:
            case OrderCode.RETURN_STATUS:
                self._say(self._nozzle_price(), self._status())
            case OrderCode.RETURN_FILLING_INFORMATION:
                self._say(self._filled())
            case OrderCode.RETURN_PRICES:
                self._say(layout.PumpPrices(tuple(layout.Price(self._price(nozzle)) for nozzle in of.nozzles)))
            case OrderCode.RESET if of.state not in AT_WORK and all(
                one.unit_price_milli for one in of.nozzles.values()
            ):
                self._limit, self._allowed = None, ()
                of.rest(SideState.IDLE)
            case OrderCode.AUTHORIZE if of.state is SideState.IDLE:
                of.authorise(self._limit, self._allowed, now)
                self._limit, self._allowed = None, ()
            case OrderCode.STOP:
                of.stop(now)
            case OrderCode.SWITCH_OFF:
                of.stop(now)
                of.rest(SideState.CLOSED)
            case OrderCode.SUSPEND:
                of.suspend(now)
            case OrderCode.RESUME:
                of.resume(now)

    # --- telling --------------------------------------------------------------------------------------------------

    def _tell_flow(self, now: float) -> None:
        of = self._dispenser
        if of.state is SideState.FUELLING and self._end.silent and now - self._told_at >= TELL_S:
            if of.volume_ml != self._told_volume:
                self._say(self._filled())
            self._told_at, self._told_volume = now, of.volume_ml

    def _say(self, *transactions: layout.FromPump) -> None:
        if transactions:
            with suppress(LocalProtocolError):  # full, as nobody polls: the next question is answered all the same
                self._end.say(*transactions)

    def _status(self) -> layout.PumpStatus:
        return layout.PumpStatus(STATUS[self._dispenser.state])

    def _filled(self) -> layout.Filled:
        of = self._dispenser
        return layout.Filled(of.decimals.volume_digits(of.volume_ml), of.decimals.amount_digits(of.amount_minor))

    def _price(self, nozzle: int) -> int:
        of = self._dispenser
        return of.decimals.price_digits(of.nozzles[nozzle].unit_price_milli)

    def _nozzle_price(self) -> layout.NozzlePrice:
        of = self._dispenser
        return layout.NozzlePrice(self._price(of.nozzle), of.nozzle | (NOZZLE_OUT_BIT if of.out else 0))
