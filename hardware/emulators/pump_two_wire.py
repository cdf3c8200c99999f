"""Electronics of an emulated pump that speaks Gilbarco two-wire. It only answers.

Choices where no public source says more: a price is taken at rest only; a preset holds for one delivery; a nozzle that
hangs outside after the end of a delivery calls again only after it was back.
"""

from __future__ import annotations

from typing import Final

from hardware.emulators.dispenser import AT_WORK, Dispenser
from hardware.emulators.pump_line import Said
from protocols.errors import RemoteProtocolError
from protocols.pump import two_wire
from protocols.pump.two_wire import GradeTotals
from protocols.pump.types import AmountLimit, SideState, VolumeLimit

TOTAL_MODULO: Final = 10**8
"""A totaliser has eight digits."""


class TwoWireElectronics:
    """One side's electronics."""

    def __init__(self, dispenser: Dispenser) -> None:
        self._dispenser = dispenser
        self._refuse = 0
        self.power_up()

    def refuse(self, count: int) -> None:
        """Do not ask for the next blocks: the only way to refuse one."""
        self._refuse = count

    def power_up(self) -> None:
        """Begin anew."""
        self._limits: dict[int, VolumeLimit | AmountLimit] = {}
        self._block: bytearray | None = None

    restarted = power_up

    def changed(self) -> None:
        """Do nothing: it tells nothing unasked."""

    repriced = changed

    def receive(self, byte: int, now: float) -> Said | None:
        """Take one byte of the line."""
        if self._block is not None and byte >= 0xE0:
            self._block.append(byte)
            if byte == two_wire.END:
                self._take(bytes(self._block))
                self._block = None
            return None
        self._block = None
        if byte == two_wire.STOP_ALL[0]:
            self._dispenser.stop(now)
        if byte & 0x0F != self._dispenser.side & 0x0F:
            return None
        return self._answer(byte >> 4, now)

    def _answer(self, command: int, now: float) -> Said | None:
        of = self._dispenser
        match command:
            case 0:
                return Said(self._one_byte(self._state()))
            case 1 if self._state() == 0x7:
                of.authorise(self._limits.pop(of.nozzle, None), (of.nozzle,), now)
            case 2 if self._refuse:
                self._refuse -= 1
            case 2:
                self._block = bytearray()
                return Said(self._one_byte(two_wire.DATA_NEXT), confirms=True)
            case 3:
                of.stop(now)
            case 4:
                return Said(self._transaction())
            case 5:
                return Said(self._totals())
            case 6:
                amount = f"{of.decimals.amount_digits(of.amount_minor):06d}"[-6:]
                return Said(bytes(0xE0 | int(digit) for digit in reversed(amount)))
        return None

    def _one_byte(self, nibble: int) -> bytes:
        return bytes((nibble << 4 | self._dispenser.side & 0x0F,))

    def _state(self) -> int:
        of = self._dispenser
        if of.state is SideState.AUTHORISED:
            return 0x8
        if of.state in AT_WORK:
            return 0x9
        if of.called:
            return 0x7
        if of.state is SideState.STOPPED and of.volume_ml:
            return 0xC
        if of.state in (SideState.COMPLETED, SideState.LIMIT_REACHED) and of.volume_ml:
            return 0xA if of.out else 0xB
        return 0x6

    def _take(self, block: bytes) -> None:
        of = self._dispenser
        try:
            layout, values = two_wire.read_block(block)
        except RemoteProtocolError:
            return  # nothing says no on this line
        if layout is two_wire.PRICE:
            of.set_price(values["grade"], of.decimals.unit_price_milli(values["price_raw"]))
        elif layout is two_wire.PRESETS[0xF1]:
            self._limits[values["grade"]] = VolumeLimit(of.decimals.volume_ml(values["preset_raw"]))
        elif layout is two_wire.PRESETS[0xF2]:
            self._limits[values["grade"]] = AmountLimit(of.decimals.amount_minor(values["preset_raw"]))

    def _transaction(self) -> bytes:
        of = self._dispenser
        return two_wire.write_block(
            two_wire.TRANSACTION,
            head=b"\xeb",
            pump=of.side,
            errors=b"\xe0\xe0\xe2",
            grade=of.nozzle,
            level=0xF4,
            price_raw=of.decimals.price_digits(of.now_at.unit_price_milli),
            volume_raw=of.decimals.volume_digits(of.volume_ml),
            amount_raw=of.decimals.amount_digits(of.amount_minor),
        )

    def _totals(self) -> bytes:
        of = self._dispenser
        grades = []
        for nozzle, at in of.nozzles.items():
            volume, amount = of.totals(nozzle)
            price = of.decimals.price_digits(at.unit_price_milli)
            volume_raw, amount_raw = of.decimals.volume_digits(volume), of.decimals.amount_digits(amount)
            grades.append(
                GradeTotals(
                    grade_code=0xF6,
                    grade=nozzle,
                    volume_code=0xF9,
                    volume_total_raw=volume_raw % TOTAL_MODULO,
                    amount_code=0xFA,
                    amount_total_raw=amount_raw % TOTAL_MODULO,
                    price_code=0xF4,
                    price_raw=price,
                    other_price_code=0xF5,
                    other_price_raw=price,
                )
            )
        return two_wire.write_block(two_wire.TOTALS.bound({"grades": len(grades)}), grades=tuple(grades))
