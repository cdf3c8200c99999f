"""`etcbench lab`: values of the vectors recomputed, a purchase step by step, cards made anew, in both languages."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hardware.bench import cli
from tests.hardware.test_card_emulator_sessions import SESSIONS

CARDS = Path(__file__).parents[2] / "hardware" / "sites" / "cards"
USERS, PSAMS, TAGS, OTHERS = (CARDS / f"{name}.toml" for name in ("user-cards", "psams", "tags", "other-cards"))
SALE = ["--amount-fen", 3000, "--terminal", "019900000001", "--serial", 2, "--time", "20240301113015"]
CARD = ["--card-number", "99012301220100000001"]
OPENED = ["--random", "89ABCDEF", "--sequence", 1]


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def lab(*arguments, code=0):
    result = CliRunner().invoke(cli.app, ["lab", *map(str, arguments)], prog_name=cli.PROGRAM)
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result


def lab_json(*arguments, code=0):
    return json.loads(lab(*arguments, "--json", code=code).stdout)


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (["tac", *SALE, *CARD], "F48A6336"),
        (["tac", *SALE, *CARD, "--algorithm", "sm4"], "6BC931FD"),
        (["mac1", *SALE, *CARD, *OPENED], "24C81EA7"),
        (["mac2", *SALE, *CARD, *OPENED], "72921F32"),
    ],
)
def test_values_of_the_published_session_are_recomputed(command, value):
    found = lab_json(*command)
    assert (found["value"], found["given"], found["same"]) == (value, None, None)
    assert found["card_number"] == "***0001"
    assert lab_json(*command, "--given", value.lower())["same"] is True
    other = lab_json(*command, "--given", "00000000", code=1)
    assert (other["given"], other["same"]) == ("00000000", False)


def test_every_fact_enters_the_tac():
    changes = {
        "--amount-fen": 3001,
        "--terminal": "019900000002",
        "--serial": 3,
        "--time": "20240301113016",
    }
    values = {lab_json("tac", *SALE, *CARD)["value"]}
    for option, value in changes.items():
        sale = list(SALE)
        sale[sale.index(option) + 1] = value
        values.add(lab_json("tac", *sale, *CARD)["value"])
    values.add(lab_json("tac", *SALE, "--card-number", "2301220100000002")["value"])
    values.add(lab_json("tac", *SALE, *CARD, "--region", "湖南")["value"])
    values.add(lab_json("tac", *SALE, *CARD, "--type", "purchase")["value"])
    assert len(values) == 8


def test_a_value_is_told_to_people_with_its_verdict():
    told = lab("tac", *SALE, *CARD, "--given", "F48A6337", code=1).stdout
    assert re.search(r"TAC: +F48A6336\n", told)
    assert re.search(r"Verdict: +different\n", told)
    assert "2301220100000001" not in told
    assert "2301220100000001" in lab("tac", *SALE, *CARD, "--unmask").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tac", *SALE[:-1], "20240231000000", *CARD], "is no time"),
        (["tac", *SALE, "--card-number", "1"], "write 16 digits"),
        (["tac", *SALE, *CARD, "--given", "F4"], "write 4 bytes in hexadecimal"),
        (["tac", *SALE, *CARD, "--region", "湖"], "write the two characters"),
        (["mac1", *SALE, *CARD, "--random", "89", "--sequence", 1], "write 4 bytes"),
        (["purchase", USERS, "--card", "nobody"], "no card nobody here: car, car-t0"),
        (["purchase", USERS, USERS], "in another file too"),
    ],
)
def test_what_is_wrong_with_the_options_is_told(arguments, said):
    assert said in " ".join(lab(*arguments, code=2).stderr.replace("│", " ").split())


def test_a_vehicle_file_is_decrypted_and_its_mac_checked():
    ask = next(vector for vector in SESSIONS["obu-3des-car"] if vector["command_hex"].startswith("00B4"))
    answer = ask["response_hex"][:-4]
    options = ["--random", ask["command_hex"][10:26], "--contract", "9901230100000001"]
    found = lab_json("vehicle", "--cipher", answer, *options)
    assert found["mac"] == "right"
    assert {one["name"]: one["value"] for one in found["fields"]}["plate"] == "测A***45"
    assert "测A12345" in lab("vehicle", "--cipher", answer, *options, "--unmask").stdout
    wrong = ["--random", "00" * 8, *options[2:]]
    assert lab_json("vehicle", "--cipher", answer, *wrong, code=1)["mac"] == "wrong"
    other = [*options[:2], "--contract", "9901230100000002"]
    assert "wrong key" in lab("vehicle", "--cipher", answer, *other, code=5).stderr


def test_a_purchase_is_shown_step_by_step_and_recomputed():
    found = lab_json("purchase", USERS, PSAMS, "--psam", "psam", "--time", "20240301113015")
    assert (found["good"], found["debited"], found["refused"]) == (True, True, None)
    assert (found["balance_before"], found["balance_after"]) == (50_000, 49_000)
    assert [(check["what"], check["same"]) for check in found["checks"]] == [
        ("MAC1", True),
        ("TAC", True),
        ("MAC2", True),
        ("805A", True),
    ]
    steps = {step["what"]: step for step in found["steps"]}
    assert steps["card-file"]["response"] == "***9000"
    assert steps["mac1"]["command"] == "8070000024***"
    assert steps["debit"]["command"].startswith("805401000F00000001")
    assert "B2E2" not in json.dumps(found), "region text of card and entry"
    assert "B2E2" in json.dumps(lab_json("purchase", USERS, "--unmask"))


@pytest.mark.parametrize("card", ["charge", "dual", "old", "car-t0", "expired", "pin-spent", "full"])
def test_cards_that_can_pay_pay_at_a_psam_of_the_bench(card):
    assert lab_json("purchase", USERS, "--card", card)["good"]


@pytest.mark.parametrize(
    ("files", "card", "sam", "sw"),
    [
        ([USERS], "poor", None, "9401"),
        ([USERS], "blocked", None, "6A81"),
        ([USERS, PSAMS], "car", "psam-sm4", "9403"),
        ([USERS, PSAMS], "car", "psam-unauthorised", "6982"),
        ([PSAMS], "psam", "psam-3des", "6A82"),
        ([OTHERS], "blank", None, "6A82"),
        ([OTHERS], "foreign", None, "6A82"),
        ([OTHERS], "unreadable", None, "6581"),
    ],
)
def test_a_purchase_that_is_refused_ends_at_its_step(files, card, sam, sw):
    options = ["--card", card, *(["--psam", sam] if sam else [])]
    found = lab_json("purchase", *files, *options, code=1)
    assert (found["refused"], found["debited"], found["good"]) == (sw, False, False)
    assert found["steps"][-1]["response"].endswith(sw)


def test_a_card_whose_files_are_none_ends_with_status_5():
    assert "card file 0015" in lab("purchase", OTHERS, "--card", "transit", code=5).stderr


def test_a_purchase_is_told_in_chinese(monkeypatch):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    told = lab("purchase", USERS).stdout
    assert "卡已扣款" in told
    assert "用户卡: 复合消费初始化" in told
    assert "lab." not in told


def test_personalised_cards_are_gone_on_from(tmp_path):
    made = lab_json("personalise", USERS, PSAMS, "--state", tmp_path, "--card", "car", "--card", "psam")
    assert [(one["name"], one["kind"]) for one in made["cards"]] == [("car", "user-card"), ("psam", "psam")]
    bought = ["purchase", USERS, PSAMS, "--psam", "psam", "--state", tmp_path]
    assert [lab_json(*bought)["balance_after"] for _ in range(2)] == [49_000, 48_000]
    stored = json.loads((tmp_path / "psam.json").read_text())["stored"]
    assert stored["terminal_serial"] == 2
    lab("personalise", USERS, "--state", tmp_path, "--card", "car")
    assert lab_json(*bought)["balance_after"] == 49_000


def test_a_state_of_another_card_is_told_with_the_cure(tmp_path):
    lab("personalise", USERS, "--state", tmp_path, "--card", "car")
    path = tmp_path / "car.json"
    path.write_text("{}")
    told = lab("purchase", USERS, "--state", tmp_path, code=2).stderr
    assert "lab personalise" in " ".join(told.replace("│", " ").split())
