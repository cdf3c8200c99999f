"""Card readers over a real card service of one's own: chosen, watched, opened; cards that leave, hang or are shared."""

import asyncio
import functools
import threading
from contextlib import ExitStack

import pytest

from drivers import pcsc as driver
from drivers.card_readers import ReaderEventKind
from drivers.errors import DeviceTimeout, DeviceUnavailable, LinkLost, RequestOutcome
from drivers.pcsc import Readers
from hardware.bench.waiting import STUCK_S
from hardware.emulators.card import make_card
from hardware.emulators.virtual_reader import ATR
from protocols.card.apdu import Command, Response
from tests.drivers.pcsc_client import client

ATR_T1 = bytes.fromhex("3B800181")
SELECT = Command(0x00, 0xA4, 0x00, 0x00, b"\x10\x01")
BALANCE = Command(0x80, 0x5C, 0x00, 0x02, le=4)
CHALLENGE = Command(0x00, 0x84, 0x00, 0x00, le=4)
FEN = 12_345
MONEY = FEN.to_bytes(4, "big")
MUTE_S = 0.5
"""Deadline of a command to a card that never answers."""

SERVICE_UP, SERVICE_LOST, READER_ADDED, _, CARD_IN, CARD_OUT = ReaderEventKind


def in_loop(test):
    """The test in a loop of its own, ended when it gets stuck."""

    @functools.wraps(test)
    def run(*fixtures, **named):
        asyncio.run(asyncio.wait_for(test(*fixtures, **named), STUCK_S))

    return run


@pytest.fixture
def card():
    return make_card(plate="测A12345", balance_raw=FEN)


async def put_in(slot, chip, **more):
    await asyncio.to_thread(slot.insert, chip, **more)


async def take_out(slot):
    await asyncio.to_thread(slot.remove)


class Befallen:
    """Answers of a card to which something happens at the command that asks for the balance."""

    def __init__(self, card, answer):
        self.card, self.answer = card, answer
        self.heard = []
        self.asked, self.let_go = threading.Event(), threading.Event()

    def __call__(self, command):
        self.heard.append(command)
        if command[1] != BALANCE.ins:
            return self.card.process(command)
        self.asked.set()
        return self.answer(self)

    async def is_asked(self):
        assert await asyncio.to_thread(self.asked.wait, STUCK_S)


def gone(_):
    return None


def silent(_):
    return b""


def late(befallen):
    assert befallen.let_go.wait(STUCK_S)
    return befallen.card.process(BALANCE.encode())


async def until(events, kind, reader=None):
    """The next event of a kind at a reader."""
    async for event in events:
        if (event.kind, event.reader) == (kind, reader):
            return event
    raise AssertionError("no more events")


# --- which reader -----------------------------------------------------------------------------------------------------


@in_loop
async def test_readers_are_listed_with_their_cards(pcsc, card):
    await put_in(pcsc.slots[1], card)
    async with Readers() as readers:
        found = await readers.listed()
        assert [(state.index, state.name) for state in found] == [
            (index, slot.reader) for index, slot in enumerate(pcsc.slots)
        ]
        assert [state.atr for state in found[:3]] == [None, ATR, None]
        assert not any(state.in_use or state.mute for state in found)
        async with readers.open("1"):
            assert [state.in_use for state in await readers.listed()][:3] == [False, True, False]


@in_loop
async def test_a_card_is_opened_by_number_name_and_part_of_the_name(pcsc, card):
    await put_in(pcsc.slots[2], card)
    async with Readers() as readers:
        for selector in ("2", pcsc.slots[2].reader, "b 00 00"):
            async with readers.open(selector) as slot:
                assert (slot.name, slot.atr) == (pcsc.slots[2].reader, ATR)
                assert (await slot.transmit(SELECT)).ok
                assert await slot.transmit(BALANCE) == Response(MONEY, 0x9000)


@in_loop
async def test_a_reader_that_is_absent_ambiguous_or_empty_gives_no_card(pcsc):
    async with Readers() as readers:
        for selector, problem in (
            ("Gemalto", "no card reader is called that"),
            ("bench a", "several card readers are called that"),
            (None, "several card readers are there"),
            ("0", "no card is in it"),
        ):
            with pytest.raises(DeviceUnavailable, match=problem) as raised:
                async with readers.open(selector):
                    pass
            assert raised.value.outcome is RequestOutcome.NOT_SENT
            assert raised.value.hint
            if selector != "0":
                assert all(slot.reader in raised.value.problem for slot in pcsc.slots)


