"""`etcgw pump decode`: messages of pumps taken apart, whole and damaged, in both languages."""

import pytest

SALE = "503403040007850102080000254700019994010105 4EB403FA".replace(" ", "")
FIELDS = ("ADR", "CTRL", "DC3", "DC2", "DC1", "CRC", "ETX", "SF")


def test_a_sale_is_told_field_by_field(run, ask):
    shown = run("pump", "decode", SALE).stdout
    assert all(name in shown for name in FIELDS)
    assert "2547" in shown
    found = ask("pump", "decode", SALE)
    assert found["ok"]
    assert [field["name"] for field in found["frames"][0]["fields"]] == list(FIELDS)


def test_chinese_is_chinese(run):
    shown = run("pump", "decode", SALE, "--lang", "zh").stdout
    assert "加油完毕" in shown
    assert "油枪与单价" in shown


def test_pieces_pasted_with_blanks_are_one_message(run):
    pieces = [SALE[at : at + 2] for at in range(0, len(SALE), 2)]
    assert run("pump", "decode", *pieces).stdout == run("pump", "decode", SALE).stdout


def test_who_said_it_is_told_apart(run):
    price = "5030050300078 55A2203FA".replace(" ", "")
    assert "CD5" in run("pump", "decode", "--from", "controller", price).stdout
    run("pump", "decode", "--from", "pump", price, code=5)


@pytest.mark.parametrize(
    ("dialect", "text", "code"),
    [
        ("gilbarco-two-wire", "FFE9FEE0E1E0FBEEF0", 0),
        ("lanfeng", f"0100B8{'00' * 8}48", 0),
        ("ifsf", "0201010100800001", 5),
    ],
)
def test_other_dialects_are_described_whole_or_damaged(run, dialect, text, code):
    assert run("pump", "decode", "--dialect", dialect, "--from", "controller", text, code=code).stdout


def test_a_damaged_message_is_5_and_a_wrong_one_is_2(run, ask):
    assert ask("pump", "decode", SALE[:-2], code=5)["error"]["code"] == "frame_damaged"
    run("pump", "decode", "xyz", code=2)
    run("pump", "decode", "--dialect", "dart-2", SALE, code=2)
