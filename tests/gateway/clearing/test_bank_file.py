"""Day files: every bad line named with line, column and cure; cut, foreign and damaged files refused as a whole."""

import hashlib

import pytest

from gateway.clearing.bank_file import BankFileError, DayFile, check_file
from gateway.clearing.rules import OURS, Columns, DayFileProfile
from gateway.model.clearing import BankLineKind, WireKeys
from gateway.model.reasons import REASONS

DAY = "20261123"
TERMINALS = {"T0000001", "T0000002"}
HEAD = "kind,settlement_day,terminal,batch,stan,retrieval_reference,amount,contract,count"
SALE = f"sale,{DAY},T0000001,000001,000001,000000000001,1500,6217990100000001,"
ADVICE = f"advice,{DAY},T0000002,000001,000002,000000000002,800,6217990100000002,"
REFUND = f"refund,{DAY},T0000001,000001,000003,000000000003,300,6217990100000001,"
REVERSAL = f"reversal,{DAY},T0000002,000001,000002,000000000004,800,6217990100000002,"
GOOD = (SALE, ADVICE, REFUND, REVERSAL)


def total(*lines, count=None, amount=None):
    net = sum({"sale": 1, "advice": 1}.get(line.split(",")[0], -1) * int(line.split(",")[6]) for line in lines)
    return f"total,{DAY},,,,,{net if amount is None else amount},,{len(lines) if count is None else count}"


@pytest.fixture
def put(tmp_path):
    """Write a file with a header and, unless given, its totals."""

    def write(*lines, last=None, encoding="utf-8", head=HEAD):
        path = tmp_path / "day.csv"
        tail = total(*lines) if last is None else last
        path.write_text("\n".join([head, *lines, *([tail] if tail else [])]) + "\n", encoding=encoding)
        return path

    return write


def refused(path, profile=OURS, **more):
    with pytest.raises(BankFileError) as caught:
        check_file(path, profile, **{"day": DAY, "terminals": TERMINALS, **more})
    assert caught.value.reason in REASONS
    assert str(path) in str(caught.value)
    return caught.value


def test_lines_of_every_kind(put):
    path = put(*GOOD)
    lines = list(DayFile(path, OURS, DAY, TERMINALS))
    assert [(line.line, line.kind, line.amount_fen) for line in lines] == [
        (2, BankLineKind.SALE, 1500),
        (3, BankLineKind.ADVICE, 800),
        (4, BankLineKind.REFUND, 300),
        (5, BankLineKind.REVERSAL, 800),
    ]
    assert lines[0].keys == WireKeys("T0000001", "000001", "000001")
    assert lines[0].reference == "000000000001"
    summary = check_file(path, OURS, day=DAY, terminals=TERMINALS)
    assert (summary.lines, summary.amount_fen) == (4, 1200)
    assert summary.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_day_without_business_is_a_file_with_totals_alone(put):
    assert check_file(put(), OURS, day=DAY, terminals=TERMINALS).lines == 0


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("sale,", "sail,", ("line 2", "column kind", "'sail'", "map it")),
        (f",{DAY},", ",2026-11-23,", ("line 2", "column settlement_day", "YYYYMMDD")),
        (f",{DAY},", ",20261131,", ("line 2", "column settlement_day", "is no day")),
        (",000001,000001,", ",000001,00000x,", ("line 2", "column stan", "'00000x'", "digits only")),
        (",000001,000001,", ",0000001,000001,", ("line 2", "column batch")),
        (",1500,", ",15.00,", ("line 2", "column amount", "'15.00'", "whole fen")),
        (",1500,", ",-1500,", ("line 2", "column amount", "above zero", "kind tells")),
        (",1500,", ",0,", ("line 2", "column amount")),
        (",1500,", ",１５００,", ("line 2", "column amount")),
        (",1500,", f",{10**13},", ("line 2", "column amount")),
        (",1500,", ',"1500,', ("is not CSV",)),
    ],
)
def test_a_bad_line_is_named_with_its_cure(put, old, new, told):
    error = refused(put(SALE.replace(old, new, 1), ADVICE, last=total(SALE, ADVICE)))
    assert error.reason == "bank_file_malformed"
    assert len([p for p in error.problems if "totals" not in str(p)]) == 1
    for word in told:
        assert word in str(error.problems[0])