# --- what happens at them ---------------------------------------------------------------------------------------------


@in_loop
async def test_cards_that_come_and_go_are_told_and_a_late_listener_hears_how_things_stand(pcsc, card):
    reader = pcsc.slots[3].reader
    async with Readers() as readers:
        events = readers.events()
        assert (await anext(events)).kind is SERVICE_UP
        await until(events, READER_ADDED, reader)
        await put_in(pcsc.slots[3], card)
        assert (await until(events, CARD_IN, reader)).atr == ATR
        late_listener = readers.events()
        told = [await anext(late_listener) for _ in range(len(pcsc.slots) + 2)]
        assert told[0].kind is SERVICE_UP
        assert {event.reader for event in told if event.kind is READER_ADDED} == {slot.reader for slot in pcsc.slots}
        assert [(event.reader, event.atr) for event in told if event.kind is CARD_IN] == [(reader, ATR)]
        await take_out(pcsc.slots[3])
        await until(events, CARD_OUT, reader)
        assert (await anext(late_listener)).kind is CARD_OUT  # nothing twice
        await put_in(pcsc.slots[3], card, atr=ATR_T1)
        assert (await until(events, CARD_IN, reader)).atr == ATR_T1


@in_loop
async def test_an_opening_waits_for_a_card_and_a_slot_for_its_removal(pcsc, card):
    async with Readers() as readers:

        async def customer():
            async with readers.open("0", wait_s=STUCK_S) as slot:
                answered.set()
                await slot.removed()

        for _ in range(2):
            answered = asyncio.Event()
            served = asyncio.create_task(customer())
            await put_in(pcsc.slots[0], card)
            await answered.wait()
            assert not served.done()
            await take_out(pcsc.slots[0])
            await served


@in_loop
async def test_a_card_in_whose_place_lies_another_is_gone(pcsc, card):
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers, readers.open("0") as slot:
        await take_out(pcsc.slots[0])
        await put_in(pcsc.slots[0], card)
        await slot.removed()


# --- cards that leave and hang ----------------------------------------------------------------------------------------


@in_loop
async def test_a_card_that_left_while_idle_was_sent_nothing(pcsc, card):
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers:
        async with readers.open("0") as slot:
            await slot.transmit(SELECT)
            await take_out(pcsc.slots[0])
            with pytest.raises(DeviceUnavailable, match="the card was taken out") as raised:
                await slot.transmit(BALANCE)
            assert raised.value.outcome is RequestOutcome.NOT_SENT
            await put_in(pcsc.slots[0], card)
            with pytest.raises(DeviceUnavailable, match="has to be opened again"):
                await slot.transmit(SELECT)
        async with readers.open("0") as slot:
            assert (await slot.transmit(SELECT)).ok


@in_loop
async def test_a_card_that_leaves_at_a_command_may_have_done_it(pcsc, card):
    befallen = Befallen(card, gone)
    await put_in(pcsc.slots[0], card, answer=befallen)
    async with Readers() as readers:
        async with readers.open("0") as slot:
            await slot.transmit(SELECT)
            with pytest.raises(LinkLost) as raised:
                await slot.transmit(BALANCE)
            assert raised.value.outcome is RequestOutcome.UNKNOWN
            heard = len(befallen.heard)
            with pytest.raises(DeviceUnavailable, match="has to be opened again"):
                await slot.transmit(SELECT)
            await slot.removed()
            assert len(befallen.heard) == heard
        await put_in(pcsc.slots[0], card)
        async with readers.open("0") as slot:
            assert (await slot.transmit(SELECT)).ok


@in_loop
async def test_a_mute_card_keeps_its_reader_alone_until_it_is_taken_out(pcsc, card):
    mute, other = pcsc.slots[0], pcsc.slots[2]
    await put_in(mute, card, answer=Befallen(card, silent))
    await put_in(other, card)
    async with Readers() as readers, readers.open(other.reader) as well:
        events = readers.events()
        await until(events, CARD_IN, mute.reader)
        async with readers.open(mute.reader) as slot:
            await slot.transmit(SELECT)
            asking = asyncio.create_task(slot.transmit(BALANCE, timeout_s=MUTE_S))
            for _ in range(10):  # while that one hangs
                assert (await well.transmit(SELECT)).ok
            with pytest.raises(DeviceTimeout) as raised:
                await asking
            assert raised.value.outcome is RequestOutcome.UNKNOWN
            with pytest.raises(DeviceUnavailable, match="has to be opened again"):
                await slot.transmit(SELECT)
        assert (await well.transmit(BALANCE)).data == MONEY
        assert [state.mute for state in await readers.listed()][:3] == [True, False, False]
        with pytest.raises(DeviceUnavailable, match="its card has not answered yet") as refused:
            async with readers.open(mute.reader):
                pass
        assert "take the card out" in refused.value.hint
        await take_out(mute)
        await until(events, CARD_OUT, mute.reader)
        await put_in(mute, card)
        async with readers.open(mute.reader, wait_s=STUCK_S) as slot:
            assert (await slot.transmit(SELECT)).ok
        assert not (await readers.listed())[0].mute


