"""Faults of emulated cards: each happens where its plan says, does what its words say, and nothing else."""

import asyncio

import pytest

from drivers.errors import DeviceTimeout, LinkLost
from drivers.pcsc import Readers
from hardware.bench.chip_slot import ChipSlot
from hardware.emulators.card import make_card
from hardware.emulators.card_faults import INSTRUCTIONS, Effect, Fault, FaultyChip, Place, fault_of
from hardware.emulators.psam import Psam
from protocols.card import commands, decode_card_file, psam, purse
from protocols.card.apdu import Response

TERMINAL = bytes.fromhex("019900000001")
TIME = "20240301113015"
FEN = 3000


def counted():
    """Random numbers that differ from each other, the same in each run."""
    number = 0

    def random(length):
        nonlocal number
        number += 1
        return number.to_bytes(length, "big")

    return random


def a_card(*plan, t0=False):
    card = make_card(plate="测A12345", balance_raw=50_000, random=counted(), t0=t0)
    return FaultyChip(card, map(fault_of, plan))


def a_psam(*plan):
    return FaultyChip(Psam(mode="bench"), map(fault_of, plan))


def ask(chip, command):
    return chip.react(command.encode()).answer


def good(chip, command):
    answer = ask(chip, command)
    if answer[-2] == 0x61:
        answer = ask(chip, commands.get_response(answer[-1]))
    response = Response.decode(answer)
    assert response.ok, hex(response.sw)
    return response.data


def opened(card, sam):
    """Purchase up to its debit: the command that debits, and what INIT said."""
    good(card, commands.select_id(commands.ETC_APPLICATION))
    file = decode_card_file(good(card, commands.read_binary(commands.SFI_CARD_FILE, 50)))
    init = purse.parse_purchase_opened(good(card, purse.init_purchase(0x01, FEN, TERMINAL)))
    good(sam, commands.select_id(psam.PSAM_APPLICATION))
    made = psam.parse_sam_purchase(
        good(
            sam,
            psam.init_sam_for_purchase(
                init,
                amount_fen=FEN,
                trade_type=9,
                time=TIME,
                inner_number=file.inner_number,
                region=file.region_factor,
            ),
        )
    )
    return purse.debit(made.terminal_serial, TIME, made.mac1), init, made


def test_pulled_after_the_debit_has_debited():
    card = a_card("pull-after debit")
    debit, _, _ = opened(card, a_psam())
    assert ask(card, debit) is None
    assert card.chip.balance_raw == 50_000 - FEN
    assert card.happened == ["command 4 (54): pull-after debit"]
    assert card.plan == []


def test_pulled_before_the_debit_has_not_debited():
    card = a_card("pull-before 4")
    debit, init, _ = opened(card, a_psam())
    assert ask(card, debit) is None
    assert card.chip.balance_raw == 50_000
    card.reset()
    good(card, commands.select_id(commands.ETC_APPLICATION))
    assert ask(card, purse.transaction_prove(init.proof_sequence)).hex() == "9406"


@pytest.mark.parametrize(("plan", "left"), [("mute debit", 50_000), ("done-mute debit", 50_000 - FEN)])
def test_a_silent_card_says_nothing_until_its_power_goes(plan, left):
    card = a_card(plan)
    debit, _, _ = opened(card, a_psam())
    assert ask(card, debit) == b""
    assert ask(card, purse.get_balance()) == b""
    assert card.chip.balance_raw == left
    card.reset()
    good(card, commands.select_id(commands.ETC_APPLICATION))
    assert good(card, purse.get_balance()) == left.to_bytes(4, "big")


@pytest.mark.parametrize(("plan", "left"), [("status=6581 debit", 50_000), ("done-status=6581 debit", 50_000 - FEN)])
def test_a_status_word_is_injected_with_the_work_done_or_not(plan, left):
    card = a_card(plan)
    debit, _, _ = opened(card, a_psam())
    assert ask(card, debit).hex() == "6581"
    assert card.chip.balance_raw == left


def test_slow_answers_are_the_same_answers():
    card = a_card("slow=1.5 every balance", "slow=0.25 every")
    good(card, commands.select_id(commands.ETC_APPLICATION))
    for _ in range(2):
        reaction = card.react(purse.get_balance().encode())
        assert (reaction.answer.hex(), reaction.after_s) == ("0000c3509000", 1.75)


def test_wrong_macs_are_refused_by_the_other_side():
    card, sam = a_card(), a_psam("wrong-mac1")
    debit, _, _ = opened(card, sam)
    assert ask(card, debit).hex() == "9302"
    assert card.chip.balance_raw == 50_000

    card, sam = a_card("wrong-mac2"), a_psam()
    debit, _, _ = opened(card, sam)
    proof = purse.parse_debit(good(card, debit))
    assert ask(sam, psam.credit_sam_for_purchase(proof.mac2)).hex() == "9302"
    assert card.chip.balance_raw == 50_000 - FEN


def test_a_wrong_tac_is_another_than_the_card_proves():
    card, sam = a_card("wrong-tac", t0=True), a_psam()
    debit, init, _ = opened(card, sam)
    said = purse.parse_debit(good(card, debit))
    proved = purse.parse_transaction_prove(good(card, purse.transaction_prove(init.proof_sequence)))
    assert said.mac2 == proved.mac2
    assert said.tac != proved.tac


