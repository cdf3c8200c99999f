"""Clearing arithmetic: splits to the fen, fees, days, and the three-way match with every kind of difference."""

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.clearing import (
    EXPLAINABLE,
    BankEntry,
    BankLine,
    BankLineKind,
    DayFileWord,
    DifferenceKind,
    FeeRounding,
    JudgedRow,
    LaneRecord,
    NumberRange,
    OurRow,
    Resolution,
    RowState,
    Standing,
    VehicleKind,
    WireKeys,
    check_lanes,
    day_text,
    days_between,
    fee_of,
    full_day,
    gather,
    match,
    number_range,
    parse_day,
    split_by_weight,
    vehicle_kind,
)

DAY, DAY_AFTER = "20261123", "20261124"
Kind = DifferenceKind

# --- splitting ------------------------------------------------------------------------------------------------------

amounts = st.integers(-(10**12), 10**12)
weights = st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any)


@given(amounts, weights)
def test_shares_add_up_and_are_within_one_fen_of_the_exact_part(amount, parts):
    shares = split_by_weight(amount, parts)
    assert sum(shares) == amount
    whole = sum(parts)
    for share, part in zip(shares, parts, strict=True):
        assert abs(share - Fraction(amount * part, whole)) < 1
        assert part or not share, "who has no weight gets nothing"


@given(amounts, weights)
def test_a_refund_is_the_mirror_of_the_fee(amount, parts):
    assert split_by_weight(-amount, parts) == [-share for share in split_by_weight(amount, parts)]


@given(st.integers(0, 10**9), st.integers(1, 12))
def test_ties_go_to_the_earlier_unit(amount, owners):
    shares = split_by_weight(amount, [1] * owners)
    assert shares == sorted(shares, reverse=True)
    assert max(shares) - min(shares) <= 1


def test_largest_remainder_by_hand():
    assert split_by_weight(100, [1, 1, 1]) == [34, 33, 33]
    assert split_by_weight(1, [1, 2]) == [0, 1]
    assert split_by_weight(5, [3, 0, 3]) == [3, 0, 2]
    assert split_by_weight(0, [7, 9]) == [0, 0]


@pytest.mark.parametrize("bad", [[], [0, 0], [5, -1]])
def test_weights_that_cannot_split(bad):
    with pytest.raises(ValueError, match="cannot split"):
        split_by_weight(10, bad)


@pytest.mark.parametrize(
    ("amount", "rounding", "fee"),
    [
        (1250, FeeRounding.HALF_UP, 5),  # 4.75
        (1250, FeeRounding.DOWN, 4),
        (1250, FeeRounding.UP, 5),
        (25_000, FeeRounding.HALF_EVEN, 95),  # exact
        (0, FeeRounding.UP, 0),
    ],
)
def test_fee_of_38_basis_points(amount, rounding, fee):
    assert fee_of(amount, 38, rounding) == fee
    assert fee_of(-amount, 38, rounding) == -fee


@pytest.mark.parametrize(("amount", "up", "even"), [(50, 1, 0), (150, 2, 2), (250, 3, 2), (350, 4, 4)])
def test_half_a_fen(amount, up, even):
    assert fee_of(amount, 100, FeeRounding.HALF_UP) == up
    assert fee_of(amount, 100, FeeRounding.HALF_EVEN) == even


@given(amounts, st.integers(0, 10_000), st.sampled_from(FeeRounding))
def test_a_fee_is_within_one_fen_and_never_above_the_amount(amount, points, rounding):
    fee = fee_of(amount, points, rounding)
    assert abs(fee - Fraction(amount * points, 10_000)) < 1
    assert abs(fee) <= abs(amount)


# --- days -----------------------------------------------------------------------------------------------------------


def test_days_as_text():
    assert day_text(parse_day("20240229")) == "20240229"
    assert days_between("20251230", "20260102") == ["20251230", "20251231", "20260101", "20260102"]
    assert days_between(DAY_AFTER, DAY) == []
    for bad in ("20250229", "2025-1-1", "1123", "²0251123"):
        with pytest.raises(ValueError, match=r"day|month"):
            parse_day(bad)


