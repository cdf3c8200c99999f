"""`etcgw card read`: a card for people and for programs, masked and whole, from a reader and from a dump."""

import json

import pytest

from drivers.errors import DeviceUnavailable
from protocols.card import commands
from tests.gateway.cards.odd_cards import (
    NUMBER,
    PLATE,
    Refusing,
    Strange,
    reads_record,
    transit_card,
    user_card,
    with_file,
)


def test_what_a_technician_reads_first_stands_first(run, desk):
    desk(user_card())
    told = run("card", "read").stdout
    labels = ["Card:", "Issuer:", "Number:", "Plate:", "Card type:", "Valid:", "Balance:", "Entry:", "Files"]
    assert sorted(labels, key=told.index) == labels
    assert "500.00 CNY" in told
    assert "99010105 lane 1, 2024-03-01 11:30:15" in told


def test_numbers_and_plates_are_hidden_unless_asked_for(run, desk):
    desk(user_card())
    for arguments in ((), ("--json",), ("--holder",)):
        told = run("card", "read", *arguments).stdout
        assert PLATE not in told
        assert NUMBER[4:] not in told
        assert PLATE.encode("gbk").hex().upper() not in told
    told = run("card", "read", "--unmask").stdout
    assert PLATE in told
    assert NUMBER in told


def test_every_field_is_described_in_both_languages(run, ask, desk):
    desk(user_card())
    found = ask("card", "read")
    fields = {file["file"]: [field["name"] for field in file["fields"]] for file in found["files"]}
    assert {"issuer", "expires", "plate"} <= set(fields["0015"])
    assert {"station", "lane", "status"} <= set(fields["0019/1"])
    assert {"amount_fen", "terminal"} <= set(fields["0018/1"])
    chinese = run("card", "read", "--lang", "zh").stdout
    assert "卡内部编号" in chinese
    assert "ETC用户卡" in chinese
    assert "entry" not in chinese


@pytest.mark.parametrize(
    ("chip", "kind"),
    [
        (user_card(), "etc"),
        (transit_card(), "purse"),
        (Strange(payments=True), "blank"),
        (Strange(payments=False), "other"),
        (with_file(user_card(), commands.SFI_CARD_FILE, lambda data: data[:20]), "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_card_of_any_kind_gives_a_report(run, ask, desk, chip, kind):
    desk(chip)
    assert ask("card", "read")["kind"] == kind
    assert run("card", "read").stdout


def test_unreadable_file_is_told_with_its_status_word(run, desk):
    desk(Refusing(user_card(), reads_record(commands.SFI_STATIONS), 0x6581))
    assert "6581 memory failure" in run("card", "read").stdout
    assert "6581 写EEPROM失败" in run("card", "read", "--lang", "zh").stdout


def test_holder_is_read_only_when_asked_for(ask, desk):
    desk(user_card())
    assert ask("card", "read")["holder"] is None
    assert ask("card", "read", "--holder")["holder"]["document_type"] == 0


def test_a_dump_is_the_card(ask, dump):
    file = dump(user_card(balance_raw=123))
    assert ask("card", "read", "--from", file, "--unmask") == json.loads(file.read_text("utf-8"))


def test_what_is_no_dump_is_refused(ask, desk, tmp_path):
    desk(user_card())
    file = tmp_path / "x.json"
    for text in ("no json", "[]", "{}", '{"files": [1]}', json.dumps(ask("card", "read"))):
        file.write_text(text, encoding="utf-8")
        assert ask("card", "read", "--from", file, code=1)["error"]["code"] == "dump_wrong"


def absent(*_):
    raise DeviceUnavailable("no reader", device="desk")


def test_no_reader_is_exit_3(run, monkeypatch):
    monkeypatch.setattr("gateway.cli.card_reader.slot_of", absent)
    run("card", "read", code=3)