def test_a_flipped_bit_is_the_only_difference():
    whole, hurt = a_card(), a_card("flip=12 read")
    read = commands.read_binary(commands.SFI_CARD_FILE, 50)
    answers = []
    for card in (whole, hurt):
        good(card, commands.select_id(commands.ETC_APPLICATION))
        answers.append(int.from_bytes(ask(card, read), "big"))
    assert answers[0] ^ answers[1] == 1 << (52 * 8 - 1 - 12)
    assert ask(hurt, read) == ask(whole, read), "a fault that has happened is gone"


def test_a_stuck_psam_gives_its_last_number_again():
    sam = a_psam("stuck-serial every")
    serials = [opened(a_card(), sam)[2].terminal_serial for _ in range(3)]
    assert serials == [1, 1, 1]
    assert [opened(a_card(), a_psam("stuck-serial"))[2].terminal_serial] == [1], "there was no last number"
    debit, _, _ = opened(card := a_card(), sam)
    good(card, debit)


def test_a_stale_proof_is_that_of_the_purchase_before():
    card, sam = a_card("stale-proof every"), a_psam()
    proofs, stale = [], []
    for _ in range(2):
        debit, init, _ = opened(card, sam)
        proofs.append(purse.parse_debit(good(card, debit)))
        stale.append(ask(card, purse.transaction_prove(init.proof_sequence)))
    assert stale[0].hex() == "9406"
    assert stale[1] == proofs[0].mac2 + proofs[0].tac + b"\x90\x00"


def test_a_card_on_t0_is_pulled_with_its_answer_ready():
    card = a_card("pull-after debit", t0=True)
    debit, _, _ = opened(card, a_psam())
    assert ask(card, debit) is None
    assert card.chip.balance_raw == 50_000 - FEN


@pytest.mark.parametrize(
    "text",
    [
        "pull-after debit",
        "pull-before 5",
        "mute 7",
        "done-mute prove",
        "status=6581 ins=E2",
        "done-status=6F00 every read",
        "slow=1.5 every",
        "flip=12 record",
        "wrong-mac1 sam-init",
        "wrong-mac2 3",
        "stuck-serial every sam-init",
    ],
)
def test_plans_are_written_as_they_are_read(text):
    assert str(fault_of(text)) == text


def test_effects_that_know_their_place_need_none():
    assert fault_of("stale-proof") == Fault(Effect.STALE_PROOF, Place(ins=INSTRUCTIONS["prove"]))


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("", "pull-before"),
        ("explode 1", "pull-before, pull-after"),
        ("pull-after", "the number of a command"),
        ("pull-after 0", "the number of a command"),
        ("pull-after every 5", "the number of a command"),
        ("pull-after debit debit", "the number of a command"),
        ("pull-after=3 debit", "write pull-after PLACE"),
        ("status=65 debit", "write status=6581 PLACE"),
        ("slow=100 every", "write slow=1.5 PLACE"),
        ("flip read", "write flip=12 PLACE"),
    ],
)
def test_what_is_no_fault_is_told_with_what_is(text, cure):
    with pytest.raises(ValueError, match=cure):
        fault_of(text)


def test_a_slot_in_memory_loses_its_card_and_hears_silence():
    async def run():
        select = commands.select_id(commands.ETC_APPLICATION)
        slot = ChipSlot("desk", a_card("pull-after balance"))
        await slot.transmit(select)
        with pytest.raises(LinkLost):
            await slot.transmit(purse.get_balance())
        await slot.removed()
        silent = ChipSlot("desk", a_card("mute 2"))
        await silent.transmit(select)
        with pytest.raises(DeviceTimeout):
            await silent.transmit(purse.get_balance(), timeout_s=0.01)
        slow = ChipSlot("desk", a_card("slow=9 2"))
        await slow.transmit(select)
        with pytest.raises(DeviceTimeout):
            await slow.transmit(purse.get_balance(), timeout_s=0.01)
        assert (await slow.transmit(purse.get_balance())).ok

    asyncio.run(run())


def test_faults_come_through_a_real_card_service(pcsc):
    select, slot = commands.select_id(commands.ETC_APPLICATION), pcsc.slots[0]
    card = a_card("slow=0.3 2", "mute 4")

    async def use():
        async with Readers() as readers, readers.open(slot.reader, wait_s=60) as inside:
            assert (await inside.transmit(select)).ok
            with pytest.raises(DeviceTimeout):
                await inside.transmit(purse.get_balance(), timeout_s=0.1)

    async def use_again():
        async with Readers() as readers, readers.open(slot.reader, wait_s=60) as inside:
            assert (await inside.transmit(select)).ok
            with pytest.raises(DeviceTimeout):
                await inside.transmit(purse.get_balance(), timeout_s=0.1)
            slot.card.remove()  # it would be silent for ever

    slot.insert(card)
    asyncio.run(use())
    asyncio.run(use_again())
    slot.remove()
    assert [one.split(": ")[1] for one in card.happened] == ["slow=0.3 2", "mute 4"]
    slot.insert(card)

    async def whole():
        async with Readers() as readers, readers.open(slot.reader, wait_s=60) as inside:
            assert (await inside.transmit(select)).ok

    asyncio.run(whole())