@pytest.mark.parametrize(
    ("told", "near", "day"),
    [
        ("1123", date(2026, 11, 23), "20261123"),
        ("0101", date(2026, 12, 31), "20270101"),
        ("1231", date(2027, 1, 1), "20261231"),
        ("0229", date(2028, 3, 1), "20280229"),
        ("0229", date(2027, 3, 1), "20280229"),
        ("20261123", date(2020, 1, 1), "20261123"),
    ],
)
def test_the_year_of_a_settlement_day_is_the_nearest(told, near, day):
    assert full_day(told, near) == day


@pytest.mark.parametrize("bad", ["0231", "1332", "123", ""])
def test_a_settlement_day_that_is_none(bad):
    with pytest.raises(ValueError, match="day"):
        full_day(bad, date(2026, 11, 23))


# --- the match ------------------------------------------------------------------------------------------------------


def keys(number=1):
    return WireKeys("T0000001", "000001", f"{number:06d}")


def ours(number=1, amount=1500, standing=Standing.POSTED, **more):
    more = {"day": DAY, "keys": keys(number), **more}
    return OurRow(f"a{number}", f"d{number}", amount, standing, **more)


def line(number=1, amount=1500, kind=BankLineKind.SALE, at=1):
    return BankLine(at, kind, keys(number), amount, "rrn")


def lane(number=1, amount=1500, released=None):
    return LaneRecord(f"d{number}", number, "lane-1", amount, amount if released is None else released)


def run(rows, lines, lanes=None, day=DAY, **more):
    lanes = [lane(number) for number in range(1, 20)] if lanes is None else lanes
    bank = None if lines is None else gather(lines)
    return match(day, rows, bank, {record.debit_id: record for record in lanes}, **more)


def kinds(found):
    return [(d.kind, d.ref, d.amount_fen) for d in found.differences]


def states(found):
    return {row.ref: row.state for row in found.rows}


def test_three_witnesses_agree():
    found = run([ours(1), ours(2, -300)], [line(1), line(2, 300, BankLineKind.REFUND)], [lane(1), lane(2)])
    assert not found.differences
    assert not found.findings
    assert found.rows == [
        JudgedRow("a1", "d1", RowState.CLEARED, 1500, 1500),
        JudgedRow("a2", "d2", RowState.CLEARED, -300, -300),
    ]
    assert found.count(RowState.CLEARED) == 2


@pytest.mark.parametrize(
    ("rows", "lines", "lanes", "expected", "state"),
    [
        ([ours()], [], [lane()], (Kind.MISSING_AT_BANK, "a1", 1500), RowState.DISPUTED),
        ([], [line()], [], (Kind.MISSING_HERE, "T0000001/000001/000001", -1500), None),
        ([ours()], [line(amount=1400)], [lane()], (Kind.AMOUNT_DIFFERS, "a1", 100), RowState.DISPUTED),
        # A refund where we had a sale differs by both.
        (
            [ours()],
            [line(kind=BankLineKind.REFUND)],
            [lane()],
            (Kind.AMOUNT_DIFFERS, "a1", 3000),
            RowState.DISPUTED,
        ),
        ([ours()], [line()], [], (Kind.MISSING_LANE_RECORD, "a1", 0), RowState.DISPUTED),
        ([ours()], [line(), line(at=2)], [lane()], (Kind.DUPLICATE_AT_BANK, "a1", -1500), RowState.CLEARED),
        (
            [ours()],
            [line(), line(kind=BankLineKind.REVERSAL)],
            [lane()],
            (Kind.REVERSED_AT_BANK, "a1", 1500),
            RowState.DISPUTED,
        ),
        ([ours(standing=Standing.REVERSED)], [line()], [], (Kind.NOT_POSTED_HERE, "a1", -1500), RowState.DISPUTED),
        ([ours(standing=Standing.SUSPENSE)], [line()], [], (Kind.NOT_POSTED_HERE, "a1", -1500), RowState.DISPUTED),
        ([ours(standing=Standing.NOT_POSTED)], [line()], [], (Kind.NOT_POSTED_HERE, "a1", -1500), RowState.DISPUTED),
        ([ours(standing=Standing.IN_DOUBT)], [line()], [], (Kind.IN_DOUBT, "a1", -1500), RowState.DISPUTED),
        ([ours(day=DAY_AFTER)], [line()], [lane()], (Kind.OTHER_DAY, "a1", 0), RowState.CLEARED),
    ],
)
def test_every_kind_of_difference_alone(rows, lines, lanes, expected, state):
    found = run(rows, lines, lanes)
    assert kinds(found) == [expected]
    assert list(states(found).values()) == ([] if state is None else [state])


