"""Builders give the hand-packed bytes; answers read back into values."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocols.bank.codec import Message, decode, encode
from protocols.bank.responses import CUPS_POS, ISO_1987, RESPONSE_TABLES, ResponseClass, response_code
from protocols.bank.transactions import (
    Profile,
    advice,
    answer_mti,
    answer_mtis,
    echo,
    parse_answer,
    response_to,
    reversal,
    sale,
    sign_in,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

LINES = (Path(__file__).parents[2] / "vectors" / "iso8583.jsonl").read_text(encoding="utf-8").splitlines()
VECTORS = {vector["id"]: bytes.fromhex(vector["hex"]) for vector in map(json.loads, LINES)}
PROFILE = Profile(terminal="B2E20001", merchant="990100000000001")
AT = datetime(2025, 7, 12, 1, 30, 15, tzinfo=UTC)  # 09:30:15 in Beijing
SALE = {"stan": 101, "batch": "000007", "amount_fen": 1250, "contract": "9901230000000017", "at": AT}


def test_requests_are_the_hand_packed_bytes():
    first = sale(PROFILE, **SALE)
    assert encode(sign_in(PROFILE, stan=1, batch="000007")) == VECTORS["hand-0800-sign-in"]
    assert encode(echo(PROFILE, stan=2, batch="000007")) == VECTORS["hand-0820-echo"]
    assert encode(first) == VECTORS["hand-0200-sale"]
    assert encode(reversal(PROFILE, first)) == VECTORS["hand-0400-reversal"]
    told = advice(
        PROFILE,
        stan=103,
        batch="000007",
        amount_fen=3000,
        contract="9901230000000025",
        at=datetime(2025, 7, 12, 2, 15, tzinfo=UTC),
    )
    assert encode(told) == VECTORS["hand-0220-advice"]


def test_a_stored_sale_is_undone_by_the_same_bytes():
    assert encode(reversal(PROFILE, decode(VECTORS["hand-0200-sale"]))) == VECTORS["hand-0400-reversal"]


def test_no_card_data_leaves():
    assert not {2, 14, 35, 36, 52, 55} & set(sale(PROFILE, **SALE).fields)


def test_local_date_is_the_banks():
    late = sale(PROFILE, **{**SALE, "at": datetime(2025, 12, 31, 16, 0, 1, tzinfo=UTC)})
    assert (late.text(12), late.text(13)) == ("000001", "0101")


def test_contract_elsewhere_and_other_terminal():
    profile = Profile(terminal="B2E20002", merchant="990100000000001", contract_field=57)
    message = sale(profile.at_terminal("B2E20003"), **{**SALE, "contract": "测试-17"})
    assert message.text(57) == "测试-17"
    assert message.text(41) == "B2E20003"
    assert decode(encode(message, profile.dialect), profile.dialect) == message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stan": 0}, "stan"),
        ({"stan": 1_000_000}, "stan"),
        ({"batch": "7"}, "batch"),
        ({"batch": "00000x"}, "batch"),
        ({"amount_fen": 0}, "amount_fen"),
        ({"amount_fen": 1_000_000_000_000}, "amount_fen"),
        ({"contract": ""}, "contract"),
        ({"at": datetime(2025, 7, 12)}, "F12"),  # noqa: DTZ001 - a naive time is the point
    ],
)
def test_wrong_values_are_our_error(change, field):
    with pytest.raises(LocalProtocolError) as caught:
        sale(PROFILE, **{**SALE, **change})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"terminal": "1"}, "terminal"),
        ({"merchant": "1"}, "merchant"),
        ({"tpdu": b"\x60"}, "tpdu"),
        ({"tpdu": bytes(5)}, "tpdu"),
        ({"header": b"\x60"}, "header"),
        ({"contract_field": 2}, "contract_field"),
    ],
)
def test_wrong_profiles_are_refused(change, field):
    with pytest.raises(LocalProtocolError) as caught:
        Profile(**{"terminal": "B2E20001", "merchant": "990100000000001", **change})
    assert caught.value.field == field


def test_answers_read():
    approved = parse_answer(decode(VECTORS["hand-0210-approved"]), CUPS_POS)
    assert approved.mti == "0210"
    assert approved.stan == 101
    assert approved.terminal == "B2E20001"
    assert approved.reference == "990107120001"
    assert approved.settlement_date == "0712"
    assert approved.batch == "000007"
    assert approved.response.response_class is ResponseClass.APPROVED

    bare = parse_answer(decode(VECTORS["hand-0210-no-terminal"]), CUPS_POS)
    assert bare.terminal is None
    assert bare.batch is None
    assert bare.response.response_class is ResponseClass.DECLINED_FOR_NOW

    texted = parse_answer(decode(VECTORS["hand-0210-text"]), CUPS_POS)
    assert texted.text == "成功"
    assert parse_answer(Message("0210", {11: "000001", 39: "00", 60: "22", 63: " "}), CUPS_POS).text is None


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message("0210", {39: "00"}), "F11"),
        (Message("0210", {11: "000001"}), "F39"),
        (Message("0200", {11: "000001", 39: "00"}), "MTI"),
    ],
)
def test_unusable_answers(message, field):
    with pytest.raises(RemoteProtocolError) as caught:
        parse_answer(message, CUPS_POS)
    assert caught.value.field == field


def test_answer_types():
    assert [answer_mti(mti) for mti in ("0200", "0221", "0400", "0401", "0800", "0820")] == [
        "0210",
        "0230",
        "0410",
        "0410",
        "0810",
        "0830",
    ]
    assert answer_mtis("0200") == {"0210"}
    assert answer_mtis("0400") == {"0410", "0430"}
    assert answer_mtis("0221") == {"0230", "0231"}
    with pytest.raises(LocalProtocolError):
        answer_mti("0210")


def test_the_hosts_side_swaps_addresses():
    request = decode(VECTORS["hand-0820-echo"])
    answer = response_to(
        request,
        "00",
        {11: "000002", 12: "093001", 13: "0712", 41: "B2E20001", 42: "990100000000001", 60: "00000007301"},
    )
    assert encode(answer) == VECTORS["hand-0830-echo"]
    assert response_to(request, "00", {}, tpdu=bytes.fromhex("6011112222")).tpdu.hex() == "6022221111"


@pytest.mark.parametrize(
    ("table", "count", "approving"),
    [
        (CUPS_POS, 56, {"00", "10", "11", "A2", "A4", "A5", "A6"}),
        (ISO_1987, 71, {"00", "08", "10", "11", "16"}),
    ],
    ids=["cups-pos", "iso-8583-1987"],
)
def test_every_code_has_texts_and_few_approve(table, count, approving):
    assert len(table.codes) == count
    for code, meaning in table.codes.items():
        assert meaning.code == code
        assert meaning.english
        assert meaning.chinese
    found = {code for code, meaning in table.codes.items() if meaning.response_class is ResponseClass.APPROVED}
    assert found == approving


RESERVED = [*range(45, 51), *range(69, 75), *range(76, 90), *range(97, 100)]


def test_the_table_of_1987_has_every_code_that_is_not_reserved():
    assert {f"{n:02d}" for n in range(100)} - set(ISO_1987.codes) == {f"{n:02d}" for n in RESERVED}


@pytest.mark.parametrize("code", ["ZZ", "Z9", "77", "  ", ""])
@pytest.mark.parametrize("table", RESPONSE_TABLES.values(), ids=str)
def test_a_code_the_table_does_not_know_is_unknown_never_a_decline(table, code):
    stranger = table.meaning(code)
    assert (stranger.response_class, stranger.in_doubt) == (ResponseClass.UNKNOWN, ResponseClass.UNKNOWN)
    assert response_code(code) == stranger


@pytest.mark.parametrize("code", ["08", "16", "32"])
def test_a_code_of_one_table_is_none_of_another(code):
    assert CUPS_POS.meaning(code).response_class is ResponseClass.UNKNOWN
    assert code in ISO_1987.codes


def test_where_two_tables_call_a_code_a_refusal_they_call_it_the_same():
    """So rules about refusals need not know whose code it is."""
    refusals = {ResponseClass.DECLINED, ResponseClass.DECLINED_FOR_NOW, ResponseClass.MANUAL}
    for code in CUPS_POS.codes.keys() & ISO_1987.codes.keys():
        classes = {table.meaning(code).response_class for table in RESPONSE_TABLES.values()}
        assert len(classes & refusals) <= 1, code
        assert (ResponseClass.APPROVED in classes) <= (len(classes) == 1), code


@pytest.mark.parametrize(
    ("code", "response_class", "unknown"),
    [
        ("51", "L", False),
        ("55", "D", False),
        ("96", "U", True),
        ("A0", "K", True),
        ("91", "L", True),
        ("03", "M", False),
        ("94", "U", True),
    ],
)
def test_classes(code, response_class, unknown):
    meaning = response_code(code)
    assert meaning.response_class is ResponseClass(response_class)
    assert (ResponseClass.UNKNOWN in {meaning.response_class, meaning.in_doubt}) is unknown
