"""Sides of a controller in the words that every pump shares."""

from datetime import datetime
from decimal import Decimal

import pytest

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.jsonpts import messages as m
from protocols.pump.jsonpts.sides import SaleKey, readings, request, uploaded_sale
from protocols.pump.types import (
    AmountLimit,
    AskDelivered,
    AskState,
    AskTotals,
    Authorise,
    Clear,
    Decimals,
    Delivered,
    NozzleSeen,
    Resume,
    SetPrices,
    SideState,
    StateSeen,
    Stop,
    Suspend,
    TotalsSeen,
    VolumeLimit,
)

CHINA = Decimals(volume=2, amount=2, price=2)
YUAN = Decimal("7.85")


def seen(status):
    found = list(readings(status, CHINA))
    assert {side for side, _ in found} == {status.pump}
    return [reading for _, reading in found]


STATES = [
    (m.PumpIdleStatus(pump=1, nozzle_up=0), SideState.IDLE),
    (m.PumpIdleStatus(pump=1, nozzle_up=2), SideState.CALLING),
    (m.PumpIdleStatus(pump=1, nozzle_up=2, transaction=135), SideState.AUTHORISED),
    (m.PumpIdleStatus(pump=1, nozzle_up=0, transaction=135), SideState.AUTHORISED),
    (m.PumpFillingStatus(pump=1), SideState.FUELLING),
    (m.PumpFillingStatus(pump=1, is_suspended=True), SideState.SUSPENDED),
    (m.PumpFillingStatus(pump=1, volume="0.00"), SideState.AUTHORISED),
    (m.PumpFillingStatus(pump=1, volume="0.01"), SideState.FUELLING),
    (m.PumpEndOfTransactionStatus(pump=1), SideState.COMPLETED),
    (m.PumpEndOfTransactionStatus(pump=1, nozzle_up=2), SideState.STOPPED),
    (m.PumpOfflineStatus(pump=1, state=m.TransactionState.END_OF_TRANSACTION), SideState.FAULT),
]


@pytest.mark.parametrize(("status", "state"), STATES, ids=lambda value: getattr(value, "name", type(value).__name__))
def test_each_status_means_one_state(status, state):
    assert seen(status)[0] == StateSeen(state)


def test_calling_nozzle_comes_with_its_price():
    status = m.PumpIdleStatus(pump=1, nozzle_up=2, nozzle_prices=("7.50", YUAN))
    assert seen(status)[1:] == [NozzleSeen(2, True, 7850)]
    assert seen(m.PumpIdleStatus(pump=1, nozzle_up=3, nozzle_prices=(YUAN,)))[1:] == [NozzleSeen(3, True)]
    assert seen(m.PumpIdleStatus(pump=1))[1:] == [NozzleSeen(0, False)]


def test_delivery_and_totals_come_in_the_smallest_units_as_the_pump_says_them():
    end = m.PumpEndOfTransactionStatus(
        pump=1, nozzle=1, nozzle_up=0, volume="25.47", amount="199.94", price=YUAN, total_volume="1234.56"
    )
    delivered = Delivered(25_470, 19_994, 7850)
    assert seen(end)[1:] == [NozzleSeen(1, False, 7850), delivered, TotalsSeen(1, 1_234_560, None)]
    assert CHINA.explains(delivered, 7850)
    assert seen(m.PumpTotals(pump=1, nozzle=2, volume="0.001", amount=3)) == [TotalsSeen(2, 1, 300)]
    saved = m.PumpLastSavedTotals(pump=1, nozzles=({"nozzle": 1, "volume": 5}, {"nozzle": 2, "volume": 6}))
    assert seen(saved) == [TotalsSeen(1, 5000, None), TotalsSeen(2, 6000, None)]


def test_pump_that_is_off_line_tells_nothing_that_could_be_billed():
    status = m.PumpOfflineStatus(pump=1, volume="25.47", amount="199.94", state="EndOfTransaction")
    assert seen(status) == [StateSeen(SideState.FAULT)]


