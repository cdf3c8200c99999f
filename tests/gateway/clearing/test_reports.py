"""Reports: every vehicle once, record numbers without a gap, the three witnesses side by side."""

import csv

from gateway.clearing import reports
from gateway.clearing.reports import report, shifts_of, whole_day, write_clearing, write_report
from gateway.model.clearing import NumberRange, RowState, VehicleKind
from gateway.model.passage import Funding, PurchaseOutcome, Release
from tests.gateway.clearing.conftest import DAY, DAY_AFTER, approved
from tests.gateway.debit.conftest import CONTEXT, DECLINED, SILENT, TAKEN, PurchaseResult, hold_request


async def long_day(plaza):
    """One of everything: shift 1 from 06:13, shift 2 from 08:00, and one vehicle of the next day."""
    box = plaza.box
    await plaza.pass_bank(approved())
    await plaza.pass_purse()
    await plaza.pass_bank(DECLINED, amount=900)
    box.clock.now += 2 * 3600
    await plaza.pass_issuer()
    await plaza.pass_bank(SILENT, amount=600)
    unknown = plaza.numbers + 1
    await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.UNKNOWN))
    sight = hold_request("turned away", card="99010000000000000099").sight
    await box.engine.refuse(sight, "run_through", Release.STOP, CONTEXT, timeout_s=5)
    sight = hold_request("exempt", card="99010000000000000098").sight
    await box.engine.refuse(sight, "vehicle_exempt", Release.STOP, CONTEXT, timeout_s=5)
    # The unknown one is proved: one vehicle, two records.
    plaza.numbers = unknown - 1
    await plaza.pass_purse(result=TAKEN)
    plaza.numbers = unknown
    box.clock.now += 18 * 3600
    await plaza.pass_purse(amount=1)


def of(plaza, period):
    with plaza.box.reader.connect() as connection:
        return report(connection, period)


def test_a_day_counts_every_vehicle_once_and_all_records(plaza):
    plaza.drive(long_day)
    plaza.bring(plaza.lines())
    plaza.run()
    lane, whole = of(plaza, whole_day(DAY, plaza.terms))
    assert (lane.charge_point, whole.charge_point) == ("lane-1", None)
    assert whole.vehicles == {
        VehicleKind.PAID: 4,
        VehicleKind.SPECIAL: 1,
        VehicleKind.VIOLATION: 2,
        VehicleKind.UNRESOLVED: 1,
    }
    assert whole.all_vehicles == 8
    assert {funding: (part.count, part.fen) for funding, part in whole.funding.items()} == {
        Funding.PURSE: (2, 1600),
        Funding.BANK_ONLINE: (3, 3000),
        Funding.ISSUER_CLEARING: (1, 700),
        Funding.CASH: (0, 0),
    }
    assert whole.records == NumberRange(1, 9)
    assert (whole.lane.count, whole.lane.fen) == (6, 5300)
    assert (whole.ledger.count, whole.ledger.fen) == (6, 5300)
    cleared = whole.states[RowState.CLEARED]
    assert (cleared.count, cleared.fen) == (4, 1500 + 800 + 700 + 800)
    assert [row.all_vehicles for row in of(plaza, whole_day(DAY_AFTER, plaza.terms))] == [1, 1]
    assert of(plaza, whole_day("20231201", plaza.terms))[-1].records is None


def test_shifts_add_up_to_the_day(plaza):
    plaza.drive(long_day)
    plaza.run()
    day = of(plaza, whole_day(DAY, plaza.terms))[-1]
    parts = [of(plaza, period)[-1] for period in shifts_of(DAY, plaza.terms)]
    assert [part.all_vehicles for part in parts] == [3, 5, 0]
    assert sum((part.vehicles for part in parts), start=type(day.vehicles)()) == day.vehicles
    assert sum(part.lane.fen for part in parts) == day.lane.fen
    assert [part.records for part in parts] == [NumberRange(1, 3), NumberRange(4, 9), None]


def test_a_vehicle_that_was_settled_on_another_day_counts_there(plaza):
    async def over_midnight(plaza):
        await plaza.pass_purse(result=PurchaseResult(PurchaseOutcome.UNKNOWN))
        plaza.box.clock.now += 24 * 3600
        plaza.numbers -= 1
        await plaza.pass_purse(result=TAKEN)

    plaza.drive(over_midnight)
    assert of(plaza, whole_day(DAY, plaza.terms))[-1].all_vehicles == 0
    assert of(plaza, whole_day(DAY_AFTER, plaza.terms))[-1].vehicles == {VehicleKind.PAID: 1}


def test_a_missing_record_is_told(plaza):
    from sqlalchemy import text

    plaza.drive(long_day)
    with plaza.box.database.begin() as connection:
        connection.execute(text("delete from decision where record_no in (3, 4)"))
    whole = of(plaza, whole_day(DAY, plaza.terms))[-1]
    assert whole.records == NumberRange(1, 9, ((3, 4),))
    assert reports.cells_of(whole, plaza.terms)[22] == "3-4"


def test_many_records_are_found_by_few_looks(plaza, monkeypatch):
    monkeypatch.setattr(reports, "RECORDS_SLACK", 0)
    plaza.drive(long_day)
    assert of(plaza, whole_day(DAY, plaza.terms))[-1].records == NumberRange(1, 9)
    assert of(plaza, whole_day(DAY_AFTER, plaza.terms))[-1].records == NumberRange(10, 10)


def test_files_have_headings_in_both_languages(plaza, tmp_path):
    plaza.drive(long_day)
    plaza.bring([*plaza.lines(), ("sale", "T0000001", "000001", "000999", 5)])
    plaza.run()
    path = tmp_path / "day.csv"
    write_report(path, of(plaza, whole_day(DAY, plaza.terms)), plaza.terms, bom=True)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["收费点 charge point"] for row in rows] == ["lane-1", ""]
    for row in rows:
        parts = ("已付 paid", "入口 entered", "特情 special", "拒绝 refused", "违章 violation", "未决 unresolved")
        assert int(row["车辆数 vehicles"]) == sum(int(row[name]) for name in parts) == 8
        assert row["开始 from"] == "2023-11-15T00:00"
        assert row["车道金额(分) lane fen"] == row["账本金额(分) ledger fen"] == "5300"
    with plaza.box.reader.connect() as connection:
        written = write_clearing(tmp_path, connection, DAY, bom=False)
    texts = [path.read_text(encoding="utf-8") for path in written]
    assert [path.name for path in written] == [f"{name}-{DAY}.csv" for name in ("clearing", "owners", "items", "heads")]
    assert f"{DAY},road-1,bank-1,bank,toll,1,closed,1,1500,1500,0,1500,none" in texts[0]
    assert f"{DAY},1,bank-1,road-1,1500,0" in texts[1]
    journal = plaza.rows("select number, lower(hex(digest)) from chain where name = 'journal'")[0]
    assert f"1,journal,{journal[0]},{journal[1]}" in texts[3]
    assert "missing_here,bank-1/T0000001/000001/000999,,-5,open" in texts[2]