def test_all_bad_lines_are_told_up_to_a_limit(put):
    bad = SALE.replace("sale", "sail")
    error = refused(put(bad, ADVICE, bad, last=total(ADVICE)))
    assert [str(problem).split(",")[0] for problem in error.problems] == ["line 2", "line 4"]
    assert len(refused(put(*[bad] * 200, last="")).problems) <= 52


def test_another_day_is_refused(put):
    error = refused(put(SALE.replace(DAY, "20261122"), last=total(SALE)))
    assert error.reason == "bank_file_other_day"
    assert "line 2, column settlement_day" in str(error.problems[0])
    assert "clearing run 20261122" in str(error.problems[0])


def test_a_foreign_terminal_is_refused(put):
    error = refused(put(SALE.replace("T0000001", "T0000009"), last=total(SALE, count=0, amount=0)))
    assert error.reason == "bank_file_other_terminal"
    assert "line 2, column terminal: 'T0000009'" in str(error.problems[0])


def test_a_file_that_was_cut_short_is_refused(put):
    assert "cut short" in str(refused(put(SALE, last="")).problems[0])
    assert "totals count '2' lines, the file has 1" in str(refused(put(SALE, last=total(SALE, count=2))).problems[0])
    assert "totals say 1 fen" in str(refused(put(SALE, last=total(SALE, amount=1))).problems[0])
    assert "comes after the totals" in str(refused(put(total(), SALE, last="")).problems[0])


def test_columns_that_are_missing(put):
    error = refused(put(SALE, head=HEAD.replace("stan", "trace").replace("batch", "lot")))
    assert [str(problem).split(":")[0] for problem in error.problems] == ["line 1, column batch", "line 1, column stan"]
    assert "the file has: kind, settlement_day" in str(error.problems[0])
    path = put()
    path.write_bytes(b"")
    assert "the file has: none" in str(refused(path).problems[0])


def test_another_encoding_is_told(put):
    path = put(SALE.replace("6217990100000001", "合同"), encoding="gb18030")
    error = refused(path)
    assert "line 1: the file looks like GBK; save it as UTF-8" in str(error.problems[0])
    profile = DayFileProfile(encoding="gb18030")
    assert check_file(path, profile, day=DAY, terminals=TERMINALS).lines == 1


def test_a_byte_order_mark_and_empty_lines(put):
    path = put(SALE, "", ADVICE, last=total(SALE, ADVICE), encoding="utf-8-sig")
    assert check_file(path, OURS, day=DAY, terminals=TERMINALS).lines == 2


def test_a_bank_with_a_form_of_its_own(tmp_path):
    """Columns by number, its own words, yuan, days without a year, zeros stripped, no totals."""
    profile = DayFileProfile(
        encoding="gb18030",
        delimiter="|",
        header=False,
        amounts="yuan",
        days="MMDD",
        total="none",
        kinds={"消费": "sale", "退货": "refund", "手续费": "skip"},
        columns=Columns(
            kind=0, settlement_day=5, terminal=1, batch=2, stan=3, amount=4, retrieval_reference=None, count=None
        ),
    )
    path = tmp_path / "day.txt"
    path.write_text("消费|T0000001|1|17|15.00|1123\n手续费|||||\n退货|T0000001|1|18|3.5|1123\n", encoding="gb18030")
    lines = list(DayFile(path, profile, DAY, TERMINALS))
    assert [(line.line, line.keys.stan, line.amount_fen) for line in lines] == [(1, "000017", 1500), (3, "000018", 350)]
    assert lines[0].keys.batch == "000001"
    assert lines[0].reference is None
    path.write_text("消费|T0000001|1|17|15.001|1123\n", encoding="gb18030")
    assert "line 1, column amount: '15.001' is no amount; write yuan like 23.45" in str(
        refused(path, profile).problems[0]
    )


def test_short_lines_do_not_fall_over(put):
    error = refused(put("sale", last=total()))
    assert "line 2, column settlement_day: '' is no day" in str(error.problems[0])


def test_progress_is_told(put, monkeypatch):
    monkeypatch.setattr("gateway.clearing.bank_file.PROGRESS_EVERY", 2)
    heard = []
    check_file(put(*GOOD), OURS, day=DAY, terminals=TERMINALS, tell=heard.append)
    assert heard == ["2", "4"]
