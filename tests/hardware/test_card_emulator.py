"""What the emulated chips do beyond the recorded sessions: refusals, atomicity, limits, blocking."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.emulators.card import UserCard, make_card
from hardware.emulators.obu import ROUTE_FILE, make_obu
from hardware.emulators.psam import Psam, SoftwarePsamRefusedError
from hardware.emulators.test_keys import ROOTS, LeafKeys
from protocols.card import commands, psam, purse, station_new
from protocols.card.apdu import Command, Response
from protocols.card.codes import TradeType
from protocols.card.psam import KeyKind
from protocols.card.psam_profiles import NATIONAL
from protocols.crypto import Algorithm, diversify, external_auth, line_mac, mac1, open_vehicle, session_key
from protocols.crypto.purse import Trade
from protocols.obu import commands as obu_commands
from protocols.obu import decode_obu_status
from protocols.rsu.messages import DeviceType

TERMINAL = bytes.fromhex("019900000001")
TIME = "20240301113015"
INNER = bytes.fromhex("2301220100000001")
REGION = bytes.fromhex("B2E2CAD4") * 2


def fixed(length: int) -> bytes:
    return bytes(range(1, length + 1))


def say(chip, command: Command | str) -> Response:
    raw = command.encode() if isinstance(command, Command) else bytes.fromhex(command)
    return Response.decode(chip.process(raw))


def sw(chip, command: Command | str) -> str:
    return f"{say(chip, command).sw:04X}"


def bench_card(**facts) -> UserCard:
    facts = {"plate": "测A12345", "balance_raw": 50000, "random": fixed} | facts
    card = make_card(**facts)
    assert say(card, commands.select_id(commands.ETC_APPLICATION)).ok
    return card


def station(fee_fen: int = 100) -> bytes:
    return station_new(
        network="9901",
        station="0105",
        lane=1,
        unix_seconds=1709263815,
        vehicle_class=1,
        status=4,
        plate="测A12345",
        plate_colour=0,
        fee_fen=fee_fen,
    )


def purchase(card: UserCard, sam: Psam, amount: int, *, key_index: int = 0x01, record: bytes | None = None) -> Response:
    """A whole composite purchase with right MACs; the answer to 8054."""
    opened = purse.parse_purchase_opened(say(card, purse.init_purchase(key_index, amount, sam.terminal)).data)
    if record is not None:
        assert say(card, purse.update_cache(commands.RECORD_AA, record)).ok
    say(sam, commands.select_id(psam.PSAM_APPLICATION))
    made = psam.parse_sam_purchase(
        say(
            sam,
            psam.init_sam_for_purchase(
                opened,
                amount_fen=amount,
                trade_type=TradeType.COMPOSITE,
                time=TIME,
                inner_number=card.card_file.inner_number,
                region=REGION,
            ),
        ).data
    )
    return say(card, purse.debit(made.terminal_serial, TIME, made.mac1))


# --- purchase -------------------------------------------------------------------------------------------------------


def test_debit_changes_everything_together_and_survives_power_loss():
    card, sam = bench_card(offline_sequence=7), Psam(mode="bench")
    proof = purse.parse_debit(purchase(card, sam, 1234, record=station()).data)
    assert say(sam, psam.credit_sam_for_purchase(proof.mac2)).ok
    card.reset()
    assert (card.balance_raw, card.offline_sequence, card.station) == (48766, 8, station())
    (log,) = card.transactions
    assert (log.sequence, log.amount_fen, log.trade_type, log.terminal) == (8, 1234, 0x09, TERMINAL)
    assert say(card, commands.select_id(commands.ETC_APPLICATION)).ok
    assert purse.parse_transaction_prove(say(card, purse.transaction_prove(8)).data) == proof


@pytest.mark.parametrize("sequence", [0, 6, 7, 9, 0xFFFF])
def test_proof_is_given_for_the_last_sequence_only(sequence):
    card = bench_card(offline_sequence=7)
    purchase(card, Psam(mode="bench"), 1)
    assert sw(card, purse.transaction_prove(sequence)) == "9406"
    assert sw(card, purse.transaction_prove(8, TradeType.PURCHASE)) == "9406"
    assert sw(card, purse.transaction_prove(8)) == "9000"


def test_the_next_purchase_replaces_the_proof():
    card, sam = bench_card(offline_sequence=7), Psam(mode="bench")
    purchase(card, sam, 1)
    purchase(card, sam, 2)
    assert [sw(card, purse.transaction_prove(n)) for n in (8, 9)] == ["9406", "9000"]


@pytest.mark.parametrize("wrong", ["mac", "time", "serial", "sequence"])
def test_a_wrong_mac1_changes_nothing_and_ends_the_purchase(wrong):
    card = bench_card(station=station(1))
    opened = purse.parse_purchase_opened(say(card, purse.init_purchase(1, 500, TERMINAL)).data)
    say(card, purse.update_cache(commands.RECORD_AA, station(2)))
    leaf = diversify(ROOTS[KeyKind.PURCHASE, Algorithm.DES3], (REGION, INNER), Algorithm.DES3)
    sequence = opened.offline_sequence + (wrong == "sequence")
    session = session_key(leaf, opened.card_random, sequence, 5, Algorithm.DES3)
    right = mac1(session, Trade(500, 0x09, TERMINAL), bytes.fromhex(TIME), Algorithm.DES3)
    given = bytes(4) if wrong == "mac" else right
    time = "20240301113016" if wrong == "time" else TIME
    debit = purse.debit(6 if wrong == "serial" else 5, time, given)
    before = (card.balance_raw, card.offline_sequence, card.station, card.transactions)
    assert sw(card, debit) == "9302"
    assert (card.balance_raw, card.offline_sequence, card.station, card.transactions) == before
    assert sw(card, debit) == "6985"


@pytest.mark.parametrize("end", ["reset", "select", "init"])
def test_what_ends_an_open_purchase(end):
    card, sam = bench_card(station=station(1)), Psam(mode="bench")
    say(card, purse.init_purchase(1, 500, TERMINAL))
    say(card, purse.update_cache(commands.RECORD_AA, station(2)))
    if end == "reset":
        card.reset()
        assert sw(card, purse.get_balance()) == "6985"
        say(card, commands.select_id(commands.ETC_APPLICATION))
    elif end == "select":
        say(card, commands.select_id(commands.ETC_APPLICATION))
    if end != "init":
        assert sw(card, purse.debit(1, TIME, bytes(4))) == "6985"
    purchase(card, sam, 1)
    assert card.station == station(1)  # the first purchase's cache is gone


def test_stored_value_cards_need_the_balance_and_charge_cards_do_not():
    assert sw(bench_card(balance_raw=100), purse.init_purchase(1, 101, TERMINAL)) == "9401"
    assert sw(bench_card(balance_raw=100), purse.init_purchase(1, 100, TERMINAL)) == "9000"
    assert sw(bench_card(balance_raw=0), purse.init_purchase(1, 0, TERMINAL)) == "9000"
    assert sw(bench_card(balance_raw=0x80000001), purse.init_purchase(1, 1, TERMINAL)) == "9401"
    charge = bench_card(card_type=23, balance_raw=0xFA0A1E33)
    purchase(charge, Psam(mode="bench"), 100)
    assert purse.signed_balance(charge.balance_raw) == -100_000_305
    wrapped = bench_card(card_type=23, balance_raw=0)
    purchase(wrapped, Psam(mode="bench"), 1)
    assert wrapped.balance_raw == 0xFFFFFFFF


def test_counter_at_its_limit():
    card = bench_card(offline_sequence=0xFFFE)
    assert purchase(card, Psam(mode="bench"), 1).ok
    assert sw(card, purse.init_purchase(1, 1, TERMINAL)) == "9402"
    full = bench_card(online_sequence=0xFFFF)
    say(full, commands.verify_pin(bytes.fromhex("888888")))
    assert sw(full, purse.init_load(1, 1, TERMINAL)) == "9402"


def test_key_index_chooses_the_algorithm():
    assert sw(bench_card(version=0x40), purse.init_purchase(0x41, 1, TERMINAL)) == "9403"
    both = bench_card(version=0x50)
    for index, algorithm in ((0x01, Algorithm.DES3), (0x41, Algorithm.SM4)):
        opened = purse.parse_purchase_opened(say(both, purse.init_purchase(index, 1, TERMINAL)).data)
        assert (opened.key_version, opened.algorithm) == (index, algorithm)
        assert purchase(both, Psam(mode="bench"), 1, key_index=index).ok


def test_cache_takes_whole_known_records_inside_a_composite_purchase_only():
    card = bench_card()
    update = purse.update_cache(commands.RECORD_AA, station())
    assert sw(card, update) == "6985"
    say(card, purse.init_purchase(1, 1, TERMINAL, composite=False))
    assert sw(card, update) == "6985"
    say(card, purse.init_purchase(1, 1, TERMINAL))
    assert sw(card, update) == "9000"
    assert sw(card, purse.update_cache(0xC1, b"\xc1\x3d\x00" + bytes(60))) == "9000"
    assert sw(card, replace(update, p1=0x01, p2=0xCB)) == "9000"  # by number, transit scheme
    assert sw(card, replace(update, p1=0x0B, p2=0xCB)) == "6A83"
    assert sw(card, purse.update_cache(0x44, b"\x44\x3a\x00" + bytes(57))) == "6A83"
    assert sw(card, purse.update_cache(commands.RECORD_AA, station()[:-1])) == "6700"
    assert sw(card, purse.update_cache(commands.RECORD_AA, b"\xbb" + station()[1:])) == "6A80"
    assert sw(card, purse.update_cache(commands.RECORD_AA, station(), sfi=0x18)) == "6A82"
    assert sw(card, replace(update, p2=0xCA)) == "6A86"


def test_two_records_are_written_together():
    card, sam = bench_card(), Psam(mode="bench")
    opened = purse.parse_purchase_opened(say(card, purse.init_purchase(1, 1, TERMINAL)).data)
    new_part = b"\xc1\x3d\x00" + b"\x42" * 60
    say(card, purse.update_cache(commands.RECORD_AA, station()))
    say(card, purse.update_cache(0xC1, new_part))
    read_c1 = commands.read_record(commands.SFI_STATIONS, 7, 63)
    assert say(card, read_c1).data != new_part
    say(sam, commands.select_id(psam.PSAM_APPLICATION))
    init = psam.init_sam_for_purchase(opened, amount_fen=1, trade_type=9, time=TIME, inner_number=INNER, region=REGION)
    made = psam.parse_sam_purchase(say(sam, init).data)
    assert say(card, purse.debit(made.terminal_serial, TIME, made.mac1)).ok
    assert (say(card, read_c1).data, card.station) == (new_part, station())


def test_log_keeps_ten_newest_first():
    card, sam = bench_card(offline_sequence=0), Psam(mode="bench")
    for amount in range(1, 13):
        purchase(card, sam, amount)
    assert [log.amount_fen for log in card.transactions] == list(range(12, 2, -1))
    assert say(card, commands.read_record(commands.SFI_TRANSACTIONS, 10, 23)).data[5:9] == (3).to_bytes(4, "big")
    fresh = bench_card()
    assert say(fresh, commands.read_record(commands.SFI_TRANSACTIONS, 1, 23)).data == b"\xff" * 23


# --- load -----------------------------------------------------------------------------------------------------------


def test_load_needs_the_pin_and_the_hosts_mac():
    card = bench_card(balance_raw=0)
    assert sw(card, purse.init_load(1, 100, TERMINAL)) == "6982"
    say(card, commands.verify_pin(bytes.fromhex("888888")))
    assert sw(card, purse.init_load(1, 100, TERMINAL)) == "9000"
    assert sw(card, purse.credit_load(TIME, bytes(4))) == "9302"
    assert sw(card, purse.credit_load(TIME, bytes(4))) == "6985"
    assert card.balance_raw == 0
    assert sw(bench_card(), purse.credit_load(TIME, bytes(4))) == "6985"
    rich = bench_card(balance_raw=0xFFFFFFFF)
    say(rich, commands.verify_pin(bytes.fromhex("888888")))
    assert sw(rich, purse.init_load(1, 1, TERMINAL)) == "9301"


def test_pin_blocks_after_three_and_asking_costs_nothing():
    card = bench_card()
    wrong = commands.verify_pin(bytes.fromhex("000000"))
    assert sw(card, "00200000") == "6700"
    assert [sw(card, wrong) for _ in range(4)] == ["63C2", "63C1", "63C0", "6983"]
    card.reset()
    say(card, commands.select_id(commands.ETC_APPLICATION))
    assert sw(card, commands.verify_pin(bytes.fromhex("888888"))) == "6983"
    assert sw(bench_card(), "0020000103888888") == "6A86"


# --- files ----------------------------------------------------------------------------------------------------------


def test_reading_rules():
    card = bench_card(length=43, version=0x10)
    assert sw(card, "00B0950032") == "6C2B"
    assert sw(card, "00B09500") == "6700"
    assert sw(card, "00B095FF01") == "6B00"
    assert say(card, "00B0950000").data == card.card_file.raw
    assert sw(card, "00B0820004") == "6981"
    assert sw(card, "00B0990010") == "6981"
    assert sw(card, "00B0810004") == "6A82"
    assert sw(card, "00B201CC10") == "6C2B"
    assert sw(card, "00B201CD2B") == "6A86"
    assert sw(card, "00B203CC2B") == "6A83"  # an old card has two records
    assert say(card, "00B202CC00").data[:3] == b"\x44\x3a\x00"
    assert sw(card, "00B201AC2B") == "6981"
    assert sw(card, "00B201F42B") == "6A82"
    card.reset()
    assert sw(card, "00B000002B") == "6986"
    assert sw(card, "00B0950032") == "6A82"
    assert len(say(card, "00B0960037").data) == 55
    assert sw(card, "00A4000002001500") == "6A82"
    say(card, commands.select_name(commands.ETC_AID))
    assert sw(card, "00A40000020015") == "9000"
    assert say(card, "00B0000804").data == card.card_file.raw[8:12]
    assert sw(card, "00A4040003010203") == "6A82"
    assert sw(card, "00A40000013F") == "6700"
    assert sw(card, "00A40200023F00") == "6A86"


def test_writing_rules():
    card = bench_card()
    assert sw(card, "00D6890002AABB") == "9000"
    assert say(card, "00B0890003").data == bytes.fromhex("AABB00")
    assert sw(card, "00D6890001") == "6700"
    assert sw(card, "00D688FF01AA") == "6982"
    assert sw(card, "00D6950001AA") == "6982"
    assert sw(card, "04D6890005AA00000000") == "6982"
    assert sw(card, "04D6950005AA00000000") == "6984"
    say(card, commands.get_challenge(4))
    assert sw(card, "04D6950003000000") == "6700"
    say(card, commands.get_challenge(4))
    assert sw(card, "04D6950005AA00000000") == "6988"
    leaf = external_leaf(Algorithm.DES3)
    say(card, commands.get_challenge(8))
    say(card, commands.external_authenticate(0x01, external_auth(leaf, fixed(8), Algorithm.DES3)))
    assert sw(card, "00D6887F02AABB") == "6B00"
    assert sw(card, "00D6887F01AA") == "9000"
    say(card, commands.select_id(commands.ETC_APPLICATION))
    assert sw(card, "00D6887F01AA") == "6982"


def external_leaf(algorithm: Algorithm) -> bytes:
    return diversify(ROOTS[KeyKind.EXTERNAL_AUTH, algorithm], (REGION, INNER), algorithm)


def test_a_challenge_is_good_for_one_command():
    card = bench_card(version=0x50)
    for algorithm, key in ((Algorithm.DES3, 0x01), (Algorithm.SM4, 0x41)):
        proof = commands.external_authenticate(key, external_auth(external_leaf(algorithm), fixed(8), algorithm))
        say(card, commands.get_challenge(8))
        assert sw(card, proof) == "9000"
        assert sw(card, proof) == "6984"
        say(card, commands.get_challenge(8))
        say(card, purse.get_balance())
        assert sw(card, proof) == "6984"
    say(card, commands.get_challenge(16))
    assert sw(card, proof) == "6984"
    assert sw(card, "0084000005") == "6700"
    assert sw(card, "0084000104") == "6A86"


def test_external_authentication_blocks_after_three():
    card = bench_card()
    wrong = commands.external_authenticate(0x01, bytes(8))
    answers = []
    for _ in range(4):
        say(card, commands.get_challenge(8))
        answers.append(sw(card, wrong))
    assert answers == ["63C2", "63C1", "63C0", "6983"]
    assert sw(card, commands.external_authenticate(0x07, bytes(8))) == "6A88"
    assert sw(bench_card(version=0x40), commands.external_authenticate(0x41, bytes(8))) == "6A88"


def order(card: UserCard, header: str) -> str:
    """A blocking or unblocking command with the right line MAC."""
    head = bytes.fromhex(header)
    leaf = diversify(ROOTS[KeyKind.MAINTENANCE, Algorithm.DES3], (REGION, INNER), Algorithm.DES3)
    challenge = say(card, commands.get_challenge(4)).data
    return sw(card, (head + line_mac(leaf, challenge, head, b"", Algorithm.DES3)).hex())


def test_blocking_and_unblocking():
    card = bench_card()
    init = purse.init_purchase(1, 1, TERMINAL)
    assert sw(card, "841E000004" + "00000000") == "6984"
    assert order(card, "841E000004") == "9000"
    assert sw(card, init) == "6A81"
    assert order(card, "8418000004") == "9000"
    assert sw(card, init) == "9000"
    assert order(card, "841E000104") == "9000"
    assert sw(card, init) == "9303"
    assert order(card, "8418000004") == "9303"
    leaf = diversify(ROOTS[KeyKind.MAINTENANCE, Algorithm.DES3], (REGION, INNER), Algorithm.DES3)
    head, other = bytes.fromhex("841E000005"), bench_card()
    challenge = say(other, commands.get_challenge(4)).data
    assert sw(other, (head + b"\x01" + line_mac(leaf, challenge, head, b"\x01", Algorithm.DES3)).hex()) == "6700"
    assert order(bench_card(), "841E000204") == "6A86"
    assert order(bench_card(), "8418000104") == "6A86"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("", "6700"),
        ("00A4", "6700"),
        ("00A40000053F00", "6700"),
        ("805C000205", "6C04"),
        ("805C010204", "6A86"),
        ("805003020B0100000001019900000001" + "10", "6C0F"),
        ("805004020B0100000001019900000001", "6A86"),
        ("805003020A01000000010199000000", "6700"),
        ("805401000E" + "00" * 14, "6700"),
        ("805402000F" + "00" * 15, "6A86"),
        ("805A010902000108", "6A86"),
        ("805A00090200010A", "6C08"),
        ("00C0000008", "6985"),
        ("80A4000002100100", "6E00"),
        ("80EE0000", "6D00"),
    ],
)
def test_refusals(command, answer):
    assert sw(bench_card(), command) == answer


def test_t0_card_announces_its_answer():
    card = make_card(plate="测A12345", balance_raw=1, t0=True, random=fixed)
    assert sw(card, "00A4000002100100") == "6148"
    assert sw(card, "00C0000008") == "6C48"
    assert len(say(card, "00C0000048").data) == 0x48
    assert sw(card, "00C0000048") == "6985"
    say(card, "00A40000021001")
    say(card, "805C000204")
    assert sw(card, "00C0000048") == "6985"


@given(st.lists(st.binary(max_size=24), max_size=12))
def test_whatever_comes_in_a_card_answers(raw_commands):
    card = bench_card()
    before = (card.balance_raw, card.offline_sequence)
    for raw in raw_commands:
        assert len(card.process(raw)) >= 2
    assert (card.balance_raw, card.offline_sequence) == before


def test_wrong_facts_are_refused():
    with pytest.raises(ValueError, match="network"):
        make_card(plate="测A12345", balance_raw=0, network="0001")
    with pytest.raises(ValueError, match="43"):
        make_card(plate="测A12345", balance_raw=0, station=bytes(40))


# --- PSAM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["production", "Production", " PRODUCTION "])
def test_no_software_psam_in_production(mode):
    with pytest.raises(SoftwarePsamRefusedError):
        Psam(mode=mode)


def purchase_init(**changes) -> str:
    parts = {
        "random": "89ABCDEF",
        "sequence": "0001",
        "amount": "00000BB8",
        "type": "09",
        "time": TIME,
        "key": "01",
        "algorithm": "00",
        "inner": "2301220100000001",
        "region": "B2E2CAD4B2E2CAD4",
    } | changes
    data = "".join(parts.values())
    return f"80700000{len(data) // 2:02X}{data}08"


def bench_psam(**facts) -> Psam:
    sam = Psam(mode="bench", random=fixed, **facts)
    say(sam, commands.select_id(psam.PSAM_APPLICATION))
    return sam


def test_psam_checks_mac2_once():
    sam = bench_psam(terminal_serial=1)
    check = psam.credit_sam_for_purchase(bytes.fromhex("72921F32"))
    assert sw(sam, check) == "6901"
    assert say(sam, purchase_init()).data.hex().upper() == "0000000224C81EA7"
    assert sw(sam, check) == "9000"
    assert sw(sam, check) == "6901"
    say(sam, purchase_init())
    assert sw(sam, check) == "9302"  # another serial, another session key
    assert sw(sam, check) == "6901"


def test_psam_serial_goes_up_with_each_use():
    sam = bench_psam(terminal_serial=10, serial_step=3)
    assert [say(sam, purchase_init()).data[:4].hex() for _ in range(2)] == ["0000000d", "00000010"]
    assert sam.terminal_serial == 16
    assert sw(bench_psam(terminal_serial=0xFFFFFFFF), purchase_init()) == "9402"


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"type": "02"}, "6A80"),
        ({"time": "2024030111301A"}, "6A80"),
        ({"algorithm": "04"}, "9403"),
        ({"key": "41"}, "9403"),
        ({"key": "02", "algorithm": "02"}, "9403"),
        ({"region": "B2E2CAD4"}, "6700"),
    ],
)
def test_psam_refuses(changes, answer):
    assert sw(bench_psam(), purchase_init(**changes)) == answer


def test_psam_without_sm4_and_outside_its_application():
    assert sw(bench_psam(algorithms=frozenset({Algorithm.DES3})), purchase_init(key="41", algorithm="04")) == "9403"
    assert sw(Psam(mode="bench"), purchase_init()) == "6985"
    assert sw(bench_psam(), "80700001" + purchase_init()[8:]) == "6A86"
    assert sw(bench_psam(), "00A4000002DF02") == "6A82"
    assert sw(bench_psam(), "00B095000E") == "6A82"
    with pytest.raises(ValueError, match="network"):
        Psam(mode="bench", network="0001")


def test_psam_one_level_derivation():
    sam = bench_psam()
    answer = say(sam, purchase_init(region="")).data
    leaf = diversify(ROOTS[KeyKind.PURCHASE, Algorithm.DES3], (INNER,), Algorithm.DES3)
    session = session_key(leaf, bytes.fromhex("89ABCDEF"), 1, 1, Algorithm.DES3)
    assert answer[4:] == mac1(session, Trade(3000, 9, TERMINAL), bytes.fromhex(TIME), Algorithm.DES3)


def test_psam_waits_for_authorisation():
    sam = bench_psam(authorisation_needed=True)
    derive = NATIONAL.derive(KeyKind.VEHICLE, Algorithm.DES3, INNER, REGION)
    assert (sw(sam, purchase_init()), sw(sam, derive)) == ("6982", "6985")
    factors = (REGION, bytes.fromhex("0000000000000017"))
    leaf = diversify(ROOTS[KeyKind.EXTERNAL_AUTH, Algorithm.SM4], factors, Algorithm.SM4)
    right = commands.external_authenticate(0x41, external_auth(leaf, fixed(8), Algorithm.SM4))
    assert sw(sam, right) == "6984"
    say(sam, commands.get_challenge(8))
    assert sw(sam, commands.external_authenticate(0x41, bytes(8))) == "63C2"
    say(sam, commands.get_challenge(8))
    assert sw(sam, right) == "9000"
    assert (sw(sam, purchase_init()), sw(sam, derive)) == ("9000", "9000")
    sam.reset()
    say(sam, commands.select_id(psam.PSAM_APPLICATION))
    assert sw(sam, purchase_init()) == "6982"
    for _ in range(3):
        say(sam, commands.get_challenge(8))
        say(sam, commands.external_authenticate(0x41, bytes(8)))
    assert sw(sam, right) == "6983"
    assert sw(sam, commands.external_authenticate(0x01, bytes(8))) == "6A88"


def test_psam_computes_a_tac():
    """The purchase of the worked example, its TAC asked from the PSAM by 801A and 80FA."""
    sam = bench_psam()
    say(sam, NATIONAL.derive(KeyKind.TAC, Algorithm.DES3, INNER, REGION))
    data = bytes(8) + bytes.fromhex("00000BB8090199000000010000000220240301113015") + b"\x80\x00"
    assert say(sam, psam.crypt(psam.Crypt.MAC, data, 4)).data.hex().upper() == "F48A6336"


def test_psam_line_mac_and_vehicle_mac():
    sam = bench_psam()
    header, data = bytes.fromhex("04D6950036"), bytes(50)
    say(sam, NATIONAL.derive(KeyKind.MAINTENANCE, Algorithm.DES3, INNER, REGION))
    padded = bytes.fromhex("A1B2C3D400000000") + header + data + b"\x80"
    leaf = diversify(ROOTS[KeyKind.MAINTENANCE, Algorithm.DES3], (REGION, INNER), Algorithm.DES3)
    assert say(sam, psam.crypt(psam.Crypt.MAC, padded, 4)).data == line_mac(
        leaf, bytes.fromhex("A1B2C3D4"), header, data, Algorithm.DES3
    )
    say(sam, NATIONAL.derive(KeyKind.EXTERNAL_AUTH, Algorithm.SM4, INNER, REGION))
    assert len(say(sam, psam.crypt(psam.Crypt.MAC, bytes(32), 4)).data) == 4
    say(sam, NATIONAL.derive(KeyKind.VEHICLE, Algorithm.DES3, bytes.fromhex("9901230100000001"), REGION))
    vehicle = bytes.fromhex("B2E24131323334350000000000000100")
    mac = psam.crypt(psam.Crypt.VEHICLE_MAC, bytes.fromhex("ED506A24C9AD1D92") + vehicle, 8)
    assert say(sam, mac).data.hex().upper() == "62E6F0765B720338"
    assert sw(sam, psam.crypt(psam.Crypt.VEHICLE_MAC, bytes(8), 8)) == "6700"


@pytest.mark.parametrize(
    ("commands_", "answer"),
    [
        (["80FA800008" + "00" * 8], "6901"),
        (["801A990310" + "00" * 16], "6A86"),
        (["801A590308" + "00" * 8], "6700"),
        (["801A590310" + "00" * 16, "80FA800007" + "00" * 7], "6700"),
        (["801A590310" + "00" * 16, "80FA8000"], "6700"),
        (["801A590310" + "00" * 16, "80FA070008" + "00" * 8], "6A86"),
        (["801A440010" + "00" * 16, "80FA050008" + "00" * 8], "6700"),
        (["801A440010" + "00" * 16, "80FA080010" + "00" * 16], "6A86"),
    ],
)
def test_psam_crypt_refuses(commands_, answer):
    sam = bench_psam()
    assert [sw(sam, command) for command in commands_][-1] == answer


def test_psam_files():
    sam = Psam(mode="bench", long_application_file=True, key_type=4)
    assert psam.decode_issue(say(sam, psam.read_issue()).data).key_type == 4
    assert say(sam, psam.read_terminal()).data == sam.terminal == TERMINAL
    say(sam, commands.select_id(psam.PSAM_APPLICATION))
    assert psam.decode_application(say(sam, psam.read_application(27)).data).sm4_key_index == 0x40


# --- OBU ------------------------------------------------------------------------------------------------------------


def test_status_of_each_device():
    good = make_obu(plate="测A12345", random=fixed)
    assert good.status(card_present=True) == bytes.fromhex("2001")
    assert good.status(card_present=False) == bytes.fromhex("A001")
    assert good.status(card_present=True, card_error=True) == bytes.fromhex("2801")
    torn = make_obu(plate="测A12345", tampered=True, battery_low=True, locked=True)
    assert torn.status(card_present=True) == bytes.fromhex("2700")
    assert torn.esam.system_info.mount_flag == 0
    only_bit = make_obu(plate="测A12345", tampered=True, mount_flag=1)
    assert only_bit.status(card_present=True) == bytes.fromhex("2201")
    assert decode_obu_status(only_bit.status(card_present=True)).tampered
    one_piece = make_obu(plate="测A12345", device_type=DeviceType.ONE_PIECE)
    assert one_piece.esam.system_info.is_one_piece
    assert one_piece.status(card_present=False) == bytes.fromhex("0001")
    cpc = make_obu(device_type=DeviceType.CPC_CARD, battery_low=True)
    assert cpc.status(card_present=False) == bytes.fromhex("8001")


def test_esam_files():
    esam = make_obu(plate="测A12345", ef04=True, random=fixed).esam
    assert len(say(esam, "00B0810000").data) == 99
    assert sw(esam, "00B0820010") == "6A82"
    assert sw(esam, "00B0000010") == "9000"  # the system file became the current one
    assert sw(esam, "00D6810001AA") == "6982"
    say(esam, commands.select_id(obu_commands.OBU_APPLICATION))
    assert sw(esam, "00B0000010") == "6986"
    assert sw(esam, "00B0810010") == "6982"  # in clear
    assert sw(esam, commands.select_id(obu_commands.EF_ROUTE)) == "9000"
    route = commands.read_current(obu_commands.ROUTE_OFFSET, obu_commands.ROUTE_BYTES)
    assert say(esam, route).data == bytes(91)
    assert sw(esam, "00D6013A02AABB") == "9000"
    assert say(esam, route).data[:3] == bytes.fromhex("AABB00")
    assert esam.content(ROUTE_FILE)[0x13A] == 0xAA
    assert sw(esam, "04D6840005AA00000000") == "6981"
    assert sw(esam, "00A4000002EF05") == "6A82"
    assert sw(esam, "00A4000002DF02") == "6A82"
    assert sw(esam, "00A4040002DF01") == "6A86"
    assert sw(esam, "00A4000001DF") == "6700"
    assert sw(esam, "80F6000404") == "6A86"
    assert sw(make_obu(plate="测A12345").esam, "00A4000002EF04") == "6A82"


def test_encrypted_read_rules():
    esam = make_obu(plate="测A12345", random=fixed).esam
    read = obu_commands.read_vehicle(bytes(8), 59, Algorithm.DES3)
    assert sw(esam, read) == "6985"
    say(esam, commands.select_id(obu_commands.OBU_APPLICATION))
    cipher = say(esam, read).data
    leaf = LeafKeys((REGION, bytes.fromhex("9901230100000001")))[KeyKind.VEHICLE, Algorithm.DES3]
    assert open_vehicle(leaf, cipher, Algorithm.DES3).data[:8] == "测A12345".encode("gbk")[:8]
    assert sw(esam, obu_commands.read_vehicle(bytes(8), 59, Algorithm.SM4)) == "6A88"
    assert sw(esam, obu_commands.read_vehicle(bytes(8), 80, Algorithm.DES3)) == "6700"
    assert sw(esam, obu_commands.read_vehicle(bytes(8), 0, Algorithm.DES3)) == "6700"
    assert sw(esam, replace(read, p2=1)) == "6A86"
    esam.reset()
    assert sw(esam, read) == "6985"


def test_mount_flag_is_written_with_a_mac_only():
    obu = make_obu(plate="测A12345", tampered=True, random=fixed)
    bare = obu_commands.set_mount_flag(1)
    assert sw(obu.esam, commands.with_mac(bare, bytes(4))) == "6984"
    say(obu.esam, commands.get_challenge(4))
    assert sw(obu.esam, commands.with_mac(bare, bytes(4))) == "6988"
    assert obu.esam.system_info.mount_flag == 0


def test_wrong_obu_facts_are_refused():
    with pytest.raises(ValueError, match="network"):
        make_obu(plate="测A12345", network="0001")
    with pytest.raises(ValueError, match="4 bytes"):
        make_obu(plate="测A12345", obu_id="0102")


@given(st.lists(st.binary(max_size=24), max_size=12))
def test_whatever_comes_in_a_psam_and_an_esam_answer(raw_commands):
    sam, esam = bench_psam(), make_obu(plate="测A12345", random=fixed).esam
    for raw in raw_commands:
        assert len(sam.process(raw)) >= 2
        assert len(esam.process(raw)) >= 2
