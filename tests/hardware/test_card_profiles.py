"""Profiles of emulated cards: the samples make what they say, and a wrong profile names card, key and cure."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.cards.contents import read_card
from hardware.bench.chip_slot import ChipSlot
from hardware.emulators import profiles
from hardware.emulators.other_cards import transit_card
from hardware.emulators.profiles import KINDS, ProfileError, load
from protocols.card import commands, decode_card_file, decode_station, psam, purse
from protocols.card.apdu import Command, Response
from protocols.obu import decode_vehicle_file
from protocols.obu.commands import OBU_APPLICATION, read_system_info

SAMPLES = sorted((Path(__file__).parents[2] / "hardware" / "sites" / "cards").glob("*.toml"))
VECTORS = Path(__file__).parents[1] / "vectors" / "card-apdus.jsonl"


@pytest.fixture(scope="module")
def sample():
    return {name: profile for path in SAMPLES for name, profile in load(path).items()}


def ask(chip, command):
    response = Response.decode(chip.process(command.encode()))
    if response.sw >> 8 == 0x61:
        response = Response.decode(chip.process(commands.get_response(response.sw & 0xFF).encode()))
    return response


def application(chip):
    assert ask(chip, commands.select_id(commands.ETC_APPLICATION)).ok
    return chip


def card_file(chip, length=50):
    return ask(application(chip), commands.read_binary(commands.SFI_CARD_FILE, length))


def test_the_samples_have_every_kind_and_no_number_twice(sample):
    assert {profile.kind for profile in sample.values()} == set(KINDS)
    assert sum(len(load(path)) for path in SAMPLES) == len(sample), "one name in two files"
    for what in ("number", "contract", "obu_id", "terminal", "serial"):
        numbers = [getattr(profile.facts, what) for profile in sample.values() if hasattr(profile.facts, what)]
        assert len(numbers) == len(set(numbers)), what


def test_a_user_card_carries_what_its_profile_says(sample):
    car = sample["car"].make()
    file = decode_card_file(card_file(car).data)
    assert (file.plate, file.card_number, file.card_type) == ("测A12345", "99012301220100000001", 22)
    station = decode_station(ask(car, commands.read_record(commands.SFI_STATIONS, 1, 43)).data)
    assert (station.station_code, station.plate, station.unix_seconds) == ("99010101", "测A12345", 1709263815)
    assert purse.parse_balance(ask(car, purse.get_balance()).data) == 50_000
    holder = ask(car, commands.read_binary(commands.SFI_HOLDER, 55)).data
    assert "测试".encode("gbk") in holder
    assert b"TEST0001" in holder


def test_an_old_card_has_43_bytes_and_a_card_may_tell_nothing_on_select(sample):
    old = sample["old"].make()
    assert ask(old, commands.select_id(commands.ETC_APPLICATION)) == Response(b"", 0x9000)
    assert ask(old, commands.read_binary(commands.SFI_CARD_FILE, 50)).sw == 0x6C2B
    assert decode_card_file(card_file(old, 43).data).plate == "测E00017"


@pytest.mark.parametrize(("name", "index", "sw"), [("blocked", 1, 0x6A81), ("poor", 1, 0x9401), ("charge", 1, 0x9403)])
def test_cards_that_refuse_a_purchase_say_why(sample, name, index, sw):
    card = application(sample[name].make())
    assert ask(card, purse.init_purchase(index, 1000, bytes(6))).sw == sw


def test_a_dual_card_takes_either_key(sample):
    card = application(sample["dual"].make())
    opened = [purse.parse_purchase_opened(ask(card, purse.init_purchase(i, 1, bytes(6))).data) for i in (0x01, 0x41)]
    assert [one.algorithm.title for one in opened] == ["3DES", "SM4"]


def test_a_card_whose_pin_is_spent_is_blocked_for_the_right_one_too(sample):
    card = application(sample["pin-spent"].make())
    assert ask(card, commands.verify_pin(bytes.fromhex("123456"))).sw == 0x6983


def test_a_card_on_t0_has_its_answers_fetched(sample):
    chip = sample["car-t0"].make()
    assert chip.process(commands.select_id(commands.ETC_APPLICATION).encode())[0] == 0x61


@pytest.mark.parametrize(
    ("name", "sw"), [("psam", 0x9403), ("psam-unauthorised", 0x6982), ("psam-locked", 0x6982), ("psam-3des", 0x9403)]
)
def test_psams_stand_where_their_profiles_put_them(sample, name, sw):
    sam = sample[name].make()
    assert ask(sam, commands.select_id(psam.PSAM_APPLICATION)).ok
    data = bytes(10) + b"\x09" + bytes.fromhex("20240301113015") + b"\x41\x00" + bytes(16)
    assert ask(sam, Command(0x80, 0x70, 0, 0, data, 8)).sw == sw
    locked = name == "psam-locked"
    assert ask(sam, commands.external_authenticate(psam.AUTHORISATION_KEY, bytes(8))).sw == (
        0x6983 if locked else 0x6984
    )


def test_a_psam_counts_in_its_steps_to_its_end(sample):
    sam = sample["psam-full"].make()
    assert ask(sam, commands.select_id(psam.PSAM_APPLICATION)).ok
    data = bytes(10) + b"\x09" + bytes.fromhex("20240301113015") + b"\x01\x00" + bytes(16)
    answers = [ask(sam, Command(0x80, 0x70, 0, 0, data, 8)) for _ in range(6)]
    serials = [int.from_bytes(answer.data[:4], "big") for answer in answers if answer.ok]
    assert serials == [0xFFFFFFF3, 0xFFFFFFF6, 0xFFFFFFF9, 0xFFFFFFFC, 0xFFFFFFFF]
    assert answers[-1].sw == 0x9402


@pytest.mark.parametrize(
    ("name", "form", "colour", "mounted"),
    [("tag", "car", 0, 1), ("tag-59", "car", 0, 1), ("tag-truck", "truck", 1, 1), ("tag-removed", "car", 0, 0)],
)
def test_tags_have_the_vehicle_file_of_their_profile(sample, name, form, colour, mounted):
    esam = sample[name].make()
    file = decode_vehicle_file(esam.stored.vehicle_file)
    assert (file.form.value, file.plate_colour, file.plate) == (form, colour, sample[name].facts.plate)
    assert ask(esam, read_system_info()).data[26] == mounted
    assert ask(esam, commands.select_id(OBU_APPLICATION)).ok
    assert ask(esam, commands.read_binary(0x04, 1)).ok is (name == "tag")


def test_a_record_is_copied_into_the_route_file_of_a_tag(tmp_path):
    record = "AA2900" + "11" * 40
    profile = written(tmp_path, f'[tag]\nkind = "esam"\nplate = "测A12345"\nrecord = "{record}"')["tag"]
    esam = profile.make()
    ask(esam, commands.select_id(OBU_APPLICATION))
    ask(esam, commands.select_id(0xEF04))
    assert ask(esam, commands.read_current(0x013A, 43)).data.hex().upper() == record


def test_damaged_cards_are_damaged_and_alive(sample):
    assert card_file(sample["cut"].make()).sw == 0x6C14
    assert len(card_file(sample["cut"].make(), 20).data) == 20
    unreadable = application(sample["unreadable"].make())
    assert ask(unreadable, commands.read_record(commands.SFI_STATIONS, 1, 43)).sw == 0x6581
    assert ask(unreadable, commands.read_record(commands.SFI_TRANSACTIONS, 1, 23)).sw == 0x6581
    assert purse.parse_balance(ask(unreadable, purse.get_balance()).data) == 50_000
    assert set(card_file(sample["garbage"].make()).data) == {0x5A}


def test_a_card_without_its_card_file_still_answers(tmp_path):
    text = '[a]\nkind = "damaged"\nplate = "测A12345"\nmissing = ["0015", "0018"]\ncut = { 0019 = 7 }\n'
    card = written(tmp_path, text + 'garbage = { 0008 = "AB" }')["a"].make()
    assert card_file(card).sw == 0x6A82
    assert ask(card, commands.read_record(commands.SFI_STATIONS, 1, 7)).ok
    assert ask(card, commands.read_binary(0x08, 1)).data == b"\xab"
    empty = written(tmp_path, '[a]\nkind = "damaged"\nplate = "测A12345"\nmissing = ["0019"]\n')["a"].make()
    assert ask(application(empty), commands.read_record(commands.SFI_STATIONS, 1, 43)).sw == 0x6A83


def test_blank_and_foreign_cards_have_no_application(sample):
    for name in ("blank", "blank-bare", "foreign"):
        card = sample[name].make()
        assert ask(card, commands.select_id(commands.MF)).sw == (0x9000 if name == "blank" else 0x6A82)
        assert ask(card, commands.select_name(commands.ETC_AID)).sw == 0x6A82
        assert card.stored is None
    assert ask(sample["foreign"].make(), commands.get_challenge(4)).sw == 0x6A82


def test_a_transit_card_answers_as_published_ones_do(sample):
    vector = next(v for v in map(json.loads, VECTORS.read_text("utf-8").splitlines()) if v["id"] == "pub-tr-01")
    card = transit_card(public=bytes.fromhex(vector["decoded"]["tag_9F0C"]), balance_raw=0)
    assert card.process(bytes.fromhex(vector["command_hex"])).hex().upper() == vector["response_hex"]
    own = sample["transit"].make()
    assert card_file(own).sw == 0x6C1E
    assert purse.parse_balance(ask(own, purse.get_balance()).data) == 1234
    assert ask(own, commands.read_record(commands.SFI_STATIONS, 1, 43)).sw == 0x6A82


@pytest.mark.parametrize(
    ("name", "kind", "damaged"),
    [
        ("car", "etc", set()),
        ("car-t0", "etc", set()),
        ("charge", "etc", set()),
        ("old", "etc", set()),
        ("blocked", "etc", set()),
        ("cut", "damaged", {"0015"}),
        ("garbage", "other", set()),
        ("unreadable", "etc", {"0018/1", "0019/1"}),
        ("transit", "purse", {"0015", "0019/1"}),
        ("blank", "blank", set()),
        ("blank-bare", "other", set()),
        ("foreign", "other", set()),
    ],
)
def test_the_product_takes_each_card_for_what_it_is(sample, name, kind, damaged):
    read = asyncio.run(read_card(ChipSlot("desk", sample[name].make())))
    assert (read.kind.value, {one.name for one in read.damaged}) == (kind, damaged)


def written(folder, text):
    path = folder / "cards.toml"
    path.write_text(text, "utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no card: write a table such as"),
        ("[a", "cards.toml"),
        ("a = 1", "[a] is no card"),
        ("[A]\nkind = 'blank'", "[A] name: write small letters"),
        ("[a]\nkind = 'car'", "[a] kind: 'car': write one of user-card, damaged, psam"),
        ("[a]\nkind = 'user-card'", "[a] plate: is missing"),
        ("[a]\nkind = 'blank'\ncolour = 1", "[a] colour: no such key here: atr, t0, formatted"),
        ("[a]\nkind = 'blank'\nt0 = 1", "[a] t0: 1: write true or false"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nlength = 44", "[a] length: 44: write 50 or 43"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nbalance_fen = -1", "write a whole number from 0 to 4294967295"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nbalance_fen = true", "write a whole number"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nstarts = '2024-01-01'", "write a day such as 2034-01-01"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nalgorithms = []", "write a list of at least 1"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nalgorithms = ['des']", "write one of 3des, sm4"),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\npin = 'x'", "write bytes in hexadecimal"),
        (
            "[a]\nkind = 'user-card'\nplate = '测A12345'\nentry = { lane = 1 }",
            "[a] entry: {'lane': 1}: station: is missing",
        ),
        ("[a]\nkind = 'user-card'\nplate = '测A12345'\nnetwork = '0001'", "does not make a card: network 0001"),
        ("[a]\nkind = 'esam'\nplate = '测A12345'\nplate_colour = 4\nold_colour = true", "plate_colour 0 to 3"),
        ("[a]\nkind = 'esam'\nplate = '☃A12345'", "does not make a card: "),
        (
            "[a]\nkind = 'user-card'\nplate = '测A12345'\nrecord = '" + "00" * 43 + "'\n"
            "entry = { station = '99010101', unix_seconds = 1 }",
            "entry and record say the same thing",
        ),
        ("[a]\nkind = 'damaged'\nplate = '测A12345'\ncut = 3", "write a table by file"),
        ("[a]\nkind = 'damaged'\nplate = '测A12345'\nmissing = ['0099']", "write one of 0008, 0009"),
        ("[a]\nkind = 'psam'\nvendor = 'nobody'", "write one of national, one-level"),
        ("[a]\nkind = 'transit'\npublic = 'AA'", "write 30 bytes in hexadecimal"),
    ],
)
def test_a_wrong_profile_names_card_key_and_cure(tmp_path, text, said):
    with pytest.raises(ProfileError) as error:
        written(tmp_path, text)
    assert said in str(error.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    with pytest.raises(ProfileError) as error:
        written(tmp_path, "[a]\nkind = 'blank'\nt0 = 1\natr = 5\n[b]\nkind = 'psam'\nserial = ''\n")
    assert len(str(error.value).splitlines()) == 3


def test_the_keys_of_a_profile_are_all_checked():
    for kind in KINDS.values():
        checks = profiles.get_type_hints(kind, include_extras=True)
        assert all(callable(one.__metadata__[0]) for one in checks.values()), kind