def test_of_an_issuer_only_lane_and_proof_are_asked():
    found = run([ours(1, keys=None), ours(2, keys=None, proved=False)], None)
    assert kinds(found) == [(Kind.PROOF_MISSING, "a2", 1500)]
    assert states(found) == {"a1": RowState.CLEARED, "a2": RowState.DISPUTED}
    assert not any(row.other_day for row in found.rows)


def test_a_refund_needs_no_lane():
    found = run([ours(1, -300, needs_lane=False)], [line(1, 300, BankLineKind.REFUND)], [])
    assert not found.differences
    assert states(found) == {"a1": RowState.CLEARED}


def test_a_lane_that_recorded_another_amount_holds_the_row_back():
    found = run([ours()], [line()], [lane(1, 1500, released=1400)])
    assert states(found) == {"a1": RowState.DISPUTED}
    explained = {(Kind.LANE_AMOUNT_DIFFERS, "d1"): Resolution.EXPLAINED}
    assert states(run([ours()], [line()], [lane(1, 1500, released=1400)], verdicts=explained)) == {
        "a1": RowState.CLEARED
    }


def test_rows_of_other_days_are_left_alone_unless_the_file_names_them():
    assert not run([ours(day=DAY_AFTER)], []).rows


def test_a_row_cleared_on_another_day_is_not_cleared_again():
    cleared = ours(cleared_on="20261122")
    assert not run([cleared], []).differences
    assert kinds(run([cleared], [line()])) == [(Kind.DUPLICATE_AT_BANK, "a1", -1500)]
    reversal = line(kind=BankLineKind.REVERSAL)
    assert kinds(run([cleared], [reversal])) == [(Kind.REVERSED_AT_BANK, "a1", 1500)]
    assert not run([cleared], [line(), reversal]).differences
    assert not run([cleared], [line(), reversal]).rows
    assert states(run([ours(cleared_on=DAY)], [line()])) == {"a1": RowState.CLEARED}


# --- in doubt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [Standing.IN_DOUBT, Standing.SUSPENSE])
def test_silence_of_the_file_counts_once_the_last_possible_day_is_over(standing):
    assert not run([ours(standing=standing, day=None, last_day=DAY_AFTER)], []).findings
    assert not run([ours(standing=standing, day=None)], []).findings
    found = run([ours(standing=standing, day=None, last_day=DAY)], [])
    assert [(f.word, f.attempt_id, f.amount_fen) for f in found.findings] == [(DayFileWord.NOT_POSTED, "a1", 1500)]
    assert not found.rows
    assert not found.differences


def test_booked_and_taken_back_in_the_file_is_a_no_at_once():
    lines = [line(), line(kind=BankLineKind.REVERSAL)]
    found = run([ours(standing=Standing.IN_DOUBT, day=None, last_day=DAY_AFTER)], lines)
    assert [f.word for f in found.findings] == [DayFileWord.NOT_POSTED]
    assert not found.differences


def test_the_file_is_the_proof_of_a_row_in_doubt():
    found = run([ours(standing=Standing.IN_DOUBT, day=None, last_day=DAY)], [line(amount=1400)])
    assert [(f.word, f.amount_fen) for f in found.findings] == [(DayFileWord.POSTED, 1400)]
    assert found.rows == [JudgedRow("a1", "d1", RowState.DISPUTED, 0, 1400, other_day=True)]


def test_a_reversal_in_the_file_of_another_day_counts():
    entry = BankEntry(keys(), 1, 1500, booked=1, elsewhere=-1)
    for row in (ours(standing=Standing.REVERSED), None):
        found = match(DAY, [] if row is None else [row], {keys(): entry}, {})
        assert not found.differences
    found = match(DAY, [ours(standing=Standing.IN_DOUBT)], {keys(): entry}, {})
    assert [f.word for f in found.findings] == [DayFileWord.NOT_POSTED]
    # The reversal alone, its original in the file of the day before.
    alone = gather([line(kind=BankLineKind.REVERSAL)])
    alone[keys()].elsewhere = 1
    assert not match(DAY_AFTER, [], alone, {}).differences
    alone[keys()].elsewhere = 0
    assert kinds(match(DAY_AFTER, [], alone, {})) == [(Kind.MISSING_HERE, str(keys()), 1500)]


