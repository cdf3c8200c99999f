"""One tuple of columns is a noun's JSON, its table and its `Label: value` lines."""

import json
from dataclasses import dataclass
from datetime import timedelta, timezone

import pytest

from gateway.cli.columns import Column, at, each, facts, fen, only, said, show_one, show_record, show_table, within
from gateway.cli.screen import Cell, Screen
from gateway.texts.catalogue import Language, Pair

SCREEN = Screen(Language.EN, timezone(timedelta(hours=8)))


@dataclass(frozen=True, slots=True)
class Car:
    plate: str | None
    owed_fen: int
    seen_us: int | None


CARS = [Car("A1", 1500, 1_700_000_000_000_000), Car(None, 5, None)]
COLUMNS = (
    Column("plate", Pair("Plate", "车牌")),
    fen("owed_fen", Pair("Owed", "欠")),
    at("seen_at", Pair("Seen", "时间")),
    *only("seen_us"),
    said(Pair("Note", "备注"), lambda _, car: "much" if car.owed_fen > 100 else None),
)


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_json_has_what_has_a_key():
    assert each(COLUMNS)(SCREEN, CARS) == [
        {"plate": "A1", "owed_fen": 1500, "seen_at": "2023-11-15T06:13:20.000+08:00", "seen_us": 1_700_000_000_000_000},
        {"plate": None, "owed_fen": 5, "seen_at": None, "seen_us": None},
    ]


def test_a_table_has_what_has_a_title(capsys):
    show_table(SCREEN, COLUMNS, CARS, ["in all", Cell("15.05"), "", ""])
    assert capsys.readouterr().out.splitlines() == [
        "Plate    Owed  Seen            Note",
        "A1      15.00  11-15 06:13:20  much",
        "         0.05",
        "in all  15.05",
    ]


def test_a_record_leaves_out_what_says_nothing(capsys):
    show_record(SCREEN, COLUMNS, CARS[1], ("More", "x"))
    assert capsys.readouterr().out == "Owed:  0.05\nMore:  x\n"
    show_record(Screen(Language.ZH), COLUMNS[:1], CARS[0])
    assert capsys.readouterr().out == "车牌:  A1\n"


def test_columns_of_a_part(capsys):
    pair = within(COLUMNS, lambda cars: cars[0])
    assert facts(SCREEN, pair, CARS)["plate"] == "A1"
    show_record(SCREEN, pair, CARS)
    assert capsys.readouterr().out == ""
    show_record(SCREEN, within(COLUMNS[:1], lambda cars: cars[0], told=True), CARS)
    assert capsys.readouterr().out == "Plate:  A1\n"


def test_what_an_act_tells_is_shown_alike(capsys):
    columns = (Column("state", Pair("State", "状态")), Column("effect"))
    told = {"state": "paid", "effect": None}
    show_one(SCREEN, columns, told, as_json=True)
    assert json.loads(capsys.readouterr().out) == told
    show_one(SCREEN, columns, told, as_json=False)
    assert capsys.readouterr().out == "State:  paid\n"
