"""The driver of a PSAM against an emulated one, and against one that lies, refuses or falls silent."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date

import pytest

from drivers.errors import DeviceRefused, DeviceTimeout, RequestOutcome
from drivers.psam import KeyState, Psam, PsamCannot
from hardware.bench.chip_slot import ChipSlot
from hardware.emulators.card import make_card
from hardware.emulators.psam import Psam as EmulatedPsam
from hardware.emulators.test_keys import ROOTS
from protocols.card import commands, psam, purse
from protocols.card.apdu import Response
from protocols.card.psam import KeyKind
from protocols.card.psam_profiles import AUTHORISED, GUANGDONG, NATIONAL, ONE_LEVEL, PROFILES
from protocols.crypto import Algorithm, MacVerdict, Trade, diversify, external_auth, seal_vehicle
from protocols.errors import LocalProtocolError, RemoteProtocolError

REGION = bytes.fromhex("B2E2CAD4B2E2CAD4")
INNER = bytes.fromhex("2301220100000001")
CONTRACT = bytes.fromhex("9901230100000001")
RANDOM = bytes.fromhex("0102030405060708")
TERMINAL = bytes.fromhex("019900000001")
TIME = "20240301113015"
FACTS = {"amount_fen": 3000, "trade_type": 9, "time": TIME, "inner_number": INNER, "region": REGION}
VEHICLE = bytes(59)


class Slot(ChipSlot):
    """An emulated PSAM in a slot; `lies` are answers by instruction, instead of its own."""

    def __init__(self, chip, lies=None):
        super().__init__("reader 01", chip)
        self.lies = lies or {}
        self.held = 0

    async def raw(self, command, *, timeout_s=2.0):
        await asyncio.sleep(0)
        lie = self.lies.get(command[1])
        if isinstance(lie, Exception):
            raise lie
        return await super().raw(command) if lie is None else lie.encode()

    @asynccontextmanager
    async def alone(self):
        self.held += 1
        yield
        self.held -= 1


def bench(profile=NATIONAL, lies=None, **facts):
    slot = Slot(EmulatedPsam(mode="bench", **facts), lies)
    return Psam(slot, profile=profile), slot


def card_in_application(**facts):
    card = make_card(plate="测A12345", balance_raw=50_000, **facts)
    card.process(commands.select_id(commands.ETC_APPLICATION).encode())
    return card


def opened_at(card, key=1):
    return purse.parse_purchase_opened(card.process(purse.init_purchase(key, 3000, TERMINAL).encode())[:-2])


def run(coroutine):
    return asyncio.run(coroutine)


def sw(word):
    return Response(b"", word)


def test_files_are_read_and_the_application_is_selected_last():
    driver, slot = bench(long_application_file=True, key_type=4)
    info = run(driver.info())
    assert info.issue.serial == bytes.fromhex("99010000000000000017")
    assert (info.terminal, info.has_sm4) == (TERMINAL, True)
    assert (info.starts, info.expires, info.warnings) == (date(2024, 1, 1), date(2034, 1, 1), ())
    assert info.application.area == REGION
    assert [raw for raw in slot.commands if raw[1] == 0xA4][-1].hex().startswith("00a4000002df01")


@pytest.mark.parametrize("shorter", [0x6282, 0x6700, 0x6B00])
def test_a_file_0017_of_25_bytes_is_found_by_whatever_its_psam_answers(shorter):
    class Strict(Slot):
        async def transmit(self, command, *, timeout_s=2.0):
            if command.ins == 0xB0 and command.le == 27:
                return sw(shorter)
            return await super().transmit(command)

    info = run(Psam(Strict(EmulatedPsam(mode="bench"))).info())
    assert (info.application.sm4_key_index, info.has_sm4) == (None, False)
    assert run(bench()[0].info()) == info  # 6C19 as the emulator has it


def test_odd_files_are_warnings_and_other_lengths_are_errors():
    driver, slot = bench(terminal=bytes(6))
    slot._chip._files[next(iter(slot._chip._files))] = bytes.fromhex("AB010000000000000017FF07ABCD")
    assert run(driver.info()).warnings == ("serial at offset 0 is not decimal",)
    driver, _ = bench(lies={0xB0: Response(bytes(13), 0x9000)})
    with pytest.raises(RemoteProtocolError, match="13 bytes, 14 wanted"):
        run(driver.info())


def test_another_psam_in_the_same_slot_is_seen():
    driver, slot = bench()

    async def twice():
        await driver.info()
        slot._chip = EmulatedPsam(mode="bench", terminal=bytes.fromhex("019900000002"))
        await driver.info()

    with pytest.raises(RemoteProtocolError, match="another one"):
        run(twice())


@pytest.mark.parametrize(("version", "key"), [(0x40, 0x01), (0x50, 0x41)])
def test_a_purchase_from_mac1_to_mac2(version, key):
    driver, slot = bench()
    card = card_in_application(version=version)

    async def buy():
        async with driver.turn():
            assert slot.held == 1
            made = await driver.open_purchase(opened_at(card, key=key), **FACTS)
            answer = Response.decode(card.process(purse.debit(made.terminal_serial, TIME, made.mac1).encode()))
            proof = purse.parse_debit(answer.data)
            return made, await driver.close_purchase(proof.mac2)

    made, right = run(buy())
    assert (made.terminal_serial, right, slot.held) == (1, True, 0)
    assert len(slot.commands) == 3, "selected once, and nothing asked twice"


def test_a_wrong_mac2_is_told_and_no_refusal():
    driver, _ = bench()

    async def buy():
        async with driver.turn():
            await driver.open_purchase(opened_at(card_in_application()), **FACTS)
            return await driver.close_purchase(bytes(4))

    assert run(buy()) is False


def test_a_purchase_needs_a_turn():
    driver, slot = bench()
    with pytest.raises(LocalProtocolError, match="turn"):
        run(driver.open_purchase(opened_at(card_in_application()), **FACTS))
    with pytest.raises(LocalProtocolError, match="turn"):
        run(driver.close_purchase(bytes(4)))
    with pytest.raises(LocalProtocolError, match="turn"):
        run(driver.authorise(bytes(8)))
    assert slot.commands == []


def test_two_purchases_wait_for_each_other():
    driver, slot = bench()

    async def one():
        async with driver.turn():
            await driver.open_purchase(opened_at(card_in_application()), **FACTS)
            await asyncio.sleep(0)
            await driver.close_purchase(bytes(4))

    async def both():
        await asyncio.gather(one(), one(), driver.key_state(KeyKind.VEHICLE, Algorithm.DES3))

    run(both())
    assert [raw[1] for raw in slot.commands] == [0xA4, 0x70, 0x72, 0x70, 0x72, 0x1A]


@pytest.mark.parametrize("serial", [7, 6])
def test_a_counter_that_stands_still_is_an_error(serial):
    driver, slot = bench()

    async def twice():
        for value in (7, serial):
            slot.lies[0x70] = Response(value.to_bytes(4, "big") + bytes(4), 0x9000)
            async with driver.turn():
                await driver.open_purchase(opened_at(card_in_application()), **FACTS)

    with pytest.raises(RemoteProtocolError, match=f"terminal serial {serial} .* follows 7"):
        run(twice())


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        (0x6982, "not authorised"),
        (0x6983, "locked"),
        (0x9303, "locked"),
        (0x9402, "no terminal numbers left"),
        (0x9403, "no key for this card"),
        (0x6985, "not in a state"),
        (0x6F00, "refused MAC1: no diagnosis"),
    ],
)
def test_a_refusal_says_what_happened_with_its_status_word(word, problem):
    driver, _ = bench(lies={0x70: sw(word)})

    async def buy():
        async with driver.turn():
            await driver.open_purchase(opened_at(card_in_application()), **FACTS)

    with pytest.raises(DeviceRefused, match=f"{problem}.*SW {word:04X}") as refused:
        run(buy())
    assert refused.value.outcome is RequestOutcome.REFUSED


def test_mac2_without_mac1_is_told():
    driver, _ = bench()

    async def close():
        async with driver.turn():
            await driver.close_purchase(bytes(4))

    with pytest.raises(DeviceRefused, match="no purchase open"):
        run(close())


def test_after_a_wrong_state_the_application_is_selected_again():
    driver, slot = bench()

    async def buy():
        async with driver.turn():
            return await driver.open_purchase(opened_at(card_in_application()), **FACTS)

    async def both():
        await buy()
        slot._chip.process(commands.select_id(commands.MF).encode())  # another program
        with pytest.raises(DeviceRefused):
            await buy()
        return await buy()

    assert run(both()).terminal_serial == 2


def test_a_silent_psam_is_the_slots_error():
    driver, _ = bench(lies={0x1A: DeviceTimeout("no answer", device="reader 01")})
    with pytest.raises(DeviceTimeout):
        run(driver.key_state(KeyKind.VEHICLE, Algorithm.DES3))


@pytest.mark.parametrize("answer", [bytes(7), bytes(9), b""])
def test_an_answer_of_another_length_is_an_error(answer):
    driver, _ = bench(lies={0x70: Response(answer, 0x9000)})

    async def buy():
        async with driver.turn():
            await driver.open_purchase(opened_at(card_in_application()), **FACTS)

    with pytest.raises(RemoteProtocolError, match="8 wanted"):
        run(buy())


def sealed(algorithm, random=RANDOM):
    leaf = diversify(ROOTS[KeyKind.VEHICLE, algorithm], (REGION, CONTRACT), algorithm)
    return seal_vehicle(leaf, VEHICLE, random, algorithm)


def decrypt(driver, cipher, algorithm=Algorithm.DES3, **facts):
    facts = {"contract_serial": CONTRACT, "region": REGION, "rsu_random": RANDOM} | facts
    return run(driver.decrypt_vehicle(cipher, algorithm=algorithm, **facts))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_vehicle_file_is_decrypted_and_its_mac_judged(algorithm):
    read = decrypt(bench()[0], sealed(algorithm), algorithm)
    assert (read.data, read.mac) == (VEHICLE, MacVerdict.RIGHT)
    unasked = decrypt(bench()[0], sealed(algorithm), algorithm, rsu_random=None)
    assert (unasked.data, unasked.mac) == (VEHICLE, MacVerdict.NOT_CHECKED)
    replayed = decrypt(bench()[0], sealed(algorithm, random=bytes(8)), algorithm)
    assert replayed.mac is (MacVerdict.WRONG if algorithm is Algorithm.DES3 else MacVerdict.NOT_CHECKED)


def test_what_does_not_decrypt_to_a_vehicle_file_is_an_error():
    with pytest.raises(RemoteProtocolError, match="does not fit"):
        decrypt(bench()[0], sealed(Algorithm.DES3), contract_serial=bytes(8))
    with pytest.raises(RemoteProtocolError, match="whole blocks"):
        decrypt(bench()[0], bytes(15))
    driver, _ = bench(lies={0xFA: Response(bytes(8), 0x9000)})
    with pytest.raises(RemoteProtocolError, match="8 bytes, 72 wanted"):
        decrypt(driver, sealed(Algorithm.DES3))


def test_keys_that_a_psam_lacks():
    plain = frozenset({Algorithm.DES3})
    driver, _ = bench(algorithms=plain)
    with pytest.raises(PsamCannot, match=r"no SM4 vehicle key \(SW 6A88\)"):
        decrypt(driver, sealed(Algorithm.SM4), Algorithm.SM4)
    with pytest.raises(DeviceRefused, match="not authorised"):
        decrypt(bench(authorisation_needed=True)[0], sealed(Algorithm.DES3))
    assert run(driver.key_state(KeyKind.VEHICLE, Algorithm.SM4)) is KeyState.ABSENT
    assert run(driver.key_state(KeyKind.VEHICLE, Algorithm.DES3)) is KeyState.PRESENT
    assert run(driver.key_state(KeyKind.LOAD, Algorithm.DES3)) is KeyState.UNKNOWN
    locked, slot = bench(authorisation_needed=True)
    assert run(locked.key_state(KeyKind.TAC, Algorithm.DES3)) is KeyState.LOCKED
    slot.lies[0x1A] = sw(0x6F00)
    assert run(locked.key_state(KeyKind.TAC, Algorithm.DES3)) is KeyState.UNKNOWN
    assert slot._chip.terminal_serial == 0


def tac_facts(**facts):
    return {
        "trade": Trade(3000, 9, TERMINAL),
        "terminal_serial": 2,
        "time": TIME,
        "inner_number": INNER,
        "region": REGION,
        "algorithm": Algorithm.DES3,
    } | facts


def test_a_tac_is_verified_where_the_psam_has_the_key():
    right = bytes.fromhex("F48A6336")
    assert run(bench()[0].verify_tac(right, **tac_facts())) is True
    assert run(bench()[0].verify_tac(right, **tac_facts(terminal_serial=3))) is False
    assert run(bench()[0].verify_tac(bytes(4), **tac_facts())) is False
    with pytest.raises(PsamCannot, match="no SM4 tac key") as cannot:
        run(bench()[0].verify_tac(right, **tac_facts(algorithm=Algorithm.SM4)))
    assert cannot.value.outcome is RequestOutcome.REFUSED
    with pytest.raises(PsamCannot, match="6A86"):
        run(bench(lies={0x1A: sw(0x6A86)})[0].verify_tac(right, **tac_facts()))


def test_a_centre_authorises_a_psam():
    driver, _ = bench(AUTHORISED, authorisation_needed=True)

    async def authorised():
        info = await driver.info()
        factors = psam.authorisation_factors(info.issue, info.application)
        leaf = diversify(ROOTS[KeyKind.EXTERNAL_AUTH, Algorithm.SM4], factors, Algorithm.SM4)
        async with driver.authorisation() as challenge:
            await driver.authorise(external_auth(leaf, challenge, Algorithm.SM4))
        async with driver.turn():
            return await driver.open_purchase(opened_at(card_in_application()), **FACTS)

    assert run(authorised()).terminal_serial == 1


def test_a_wrong_authorisation_is_refused_once():
    driver, slot = bench(authorisation_needed=True)

    async def wrong():
        async with driver.authorisation():
            await driver.authorise(bytes(8))

    with pytest.raises(DeviceRefused, match="2 tries left"):
        run(wrong())
    assert [raw[1] for raw in slot.commands] == [0xA4, 0x84, 0x82]


def test_one_level_systems_leave_the_region_out():
    driver, slot = bench(ONE_LEVEL)

    async def buy():
        async with driver.turn():
            await driver.open_purchase(opened_at(card_in_application()), **FACTS)
        await driver.key_state(KeyKind.VEHICLE, Algorithm.DES3)

    run(buy())
    assert [raw[4] for raw in slot.commands if raw[1] in (0x70, 0x1A)] == [0x1C, 0x08]
    assert NATIONAL.usage_of(KeyKind.VEHICLE, Algorithm.DES3) == (0x59, 0x03)


def test_profiles_are_data_that_agrees_with_itself():
    for name, profile in PROFILES.items():
        assert profile.name == name
        ours = {key: use for key, use in profile.usages.items() if key != (0x27, 0x01)}
        assert all(p1 >> 5 == use.levels for (p1, _), use in ours.items())
    assert (GUANGDONG.local_application, NATIONAL.local_application) == (0x3F01, None)
    with pytest.raises(LocalProtocolError, match="no load key use"):
        NATIONAL.derive(KeyKind.LOAD, Algorithm.DES3, INNER, REGION)
    with pytest.raises(LocalProtocolError, match="has no function"):
        replace(NATIONAL, functions=frozenset()).crypt(psam.Crypt.MAC, bytes(16), 4)