@in_loop
async def test_a_card_that_answers_late_gives_its_reader_back(pcsc, card):
    befallen = Befallen(card, late)
    await put_in(pcsc.slots[0], card, answer=befallen)
    async with Readers() as readers:
        async with readers.open("0") as slot:
            await slot.transmit(SELECT)
            with pytest.raises(DeviceTimeout):
                await slot.transmit(BALANCE, timeout_s=MUTE_S)
        waiting = asyncio.create_task(opened_and_selected(readers))
        befallen.let_go.set()
        assert (await waiting).ok


async def opened_and_selected(readers):
    async with readers.open("0", wait_s=STUCK_S) as slot:
        return await slot.transmit(SELECT)


@in_loop
async def test_a_command_given_up_answers_nobody_else(pcsc, card, caplog):
    befallen = Befallen(card, late)
    await put_in(pcsc.slots[0], card, answer=befallen)
    async with Readers() as readers, readers.open("0") as slot:
        await slot.transmit(SELECT)
        given_up = asyncio.create_task(slot.transmit(BALANCE))
        await befallen.is_asked()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert caplog.text.count("its outcome is unknown") == 1
        later = asyncio.create_task(slot.transmit(SELECT, timeout_s=STUCK_S))
        never = asyncio.create_task(slot.transmit(CHALLENGE, timeout_s=STUCK_S))
        await asyncio.sleep(0)  # both have been given to the reader
        never.cancel()
        befallen.let_go.set()
        assert (await later).data[:1] == b"\x6f"
        assert (await slot.transmit(BALANCE)).data == MONEY
    assert caplog.text.count("its outcome is unknown") == 1  # the other one was never sent
    assert CHALLENGE.encode() not in befallen.heard


# --- the service ------------------------------------------------------------------------------------------------------


@in_loop
async def test_a_service_killed_at_a_command_and_started_again_is_met_again(pcsc, card):
    befallen = Befallen(card, silent)
    await put_in(pcsc.slots[0], card, answer=befallen)
    async with Readers() as readers:
        events = readers.events()
        await until(events, CARD_IN, pcsc.slots[0].reader)
        async with readers.open("0") as slot:
            await slot.transmit(SELECT)
            asking = asyncio.create_task(slot.transmit(BALANCE, timeout_s=STUCK_S))
            await befallen.is_asked()
            await asyncio.to_thread(pcsc.kill)
            with pytest.raises(LinkLost) as raised:
                await asking
            assert raised.value.outcome is RequestOutcome.UNKNOWN
            await slot.removed()
        lost = await until(events, SERVICE_LOST)
        assert lost.cause
        waiting = asyncio.create_task(opened_and_selected(readers))
        await asyncio.sleep(0)  # it has asked for the readers
        with pytest.raises(DeviceUnavailable, match="does not run") as down:
            await readers.listed()
        assert "start it" in down.value.hint
        pcsc.restart()  # in this thread: the service ends with the thread that started it
        await until(events, SERVICE_UP)
        await until(events, READER_ADDED, pcsc.slots[0].reader)
        await put_in(pcsc.slots[0], card)
        await until(events, CARD_IN, pcsc.slots[0].reader)
        assert (await waiting).ok


# --- one card, several users ------------------------------------------------------------------------------------------


@in_loop
async def test_a_reader_serves_one_opening_after_the_other(pcsc, card):
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers:
        for _ in range(5):  # none is disturbed by the end of the one before
            async with readers.open("0") as slot:
                assert not (await slot.transmit(BALANCE)).ok  # the card has forgotten what was selected
                assert (await slot.transmit(SELECT)).ok
                assert (await slot.transmit(BALANCE)).ok


