"""APDUs, purse and PSAM commands against the commands and answers of card-apdus.jsonl."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card import commands, psam, purse
from protocols.card.apdu import STATUS_WORDS, Command, Response, status_text
from protocols.card.codes import TradeType
from protocols.card.psam_profiles import NATIONAL, ONE_LEVEL
from protocols.crypto import Algorithm, line_mac
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.obu import commands as obu_commands

VECTORS = {
    vector["id"]: vector
    for vector in map(
        json.loads,
        (Path(__file__).parents[2] / "vectors" / "card-apdus.jsonl").read_text("utf-8").splitlines(),
    )
}
COMMANDS = [pytest.param(bytes.fromhex(v["command_hex"]), id=i) for i, v in VECTORS.items() if v["command_hex"]]
RESPONSES = [
    pytest.param(bytes.fromhex(v["response_hex"]), v["decoded"], id=i)
    for i, v in VECTORS.items()
    if v["response_hex"] and v["kind"] == "apdu"
]

EXIT = "cmp-user-3des-exit-s{:02d}"
TERMINAL = bytes.fromhex("019900000001")
TIME = "20240301113015"
REGION = bytes.fromhex("B2E2CAD4B2E2CAD4")
INNER = bytes.fromhex("2301220100000001")


def command(vector_id: str) -> bytes:
    return bytes.fromhex(VECTORS[vector_id]["command_hex"])


def answer(vector_id: str) -> bytes:
    return Response.decode(bytes.fromhex(VECTORS[vector_id]["response_hex"])).data


@pytest.mark.parametrize("raw", COMMANDS)
def test_command_vector_decodes_and_encodes_again(raw):
    assert Command.decode(raw).encode() == raw


@pytest.mark.parametrize(("raw", "decoded"), RESPONSES)
def test_response_vector_decodes_and_encodes_again(raw, decoded):
    response = Response.decode(raw)
    assert response.encode() == raw
    if "sw" in decoded:
        assert response.sw == int(decoded["sw"], 16)
    assert response.ok == raw.endswith(b"\x90\x00")
    assert status_text(response.sw).en


@pytest.mark.parametrize("raw", ["", "00A400", "00A400000000", "00A40000033F00", "00A40000023F000000"])
def test_a_command_whose_lc_does_not_fit_is_refused(raw):
    with pytest.raises(RemoteProtocolError):
        Command.decode(bytes.fromhex(raw))


@pytest.mark.parametrize("raw", [b"", b"\x90"])
def test_no_status_word_is_no_response(raw):
    with pytest.raises(RemoteProtocolError, match="status word"):
        Response.decode(raw)


@pytest.mark.parametrize("bad", [{"data": bytes(256)}, {"le": 0}, {"le": 257}, {"p1": 256}, {"cla": -1}])
def test_a_command_that_cannot_be_said_is_refused(bad):
    with pytest.raises(LocalProtocolError):
        replace(Command(0, 0xA4, 0, 0), **bad).encode()


@given(
    st.builds(
        Command,
        *[st.integers(0, 255)] * 4,
        st.binary(max_size=255),
        st.none() | st.integers(1, 256),
    )
)
def test_any_command_survives_the_wire(built):
    assert Command.decode(built.encode()) == built


def test_status_words_have_both_languages():
    for label in STATUS_WORDS.values():
        assert label.en.isascii()
        assert not label.zh.isascii()
    assert status_text(0x6108).en == "8 bytes waiting for GET RESPONSE"
    assert status_text(0x6C32).en == "repeat with Le 50"
    assert status_text(0x63C2).en == "authentication failed, 2 tries left"
    assert status_text(0x1234).en == "unknown status word 1234"
    assert status_text(0x9302).zh == "MAC无效"


# --- builders reproduce the sessions' commands ----------------------------------------------------------------------


def test_general_commands_match_the_sessions():
    assert commands.select_id(commands.MF).encode() == command(EXIT.format(1))
    assert commands.select_id(commands.ETC_APPLICATION).encode() == command(EXIT.format(2))
    assert commands.select_name(commands.ETC_AID).encode() == command("pub-tr-01")
    assert commands.read_binary(commands.SFI_CARD_FILE, 50).encode() == command(EXIT.format(3))
    assert commands.read_record(commands.SFI_STATIONS, 1, 43).encode() == command(EXIT.format(4))
    assert commands.read_record(commands.SFI_TRANSACTIONS, 1, 23).encode() == command(EXIT.format(18))
    assert commands.read_current(0x013A, 0x5B).encode() == command("pub-wj-06")
    assert commands.get_response(8).encode() == command("pub-sam-01")
    assert commands.get_challenge(4).encode() == command("cmp-issue-3des-0015-s01")
    assert commands.verify_pin(bytes.fromhex("888888")).encode() == command("cmp-load-3des-s01")
    proof = bytes.fromhex("B00D6C46C77965E8")
    assert commands.external_authenticate(0x01, proof).encode() == command("cmp-extauth-3des-s04")


def test_protected_update_matches_the_session():
    raw = command("cmp-issue-3des-0015-s02")
    bare = commands.update_protected(commands.SFI_CARD_FILE, 0, raw[5:-4])
    damk = bytes.fromhex("A2E8D4DA509C8D8EF3E94299FE047619")
    assert commands.protected_header(bare) == raw[:5]
    mac = line_mac(damk, answer("cmp-issue-3des-0015-s01"), commands.protected_header(bare), bare.data, Algorithm.DES3)
    assert commands.with_mac(bare, mac).encode() == raw


def test_purchase_commands_match_the_session():
    assert purse.get_balance().encode() == command(EXIT.format(5))
    assert purse.init_purchase(0x01, 3000, TERMINAL).encode() == command(EXIT.format(11))
    plain = purse.init_purchase(0x01, 1000, bytes.fromhex("000000000509"), composite=False)
    assert plain.encode() == command("cmp-user-3des-plain-s03")
    record = command(EXIT.format(12))[5:]
    assert purse.update_cache(commands.RECORD_AA, record).encode() == command(EXIT.format(12))
    debit = purse.debit(2, TIME, bytes.fromhex("24C81EA7"))
    assert debit.encode() == command(EXIT.format(14))
    assert purse.transaction_prove(2).encode() == command(EXIT.format(17))
    assert purse.transaction_prove(0x043A).encode()[:-1] == command("pub-wj-04")


def test_purchase_answers_match_the_session():
    assert purse.parse_balance(answer(EXIT.format(5))) == 50000
    opened = purse.parse_purchase_opened(answer(EXIT.format(11)))
    assert opened.balance_raw == 50000
    assert (opened.offline_sequence, opened.proof_sequence, opened.overdraft_fen) == (1, 2, 0)
    assert (opened.key_version, opened.algorithm) == (0x01, Algorithm.DES3)
    assert opened.card_random == bytes.fromhex("89ABCDEF")
    assert opened.encode() == answer(EXIT.format(11))
    proof = purse.parse_debit(answer(EXIT.format(14)))
    assert (proof.tac, proof.mac2) == (bytes.fromhex("F48A6336"), bytes.fromhex("72921F32"))
    assert purse.parse_transaction_prove(answer(EXIT.format(17))) == proof


def test_a_real_transit_purchase_answer_parses():
    opened = purse.parse_purchase_opened(answer("pub-nfa-06"))
    assert (opened.balance_raw, opened.offline_sequence, opened.overdraft_fen) == (90799, 0x36, 800)
    assert purse.parse_debit(answer("pub-nfa-09")).tac == bytes.fromhex("C630C2C8")


@pytest.mark.parametrize(("name", "index", "algorithm"), [("3des", 1, Algorithm.DES3), ("sm4", 0x41, Algorithm.SM4)])
def test_load_commands_and_answers_match_the_session(name, index, algorithm):
    decoded = VECTORS[f"cmp-load-{name}-s02"]["decoded"]
    assert purse.init_load(index, 10000, TERMINAL).encode() == command(f"cmp-load-{name}-s02")
    opened = purse.parse_load_opened(answer(f"cmp-load-{name}-s02"))
    assert (opened.old_balance, opened.online_sequence, opened.algorithm) == (0, 0, algorithm)
    assert opened.mac1 == bytes.fromhex(decoded["mac1"])
    assert opened.encode() == answer(f"cmp-load-{name}-s02")
    credit = VECTORS[f"cmp-load-{name}-s03"]["decoded"]
    built = purse.credit_load(credit["datetime"], bytes.fromhex(credit["mac2"]))
    assert built.encode() == command(f"cmp-load-{name}-s03")
    assert purse.parse_credit_load(answer(f"cmp-load-{name}-s03")) == bytes.fromhex(credit["tac"])


@pytest.mark.parametrize(
    "parse",
    [
        purse.parse_balance,
        purse.parse_purchase_opened,
        purse.parse_debit,
        purse.parse_transaction_prove,
        purse.parse_load_opened,
        purse.parse_credit_load,
        psam.parse_sam_purchase,
        psam.decode_terminal,
        psam.decode_issue,
        psam.decode_application,
    ],
)
@pytest.mark.parametrize("length", [0, 1, 255])
def test_an_answer_of_another_length_is_refused(parse, length):
    with pytest.raises(RemoteProtocolError, match="wanted"):
        parse(bytes(length))


def test_an_unknown_algorithm_is_refused():
    raw = bytearray(answer(EXIT.format(11)))
    raw[10] = 0x02
    with pytest.raises(RemoteProtocolError, match="algorithm"):
        purse.parse_purchase_opened(bytes(raw))


@pytest.mark.parametrize(("raw", "signed"), [(50000, 50000), (0x7FFFFFFF, 0x7FFFFFFF), (0xFA0A1E33, -100_000_205)])
def test_charge_card_counter_is_signed(raw, signed):
    assert purse.signed_balance(raw) == signed


@pytest.mark.parametrize(
    "build",
    [
        lambda: purse.init_purchase(1, -1, TERMINAL),
        lambda: purse.init_purchase(1, 1 << 32, TERMINAL),
        lambda: purse.init_purchase(1, 1, bytes(5)),
        lambda: purse.debit(1 << 32, TIME, bytes(4)),
        lambda: purse.debit(1, "2024", bytes(4)),
        lambda: purse.debit(1, TIME, bytes(3)),
        lambda: purse.transaction_prove(1 << 16),
        lambda: commands.external_authenticate(1, bytes(4)),
        lambda: commands.with_mac(Command(4, 0xD6, 0x95, 0), bytes(8)),
        lambda: psam.credit_sam_for_purchase(bytes(8)),
        lambda: NATIONAL.derive(psam.KeyKind.LOAD, Algorithm.DES3, INNER, REGION),
        lambda: NATIONAL.derive(psam.KeyKind.VEHICLE, Algorithm.DES3, INNER, bytes(4)),
        lambda: obu_commands.read_vehicle(bytes(4), 59, Algorithm.DES3),
    ],
)
def test_nonsense_is_not_put_on_the_wire(build):
    with pytest.raises(LocalProtocolError):
        build()


# --- PSAM -----------------------------------------------------------------------------------------------------------


def test_psam_commands_match_the_sessions():
    assert psam.read_issue().encode() == command(EXIT.format(7))
    assert psam.read_terminal().encode() == command(EXIT.format(8))
    assert commands.select_id(psam.PSAM_APPLICATION).encode() == command(EXIT.format(9))
    assert psam.read_application().encode() == command(EXIT.format(10))
    opened = purse.parse_purchase_opened(answer(EXIT.format(11)))
    facts = {"amount_fen": 3000, "trade_type": TradeType.COMPOSITE, "time": TIME, "inner_number": INNER}
    built = psam.init_sam_for_purchase(opened, **facts, region=REGION)
    assert built.encode() == command(EXIT.format(13))
    one_level = psam.init_sam_for_purchase(opened, **facts, region=None)
    assert (len(one_level.data), one_level.data) == (0x1C, built.data[:0x1C])
    made = psam.parse_sam_purchase(answer(EXIT.format(13)))
    assert (made.terminal_serial, made.mac1) == (2, bytes.fromhex("24C81EA7"))
    assert psam.credit_sam_for_purchase(bytes.fromhex("72921F32")).encode() == command(EXIT.format(15))


def test_psam_key_usage_commands_match_the_vectors():
    tac = NATIONAL.derive(
        psam.KeyKind.TAC, Algorithm.DES3, bytes.fromhex("2016122100001003"), bytes.fromhex("0792800000000145")
    )
    assert tac.encode() == command("pub-ps-01")
    auth = NATIONAL.derive(psam.KeyKind.EXTERNAL_AUTH, Algorithm.DES3, INNER, REGION)
    assert auth.encode() == command("cmp-extauth-3des-s02")
    for name, serial, algorithm in (
        ("3des-car", "9901230100000001", Algorithm.DES3),
        ("sm4-car79", "9901230100000003", Algorithm.SM4),
    ):
        derive = NATIONAL.derive(psam.KeyKind.VEHICLE, algorithm, bytes.fromhex(serial), REGION)
        assert derive.encode() == command(f"cmp-obu-{name}-s06")
        cipher = answer(f"cmp-obu-{name}-s05")
        crypt = psam.crypt(psam.Crypt.DECRYPT, cipher, len(cipher))
        assert crypt.encode()[:-1] == command(f"cmp-obu-{name}-s07")
    one_level = ONE_LEVEL.derive(psam.KeyKind.MAINTENANCE, Algorithm.DES3, INNER, REGION)
    assert (one_level.p1, one_level.p2, one_level.data) == (0x26, 0x01, INNER)
    chosen = NATIONAL.derive(psam.KeyKind.MAINTENANCE, Algorithm.DES3, INNER, REGION, p2=0x02)
    assert (chosen.p1, chosen.p2) == (0x46, 0x02)


def test_usage_table_agrees_with_its_own_level_bits():
    assert all(p1 >> 5 == usage.levels for (p1, _), usage in NATIONAL.usages.items())


def test_psam_files():
    issue = psam.decode_issue(answer(EXIT.format(7)))
    assert issue.serial == bytes.fromhex("99010000000000000017")
    assert (issue.version, issue.key_type, issue.encode()) == (1, 0, answer(EXIT.format(7)))
    assert psam.decode_terminal(answer(EXIT.format(8))) == TERMINAL
    short = psam.decode_application(answer(EXIT.format(10)))
    assert (short.key_index, short.area, short.sm4_key_index) == (1, REGION, None)
    assert (short.starts, short.expires) == (date(2024, 1, 1), date(2034, 1, 1))
    assert short.encode() == answer(EXIT.format(10))
    long = psam.decode_application(answer(EXIT.format(10)) + b"\x00\x40")
    assert long.sm4_key_index == 0x40
    assert replace(long, sm4_key_index=0x41).encode() == answer(EXIT.format(10)) + b"\x00\x41"


APPLICATION_FILES = st.sampled_from([25, 27]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@given(st.binary(min_size=14, max_size=14), APPLICATION_FILES)
def test_any_psam_file_of_its_length_reads_and_encodes_again(issue, application):
    assert psam.decode_issue(issue).encode() == issue
    assert psam.decode_application(application).encode() == application
    assert psam.authorisation_factors(psam.decode_issue(issue), psam.decode_application(application))


@given(st.binary(max_size=20))
def test_any_answer_of_a_purse_is_read_or_refused(answer):
    for parse in (purse.parse_purchase_opened, purse.parse_load_opened, psam.parse_sam_purchase, purse.parse_debit):
        with suppress(RemoteProtocolError):
            parse(answer)


def test_psam_descriptions():
    assert sum(line.length for line in psam.describe_issue(answer(EXIT.format(7)))) == 14
    assert sum(line.length for line in psam.describe_application(answer(EXIT.format(10)))) == 25
    assert psam.describe_application(b"\x01")[0].meaning == "1 bytes, 25 wanted"
    assert psam.describe_issue(b"\x01")[0].meaning == "1 bytes, 14 wanted"