def test_fraction_of_a_minor_unit_is_refused_and_never_rounded():
    status = m.PumpFillingStatus(pump=1, amount="199.945")
    with pytest.raises(RemoteProtocolError) as caught:
        seen(status)
    assert caught.value.field == "Amount"
    assert "decimal digits of the controller" in caught.value.hint


def test_alert_of_a_pump_has_words_and_one_of_the_controller_is_no_reading():
    alert = {"date_time": datetime(2026, 1, 1), "state": "Detected", "configuration_id": ""}  # noqa: DTZ001
    [(side, reading)] = readings(m.UploadAlertRecord(device_type="Pump", device_number=3, code=22, **alert), CHINA)
    assert (side, reading.code, reading.words.en) == (3, 22, "delivered above the limit at nozzle 2")
    [(_, unknown)] = readings(m.UploadAlertRecord(device_type="Pump", device_number=3, code=99, **alert), CHINA)
    assert unknown.words.en == "alert 99"
    assert not list(readings(m.UploadAlertRecord(device_type="PTS", device_number=0, code=1, **alert), CHINA))


COMMANDS = [
    (AskState(), m.PumpGetStatus(pump=3)),
    (AskDelivered(), m.PumpGetStatus(pump=3)),
    (SetPrices((7500, 7850)), m.PumpSetPrices(pump=3, prices=("7.50", "7.85"))),
    (Stop(), m.PumpStop(pump=3)),
    (Suspend(), m.PumpSuspend(pump=3)),
    (Resume(), m.PumpResume(pump=3)),
    (AskTotals(2), m.PumpGetTotals(pump=3, nozzle=2)),
    (Clear(), m.PumpCloseTransaction(pump=3, transaction=31)),
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS, ids=lambda value: type(value).__name__)
def test_each_command_is_one_request(command, expected):
    assert request(command, 3, CHINA, transaction=31) == expected


def test_authorisation_never_allows_more_than_the_limit_and_stays_open_until_it_is_stored():
    order = request(Authorise(VolumeLimit(25_479), (2,)), 3, CHINA, unit_prices_milli=(7500, 7850), tag="0A1B")
    assert order == m.PumpAuthorize(
        pump=3,
        nozzle=2,
        type="Volume",
        dose="25.47",
        price="7.85",
        auto_close_transaction=False,
        tag="0A1B",
        no_tag_verification=True,
    )
    order = request(Authorise(AmountLimit(20_000), (1, 2)), 3, CHINA, unit_prices_milli=(7500, 7850))
    assert order == m.PumpAuthorize(pump=3, nozzles=(1, 2), type="Amount", dose="200.00", auto_close_transaction=False)


def test_commands_that_cannot_be_given_are_refused():
    with pytest.raises(LocalProtocolError) as caught:
        request(Clear(), 3, CHINA)
    assert caught.value.field == "transaction"
    with pytest.raises(LocalProtocolError):
        request(Authorise(VolumeLimit(5)), 3, CHINA)
    with pytest.raises(LocalProtocolError):
        request(SetPrices((7855,)), 3, CHINA)


def test_uploaded_sale_is_known_again_by_its_key():
    start, end = datetime(2026, 1, 1, 8), datetime(2026, 1, 1, 8, 5)  # noqa: DTZ001
    push = m.UploadPumpTransaction(
        date_time_start=start,
        date_time=end,
        pump=3,
        nozzle=1,
        transaction=15,
        volume="25.47",
        price=YUAN,
        amount="199.94",
        total_volume="1234.56",
        is_offline=True,
    )
    sale = uploaded_sale("003A", push, CHINA)
    assert sale.key == SaleKey("003A", 3, 15, start)
    assert (sale.ended, sale.nozzle, sale.tag, sale.by_hand) == (end, 1, "", True)
    assert (sale.delivered, sale.totals) == (Delivered(25_470, 19_994, 7850), TotalsSeen(1, 1_234_560, None))
    assert uploaded_sale("003A", push.model_copy(update={"transaction": 16}), CHINA).key != sale.key