@in_loop
async def test_a_reader_that_this_program_has_open_is_waited_for(pcsc, card):
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers:
        async with readers.open("0") as slot:
            with pytest.raises(DeviceUnavailable, match="this program has the card open already"):
                async with readers.open("0"):
                    pass
            waiting = asyncio.create_task(opened_and_selected(readers))
            await slot.transmit(SELECT)
            assert not waiting.done()
            assert (await slot.transmit(BALANCE)).ok
        assert (await waiting).ok


@in_loop
async def test_a_card_that_another_program_has_for_itself_is_told_so(pcsc, card):
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers:
        with client(pcsc.slots[0].reader, "exclusive") as other:
            await other.says("asks")
            await other.says("got it")
            with pytest.raises(DeviceUnavailable, match="another program has it for itself") as raised:
                async with readers.open("0", wait_s=STUCK_S):
                    pass
            assert raised.value.outcome is RequestOutcome.NOT_SENT
        async with readers.open("0") as slot:
            assert (await slot.transmit(SELECT)).ok


@in_loop
async def test_a_program_that_is_killed_gives_its_turn_back(pcsc, card, monkeypatch):
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers:
        async with readers.open("0") as slot:
            with client(pcsc.slots[0].reader, "turn") as other:
                await other.says("asks")
                await other.says("got it")
                monkeypatch.setattr(driver, "ALONE_WITHIN_S", MUTE_S)
                with pytest.raises(DeviceUnavailable, match="another program keeps the card to itself") as raised:
                    async with slot.alone():
                        pass
                assert raised.value.outcome is RequestOutcome.NOT_SENT
                with pytest.raises(DeviceUnavailable, match="has to be opened again"):
                    await slot.transmit(SELECT)
        monkeypatch.undo()
        async with readers.open("0", wait_s=STUCK_S) as slot, slot.alone():
            assert (await slot.transmit(SELECT)).ok


@in_loop
async def test_a_card_that_another_program_keeps_at_the_opening_is_told_so(pcsc, card, monkeypatch):
    await put_in(pcsc.slots[0], card)
    monkeypatch.setattr(driver, "OPEN_WITHIN_S", MUTE_S)
    async with Readers() as readers:
        with client(pcsc.slots[0].reader, "turn") as other:
            await other.says("asks")
            await other.says("got it")
            for _ in range(2):
                with pytest.raises(DeviceUnavailable, match="another program keeps it to itself"):
                    async with readers.open("0"):
                        pass
        monkeypatch.undo()
        assert (await opened_and_selected(readers)).ok


@in_loop
async def test_nobody_else_speaks_to_a_card_that_is_held_alone(pcsc, card):
    befallen = Befallen(card, lambda one: one.card.process(BALANCE.encode()))
    await put_in(pcsc.slots[0], card, answer=befallen)
    async with Readers() as readers, readers.open("0") as slot:
        with ExitStack() as others:
            async with slot.alone():
                await slot.transmit(SELECT)
                other = others.enter_context(client(slot.name, "challenge"))
                await other.says("asks")
                for _ in range(200):
                    assert (await slot.transmit(BALANCE)).ok
                assert CHALLENGE.encode() not in befallen.heard
            await other.says("got it")
    assert CHALLENGE.encode() in befallen.heard


# --- protocols --------------------------------------------------------------------------------------------------------


@in_loop
async def test_what_a_card_on_t0_has_ready_is_fetched_but_not_behind_raw_bytes(pcsc):
    card = make_card(plate="测A12345", balance_raw=FEN, t0=True)
    await put_in(pcsc.slots[0], card)
    async with Readers() as readers, readers.open("0") as slot:
        plain = await slot.raw(SELECT.encode())
        assert len(plain) == 2
        assert plain[0] == 0x61
        whole = await slot.transmit(SELECT)
        assert whole.ok
        assert len(whole.data) == plain[1]
        wrong = Command(BALANCE.cla, BALANCE.ins, BALANCE.p1, BALANCE.p2, le=9)
        assert await slot.raw(wrong.encode()) == b"\x6c\x04"
        assert await slot.transmit(wrong) == Response(MONEY, 0x9000)


@in_loop
async def test_a_card_on_t1_is_told_how_long_its_answer_may_be(pcsc, card):
    befallen = Befallen(card, late)
    await put_in(pcsc.slots[0], card, answer=befallen, atr=ATR_T1)
    with_le = Command(SELECT.cla, SELECT.ins, SELECT.p1, SELECT.p2, SELECT.data, le=256)
    async with Readers() as readers, readers.open("0") as slot:
        assert slot.atr == ATR_T1
        assert (await slot.transmit(with_le)).ok
    assert befallen.heard == [with_le.encode()]
