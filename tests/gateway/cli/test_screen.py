"""Tables that fit, labels that align, colour only where it belongs."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from gateway.cli.screen import GAP, Cell, Heading, Screen, _fitting
from gateway.texts.catalogue import Language

SCREEN = Screen(Language.EN)


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


COLUMNS = [Heading("No", right=True), Heading("Plate"), Heading("Note", rank=1), Heading("Why", wrap_at=8)]
ROWS = [["1", "测A***01", "seen again", "bank did not answer in time"], ["22", "", "", ""]]


def test_a_pipe_gets_everything_on_one_line(capsys):
    SCREEN.table(COLUMNS, ROWS)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "No  Plate     Note        Why",
        " 1  测A***01  seen again  bank did not answer in time",
        "22",
    ]
    assert err == ""


def test_a_narrow_terminal_loses_the_least_important_column_and_says_so(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "24")
    SCREEN.table(COLUMNS, ROWS)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "No  Plate     Why"
    assert "Note" in err
    words = "".join(line[12:].strip() + " " for line in out.splitlines()[1:-1]).split()
    assert words == ["bank", "did", "not", "answer", "in", "time"]
    assert all(cell_len(line) <= 24 for line in out.splitlines())


def test_a_terminal_too_narrow_for_anything_still_gets_every_value(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "6")
    SCREEN.table(COLUMNS, ROWS)
    assert "测A***01" in capsys.readouterr().out


def test_an_empty_column_goes_first_and_is_not_missed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    columns = [Heading("A"), Heading("Least", rank=9), Heading("Empty", rank=1)]
    SCREEN.table(columns, [["a", "least", ""]])
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "A  Least"
    assert err == ""


def test_pairs_align_with_chinese_labels(capsys):
    Screen(Language.ZH).pairs([("车牌", "测A***01"), ("Tag", "x"), ("付款方", Cell("银行", "green"))])
    lines = capsys.readouterr().out.splitlines()
    assert [cell_len(line[: line.index(value)]) for line, value in zip(lines, ("测", "x", "银"), strict=True)] == [
        9
    ] * 3


def test_colour_stops_at_a_pipe_and_with_no_color(capsys, monkeypatch):
    cell = Cell("paid", "green")
    SCREEN.table([Heading("A")], [[cell]])
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    SCREEN.table([Heading("A")], [[cell]])
    assert "\x1b[32m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    SCREEN.table([Heading("A")], [[cell]])
    assert "\x1b[32m" not in capsys.readouterr().out


def test_values_are_no_markup(capsys):
    SCREEN.line("[red]x[/red] :smile:")
    SCREEN.pairs([("a", "[bold]b")])
    assert capsys.readouterr().out == "[red]x[/red] :smile:\na:  [bold]b\n"


def test_json_is_one_object_with_its_own_characters(capsys):
    SCREEN.json({"plate": "测A***01", "n": None})
    out = capsys.readouterr().out
    assert json.loads(out) == {"plate": "测A***01", "n": None}
    assert "测" in out


def test_progress_is_for_terminals(capsys, monkeypatch):
    with SCREEN.progress("checking") as tell:
        tell("books")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with SCREEN.progress("checking") as tell:
        tell("books")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "checking: books" in shown.err


texts = st.lists(st.text(alphabet="ab测", max_size=30), min_size=1, max_size=4)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(1, 10)), texts), min_size=1, max_size=8),
    st.integers(1, 120),
)
def test_fitting_never_takes_more_room_than_there_is_or_must(shape, room):
    columns = [Heading("h", rank=rank, wrap_at=wrap_at) for rank, wrap_at, _ in shape]
    cells = [column_texts for _, _, column_texts in shape]
    fit = _fitting(columns, cells, room)
    total = sum(width + GAP for width in fit.widths.values()) - GAP
    assert total <= room or all(columns[i].rank == 0 for i in fit.widths)
    assert set(fit.widths) >= {i for i, column in enumerate(columns) if column.rank == 0}
    for i, width in fit.widths.items():
        if columns[i].wrap_at is None:
            assert width == max(1, *(cell_len(text) for text in cells[i]))
