"""Electronics of an emulated panel of Lanfeng. It only answers, and has one nozzle.

Bit 80 of its state is the nozzle, bit 40 the host's control, which it always has here. Choices where no public source
says more: a nozzle that hangs outside after the end of a delivery takes no permission until it was back, a preset holds
for one delivery, a message with a wrong check is not answered.
"""

from __future__ import annotations

from typing import Final

from hardware.emulators.dispenser import AT_WORK, Dispenser
from hardware.emulators.pump_line import Said
from protocols.pump import lanfeng
from protocols.pump.lanfeng import MESSAGE_BYTES
from protocols.pump.types import AmountLimit, VolumeLimit

NEW_STATE_S: Final = 0.6
"""Time after a permission for which the state is the old one."""
TOTAL_MODULO: Final = 10**12
"""A total has twelve digits."""


class LanfengElectronics:
    """One panel's electronics."""

    def __init__(self, dispenser: Dispenser) -> None:
        self._dispenser = dispenser
        self._refuse = 0
        self.power_up()

    def refuse(self, count: int) -> None:
        """Leave the next orders without an answer, not obeyed: nothing says no on this line."""
        self._refuse = count

    def power_up(self) -> None:
        """Begin anew."""
        self._received = b""
        self._limit: VolumeLimit | AmountLimit | None = None
        self._authorised_at = float("-inf")

    restarted = power_up

    def changed(self) -> None:
        """Do nothing: it tells nothing unasked."""

    repriced = changed

    def receive(self, byte: int, now: float) -> Said | None:
        """Take one byte of the line."""
        self._received = (self._received + bytes((byte,)))[-MESSAGE_BYTES:]
        message = self._received
        whole = len(message) == MESSAGE_BYTES and message[0] == self._dispenser.side and message[1] == 0
        if not whole or message[-1] != lanfeng.check_of(message):
            return None
        self._received = b""
        return self._answer(message, now)

    def _answer(self, message: bytes, now: float) -> Said | None:
        of, command, data = self._dispenser, message[2], message[3:11]
        match command:
            case lanfeng.ASK_STATUS:
                return Said(self._status(now))
            case lanfeng.ASK_VOLUME_TOTAL:
                return Said(self._total(of.decimals.volume_digits(of.totals(1)[0])))
            case lanfeng.ASK_AMOUNT_TOTAL:
                return Said(self._total(of.decimals.amount_digits(of.totals(1)[1])))
        if self._refuse:
            self._refuse -= 1
            return None
        match command:
            case lanfeng.PRESET_VOLUME:
                self._limit = VolumeLimit(of.decimals.volume_ml(int(data[:3].hex())))
            case lanfeng.PRESET_AMOUNT:
                self._limit = AmountLimit(of.decimals.amount_minor(int(data[:3].hex())))
            case lanfeng.SET_PRICE:
                of.set_price(1, of.decimals.unit_price_milli(int(data[:2].hex())))
            case lanfeng.AUTHORISE if of.called and of.state not in AT_WORK:
                self._authorised_at = now
                of.authorise(self._limit, (1,), now)
                self._limit = None
            case lanfeng.STOP:
                of.stop(now)
        return Said(message, confirms=True)

    def _status(self, now: float) -> bytes:
        of = self._dispenser
        at_work = of.state in AT_WORK and now >= self._authorised_at + NEW_STATE_S
        draft = lanfeng.STATUS.build(
            panel=of.side,
            zero=b"\0",
            price_raw=of.decimals.price_digits(of.now_at.unit_price_milli),
            amount_raw=of.decimals.amount_digits(of.amount_minor),
            volume_raw=of.decimals.volume_digits(of.volume_ml),
            state=(0x80 if of.out else 0) | lanfeng.HOST_CONTROL | (2 if at_work else 1),
            check=0,
        )
        return draft[:-1] + bytes((lanfeng.check_of(draft),))

    def _total(self, total: int) -> bytes:
        draft = lanfeng.TOTAL.build(panel=self._dispenser.side, head=bytes(4), total_raw=total % TOTAL_MODULO, check=0)
        return draft[:-1] + bytes((lanfeng.check_of(draft),))
