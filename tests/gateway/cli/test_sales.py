"""`etcgw sales`: what pumps delivered, from the list to the receipt, and the sum against the totalisers."""

import asyncio

import pytest

from tests.gateway.cli.test_json_shapes import compare, shape
from tests.gateway.debit.conftest import Box
from tests.gateway.points.fuel.conftest import Forecourt

ML, FEN = 10_000, 7850


@pytest.fixture
def pumped(site):
    """A site at whose pump one car paid, one went away, and one sale is grey; oldest first."""
    box = Box(site.parent / "ledger.db")

    async def fill(court, number, ml, *, wrong=0):
        court.car(number)
        court.pump.lift()
        await court.authorised()
        if ml:
            court.pump.flow(ml)
            court.pump.book.amount += wrong
        court.pump.hang_up()

    async def scenario():
        async with box, Forecourt(box) as court:
            court.approve()
            await fill(court, 1, ML)
            await court.until(lambda: len(court.sales()) == 1 and court.sales()[0][0] == "billed")
            box.clock.now += 60
            await fill(court, 2, 0)
            await court.until(lambda: len(court.sales()) == 2 and court.sales()[1][0] == "nothing")
            box.clock.now += 60
            await fill(court, 3, ML, wrong=7)
            await court.until(lambda: len(court.sales()) == 3 and court.sales()[2][0] == "grey")
            await court.until(lambda: court.held() == 20_000)

    asyncio.run(scenario())
    box.keep_mark()
    box.open()
    yield site, [row[0] for row in box.rows("select id from sale order by created_at")]
    box.database.dispose()
    box.reader.dispose()


def test_sales_are_listed_newest_first(ask, run, pumped):
    site, ids = pumped
    found = ask("sales", "--config", site)["sales"]
    assert [sale["sale_id"] for sale in found] == ids[::-1]
    assert [sale["state"] for sale in found] == ["grey", "nothing", "billed"]
    assert [sale["sale_id"] for sale in ask("sales", "--open", "--config", site)["sales"]] == [ids[2]]
    shown = run("sales", "--config", site, "--lang", "zh").stdout
    assert "待查" in shown
    assert "78.50" in shown
    assert "测A00001" not in shown


def test_one_sale_is_shown_with_its_proof(ask, run, pumped):
    site, ids = pumped
    sale = ask("sales", "show", ids[0], "--config", site)

    assert (sale["volume_ml"], sale["amount_fen"], sale["unit_price_milli"]) == (ML, FEN, 7850)
    assert (sale["volume_before_ml"], sale["volume_after_ml"]) == (1_209_090, 1_219_090)
    assert sale["proof"] == "island_antenna 6:0"
    assert "island_antenna" in run("sales", "show", sale["debit_id"], "--config", site).stdout
    run("sales", "show", "0" * 32, "--config", site, code=1)


def test_a_receipt_has_what_an_invoice_needs_and_exists_for_what_was_billed(ask, run, pumped):
    site, ids = pumped
    receipt = ask("sales", "receipt", ids[0], "--config", site)

    assert (receipt["amount_fen"], receipt["currency"], receipt["grade"]) == (FEN, "CNY", "92")
    slip = run("sales", "receipt", ids[0], "--config", site, "--lang", "zh").stdout
    assert "10.00" in slip
    assert "78.50" in slip
    assert ask("sales", "receipt", ids[2], "--config", site, code=1)["error"]["code"] == "sale_not_billed"


def test_litres_that_no_sale_explains_are_told(ask, run, pumped):
    site, ids = pumped
    found = ask("sales", "reconcile", "--config", site, code=1)
    assert found.pop("error")["code"] == "litres_unexplained"
    compare("sales-reconcile", shape(found))
    (nozzle,) = found["nozzles"]
    assert (nozzle["sales"], nozzle["open"], nozzle["unexplained_ml"]) == (3, 1, ML)
    run("sales", "settle", ids[2], "--volume-ml", ML, "--amount", FEN, "--reason", "display", "--config", site)
    (nozzle,) = ask("sales", "reconcile", "--config", site)["nozzles"]
    assert (nozzle["volume_ml"], nozzle["amount_fen"]) == (2 * ML, 2 * FEN)


def test_a_person_says_what_was_delivered(ask, run, pumped):
    site, ids = pumped
    settle = ("sales", "settle", ids[2], "--reason", "looked", "--config", site)
    run(*settle, code=2)
    run(*settle, "--nothing", "--amount", 1, code=2)
    assert ask(*settle, "--nothing")["sale_id"] == ids[2]
    assert ask("sales", "show", ids[2], "--config", site)["state"] == "nothing"
    assert ask(*settle, "--nothing", code=1)["error"]["code"] == "sale_settled"


def test_without_a_sale_there_is_none(run, site, ledger):
    assert "no sale" in run("sales", "--config", site).stderr
