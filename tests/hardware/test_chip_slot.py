"""An emulated chip in a slot in memory: followed up as by a driver, and pulled at the command that was named."""

import asyncio

import pytest

from drivers.errors import DeviceUnavailable, LinkLost
from hardware.bench.chip_slot import ChipSlot, Pull
from hardware.emulators.chip import Chip, Instruction, Reaction
from protocols.card.apdu import Command, Response

TELL = Command(0x80, 0x01, 0, 0, le=256)
PART = Command(0x00, 0xC0, 0, 0, le=3)


class InParts:
    """A chip that has six bytes and gives three at a time, and counts its resets."""

    def __init__(self):
        self.resets = self.asked = 0
        self.parts = [b"\x61\x03", b"abc\x61\x03", b"def\x90\x00"]

    def reset(self):
        self.resets += 1

    def react(self, command):
        self.asked += 1
        return Reaction(self.parts.pop(0))


class OnT0(Chip):
    """A chip on T=0 that says what it is told, and is asked for it."""

    def _instructions(self):
        return {(0x80, 0x02): Instruction(lambda command: command.data)}


def said(slot, command=TELL):
    return asyncio.run(slot.transmit(command))


def test_an_answer_in_parts_comes_whole():
    chip = InParts()
    slot = ChipSlot("desk", chip)
    assert said(slot) == Response(b"abcdef", 0x9000)
    assert slot.commands == [TELL.encode(), PART.encode(), PART.encode()]
    assert chip.resets == 1


def test_a_chip_on_t0_is_asked_for_its_answer():
    chip = OnT0(random=bytes, t0=True)
    command = Command(0x80, 0x02, 0, 0, b"echo")
    assert asyncio.run(ChipSlot("desk", chip).raw(command.encode())) == b"\x61\x04"
    assert said(ChipSlot("desk", chip), command) == Response(b"echo", 0x9000)


@pytest.mark.parametrize(("after", "asked"), [(False, 1), (True, 2)])
def test_a_card_is_pulled_before_or_after_it_did_what_it_was_told(after, asked):
    chip = InParts()
    slot = ChipSlot("desk", chip, pull=Pull(at=2, after=after))
    with pytest.raises(LinkLost):
        said(slot)
    assert chip.asked == asked
    asyncio.run(slot.removed())
    with pytest.raises(DeviceUnavailable):
        said(slot)
    assert len(slot.commands) == 2