def test_a_second_booking_taken_back_on_another_day_leaves_one():
    first_day = gather([line(), line(at=2)])
    first_day[keys()].elsewhere = -1
    found = match(DAY, [ours()], first_day, {"d1": lane()})
    assert not found.differences
    assert states(found) == {"a1": RowState.CLEARED}
    next_day = gather([line(kind=BankLineKind.REVERSAL)])
    next_day[keys()].elsewhere = 2
    for row in (ours(cleared_on=DAY), ours()):
        found = match(DAY_AFTER, [row], next_day, {"d1": lane()})
        assert not found.differences
        assert not found.rows


def test_a_booking_taken_back_on_another_day_is_not_cleared():
    entries = gather([line()])
    entries[keys()].elsewhere = -1
    found = match(DAY, [ours()], entries, {"d1": lane()})
    assert kinds(found) == [(Kind.REVERSED_AT_BANK, "a1", 1500)]
    assert states(found) == {"a1": RowState.DISPUTED}


# --- what people said -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_an_explanation_clears_only_where_the_payer_agrees_on_the_money(kind):
    made = {
        Kind.MISSING_AT_BANK: ([ours()], [], [lane()]),
        Kind.AMOUNT_DIFFERS: ([ours()], [line(amount=1)], [lane()]),
        Kind.REVERSED_AT_BANK: ([ours()], [line(), line(kind=BankLineKind.REVERSAL)], [lane()]),
        Kind.NOT_POSTED_HERE: ([ours(standing=Standing.REVERSED)], [line()], []),
        Kind.IN_DOUBT: ([ours(standing=Standing.IN_DOUBT)], [line()], []),
        Kind.MISSING_LANE_RECORD: ([ours()], [line()], []),
        Kind.PROOF_MISSING: ([ours(keys=None, proved=False)], None, [lane()]),
    }.get(kind)
    if made is None:
        return  # these hold no row back
    found = run(*made, verdicts={(kind, "a1"): Resolution.EXPLAINED})
    assert kinds(found)[0][0] is kind, "explaining does not make it disappear"
    assert states(found) == {"a1": RowState.CLEARED if kind in EXPLAINABLE else RowState.DISPUTED}


def test_given_up_is_rejected_and_pays_nothing():
    found = run([ours()], [], verdicts={(Kind.MISSING_AT_BANK, "a1"): Resolution.WRITTEN_OFF})
    assert found.rows == [JudgedRow("a1", "d1", RowState.REJECTED, 1500, 0)]


def test_a_difference_in_the_amount_given_up_leaves_what_the_bank_grants():
    verdicts = {(Kind.AMOUNT_DIFFERS, "a1"): Resolution.WRITTEN_OFF}
    found = run([ours()], [line(amount=1400)], verdicts=verdicts)
    assert found.rows == [JudgedRow("a1", "d1", RowState.CLEARED, 1500, 1400)]


def test_two_troubles_with_one_row_both_hold_it_back():
    one = {(Kind.AMOUNT_DIFFERS, "a1"): Resolution.WRITTEN_OFF}
    found = run([ours()], [line(amount=1400)], [], verdicts=one)
    assert [d.kind for d in found.differences] == [Kind.AMOUNT_DIFFERS, Kind.MISSING_LANE_RECORD]
    assert states(found) == {"a1": RowState.DISPUTED}


# --- of whole days --------------------------------------------------------------------------------------------------


@st.composite
def whole_days(draw):
    """Rows and a file over the same few keys, in any mixture."""
    rows, lines, lanes = [], [], []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        amount = draw(st.sampled_from([1500, -300]))
        if draw(st.booleans()):
            rows.append(
                ours(
                    number,
                    amount,
                    draw(st.sampled_from(Standing)),
                    day=draw(st.sampled_from([DAY, DAY_AFTER])),
                    last_day=draw(st.sampled_from([None, DAY, DAY_AFTER])),
                    cleared_on=draw(st.sampled_from([None, DAY, DAY_AFTER])),
                )
            )
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(st.sampled_from(BankLineKind))
            lines.append(line(number, draw(st.sampled_from([1500, 300])), kind, len(lines) + 1))
        if draw(st.booleans()):
            lanes.append(lane(number, 1500, draw(st.sampled_from([0, 1500]))))
    names = [(kind, f"{letter}{number}") for kind in Kind for letter in "ad" for number in range(1, 7)]
    said = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(Resolution), max_size=4))
    return rows, lines, lanes, said


@given(whole_days())
def test_a_row_is_in_one_state_and_nothing_one_witness_tells_is_passed_over(case):
    rows, lines, lanes, said = case
    bank = gather(lines)
    found = match(DAY, rows, bank, {record.debit_id: record for record in lanes}, verdicts=said)
    refs = [row.ref for row in found.rows]
    assert len(refs) == len(set(refs))
    heard = {d.ref for d in found.differences} | {f.attempt_id for f in found.findings}
    of_lanes = {d.ref for d in check_lanes(lanes)}
    cleared = {row.ref for row in found.rows if row.state is RowState.CLEARED}
    by_ref = {row.ref: row for row in rows}
    for keys_, entry in bank.items():
        mine = next((row for row in rows if row.keys == keys_), None)
        if entry.stands > 0:
            told = (str(keys_) if mine is None else mine.ref) in heard | cleared
            assert told or (mine is not None and mine.debit_id in of_lanes)
    for row in rows:
        mine = row.standing is Standing.POSTED and row.day == DAY and row.cleared_on in (None, DAY)
        assert not mine or row.ref in refs
    for judged in found.rows:
        if judged.state is RowState.CLEARED:
            entry = bank[by_ref[judged.ref].keys]
            assert entry.stands > 0
            assert judged.paid_fen == entry.amount_fen
            assert by_ref[judged.ref].standing is Standing.POSTED or said
        if judged.state is RowState.REJECTED:
            assert judged.paid_fen == 0


def test_lanes_that_the_books_do_not_bear_out():
    records = [lane(1), lane(2, 1500, 1400), lane(3, 1500, 0), lane(4, 0, 0)]
    assert [(d.kind, d.ref, d.amount_fen) for d in check_lanes(records)] == [
        (Kind.LANE_AMOUNT_DIFFERS, "d2", -100),
        (Kind.LANE_WITHOUT_CLAIM, "d3", -1500),
    ]
    assert "record 2 of lane-1: 1500 fen, books 1400 fen" in check_lanes(records)[0].note


# --- vehicles and numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "reason", "debit", "kind"),
    [
        ("paid", None, "funded", VehicleKind.PAID),
        ("paid", None, "released", VehicleKind.PAID),
        ("debt", "bank_declined", "recovered", VehicleKind.PAID),
        ("owed", "bank_silent", "funded", VehicleKind.PAID),
        ("owed", "bank_silent", "owed", VehicleKind.UNRESOLVED),
        ("unknown", "purchase_unknown", "held", VehicleKind.UNRESOLVED),
        ("refused", "card_listed", None, VehicleKind.REFUSED),
        ("refused", "purchase_refused", "voided", VehicleKind.REFUSED),
        ("refused", "purchase_refused", "debt", VehicleKind.VIOLATION),
        ("refused", "vehicle_exempt", None, VehicleKind.SPECIAL),
        ("entered", None, None, VehicleKind.ENTERED),
        ("entered", "vehicle_exempt", None, VehicleKind.SPECIAL),
        ("debt", "bank_declined", "debt", VehicleKind.VIOLATION),
        ("refused", "run_through", None, VehicleKind.VIOLATION),
    ],
)
def test_a_vehicle_counts_once(outcome, reason, debit, kind):
    assert vehicle_kind(outcome, reason, debit) is kind


def test_record_numbers_and_their_gaps():
    assert number_range([]) is None
    assert number_range([7, 8, 9]) == NumberRange(7, 9)
    assert number_range([1, 2, 5, 7]) == NumberRange(1, 7, ((3, 4), (6, 6)))
    assert len(number_range(range(1, 200, 2)).missing) == 20
