"""Transactions of DART: what the vectors state, both ways, and what does not fit."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump import types
from protocols.pump.dart import framing, layout
from protocols.pump.dart.layout import DECLARED, Sender
from protocols.pump.dart.meanings import OrderCode, Status
from protocols.pump.dart.readings import readings, steps
from protocols.pump.types import Decimals, SideState
from tests.protocols.pump.samples import DART_GOOD, Vector, dart

ids = {"ids": lambda vector: vector.id}
BLOCKS = tuple(vector for vector in DART_GOOD if vector.decoded["ctrl"] == "DATA")


def sender(vector: Vector) -> Sender:
    return {"controller->pump": Sender.CONTROLLER, "pump->controller": Sender.PUMP}[vector.direction]


def read(vector: Vector) -> tuple[layout.Transaction, ...]:
    return layout.read(framing.unwrap(vector.raw).data, sender(vector))


def stated(one: layout.Transaction) -> object:
    """The transaction the way the vectors state one, under its name."""
    match one:
        case layout.Order(order):
            return {"CD1": OrderCode(order).name}
        case layout.PumpStatus(status):
            return {"DC1": Status(status).name}
        case layout.AllowNozzles(nozzles):
            return {"CD2": {"allowed_nozzles": list(nozzles)}}
        case layout.SetPrices(prices):
            return {"CD5": {"prices_raw": [price.price_raw for price in prices]}}
        case layout.NozzlePrice():
            found = {"price_raw": one.price_raw, "nozzle": one.nozzle, "nozzle_out": one.nozzle_out}
            return {"DC3": found}
        case layout.Total():
            return {"DC101": {"layout": "6"} | dataclasses.asdict(one)}
        case layout.BothTotals():
            return {"DC101": {"layout": "13"} | dataclasses.asdict(one)}
        case layout.MeteredTotal():
            return {"DC101": {"layout": "16"} | dataclasses.asdict(one)}
        case layout.PresetAmount():
            return {"CD4": dataclasses.asdict(one)}
        case layout.AskTotal():
            return {"CD101": dataclasses.asdict(one)}
        case layout.Filled():
            return {"DC2": dataclasses.asdict(one)}
    raise AssertionError(one)


@pytest.mark.parametrize("vector", BLOCKS, **ids)
def test_vector_says_what_it_states_and_is_written_the_same(vector: Vector) -> None:
    found = read(vector)
    expected = [
        {key: value for key, value in one.items() if key not in ("trans", "lng", "data")}
        for one in vector.decoded["transactions"]
    ]
    assert [stated(one) for one in found] == expected
    data = framing.unwrap(vector.raw).data
    assert layout.write(*found) == data
    parts = [(f"{one.code:02X}", one.length, one.body.hex(" ").upper()) for one in layout.slices(data, sender(vector))]
    assert parts == [(one["trans"], one["lng"], one["data"]) for one in vector.decoded["transactions"]]


def test_direction_is_kept() -> None:
    for data in (b"\x01\x01\x05", b"\x03\x04\x00\x12\x34\x11"):
        (ours,), (theirs,) = layout.read(data, Sender.CONTROLLER), layout.read(data, Sender.PUMP)
        assert type(ours) is not type(theirs)
        assert layout.write(ours) == layout.write(theirs) == data


EXAMPLES = {
    layout.Order: layout.Order(0x0A),
    layout.AllowNozzles: layout.AllowNozzles((1, 2, 4)),
    layout.PresetVolume: layout.PresetVolume(12345678),
    layout.PresetAmount: layout.PresetAmount(99999999),
    layout.SetPrices: layout.SetPrices((layout.Price(1), layout.Price(999999))),
    layout.SwitchOutput: layout.SwitchOutput(3, 1),
    layout.SetParameters: layout.SetParameters(b"\x01\x02\x03"),
    layout.FillingType: layout.FillingType(1),
    layout.SuspendNozzle: layout.SuspendNozzle(0),
    layout.ResumeNozzle: layout.ResumeNozzle(0),
    layout.AskTotal: layout.AskTotal(0x12),
    layout.PumpStatus: layout.PumpStatus(8),
    layout.Filled: layout.Filled(2547, 19994),
    layout.NozzlePrice: layout.NozzlePrice(785, 0x92),
    layout.Alarm: layout.Alarm(0x0A),
    layout.Parameters: layout.Parameters(
        bytes(22), 2, 2, 3, b"\x00", bytes.fromhex("00999900"), tuple(range(15)), b"\x01\x02"
    ),
    layout.Identity: layout.Identity("1234567890"),
    layout.Suspended: layout.Suspended(0),
    layout.Resumed: layout.Resumed(0),
    layout.Total: layout.Total(1, 9999999999),
    layout.MeteredTotal: layout.MeteredTotal(1, 1, 2, 3),
    layout.BothTotals: layout.BothTotals(1, 123456, 969130),
    layout.StandAlone: layout.StandAlone(b"\x00\x01"),
    layout.PumpPrices: layout.PumpPrices((layout.Price(785),)),
}


@pytest.mark.parametrize("declared", DECLARED, ids=lambda one: f"{one.name}-{one.value.__name__}")
def test_every_declared_transaction_goes_both_ways_and_has_names_and_words(declared: layout.Declared) -> None:
    value = EXAMPLES[declared.value]
    data = layout.write(value)
    assert layout.read(data, declared.sender) == (value,)
    other = Sender.PUMP if declared.sender is Sender.CONTROLLER else Sender.CONTROLLER
    try:
        assert layout.read(data, other) != (value,)
    except RemoteProtocolError:
        pass
    fields = declared.fields(data[1])
    assert fields is not None
    leaves = [leaf for one in fields for leaf in getattr(one, "fields", (one,))]
    assert all(leaf.zh and leaf.meaning for leaf in leaves)
    assert declared.source


def test_unknown_transaction_is_kept_whole_and_the_next_one_read() -> None:
    data = b"\x44\x02\xaa\xbb\x01\x01\x05"
    found = layout.read(data, Sender.PUMP)
    assert found == (layout.Unmodelled(0x44, b"\xaa\xbb"), layout.PumpStatus(5))
    assert layout.write(*found) == data


@pytest.mark.parametrize(
    ("data", "field", "offset"),
    [
        ("01", "LNG", 1),
        ("0102", "LNG", 1),
        ("01010502", "LNG", 4),
        ("010105020800000000", "LNG", 4),
        ("02070000000000000000"[:18], "LNG", 1),
        ("02080000000a00000000", "volume_raw", 2),
        ("02080000000000f00000", "amount_raw", 6),
        ("01010503040007a511", "price_raw", 5),
        ("6507" + "00" * 7, "LNG", 1),
    ],
)
def test_what_does_not_fit_is_told_by_field_and_place(data: str, field: str, offset: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        layout.read(bytes.fromhex(data), Sender.PUMP)
    assert (caught.value.field, caught.value.offset) == (field, offset)
    assert caught.value.hint


def test_prices_of_no_whole_number_of_nozzles_are_told() -> None:
    for length in (0, 4, 48):
        with pytest.raises(RemoteProtocolError, match="3 a nozzle") as caught:
            layout.read(bytes((5, length)) + bytes(length), Sender.CONTROLLER)
        assert (caught.value.field, caught.value.offset) == ("LNG", 1)


def test_values_too_large_are_refused() -> None:
    for value in (
        layout.PresetAmount(100_000_000),
        layout.PresetAmount(-1),
        layout.SetPrices((layout.Price(1_000_000),)),
        layout.AllowNozzles(()),
        layout.AllowNozzles(tuple(range(16))),
        layout.Order(256),
    ):
        with pytest.raises(LocalProtocolError):
            layout.write(value)


SALES = {
    "dart-col-01": Decimals(volume=3, amount=0, price=0),
    "dart-uz-06": Decimals(volume=2, amount=0, price=0),
    "dart-uz-07": Decimals(volume=2, amount=0, price=0),
    "dart-cn-10": Decimals(),
}


@pytest.mark.parametrize("name", SALES)
def test_recorded_sale_is_volume_times_price(name: str) -> None:
    decimals = SALES[name]
    found = read(dart(name))
    (filled,) = (one for one in found if isinstance(one, layout.Filled))
    prices = {one.price_raw for one in found if isinstance(one, layout.NozzlePrice)} or {10500}
    (price,) = prices
    exact = Fraction(filled.volume_raw * price, 10 ** (decimals.volume + decimals.price - decimals.amount))
    assert filled.amount_raw == int(exact + Fraction(1, 2))
    (delivered,) = (one for one in readings(found, decimals) if isinstance(one, types.Delivered))
    assert decimals.explains(delivered, decimals.unit_price_milli(price))
    other = dataclasses.replace(delivered, amount_minor=delivered.amount_minor + 2 * 10 ** (2 - decimals.amount))
    assert not decimals.explains(other, decimals.unit_price_milli(price))


def test_readings_of_a_chinese_sale() -> None:
    assert readings(read(dart("dart-cn-10")), Decimals()) == (
        types.NozzleSeen(1, out=False, unit_price_milli=7850),
        types.Delivered(25_470, 19_994),
        types.StateSeen(SideState.COMPLETED),
    )
    assert readings(read(dart("dart-cn-14")), Decimals()) == (types.TotalsSeen(1, 1_234_560, 969_130),)
    assert readings(read(dart("dart-ksa-20")), Decimals()) == (types.TotalsSeen(1, 106_340, None),)
    assert readings((layout.Total(0x11, 5), layout.PumpStatus(3)), Decimals()) == (types.TotalsSeen(1, None, 5),)
    (alarm,) = readings((layout.Alarm(0x0A),), Decimals())
    assert isinstance(alarm, types.AlarmSeen)
    assert alarm.words.en == "power failure"


def test_commands_are_the_blocks_of_the_constructed_sale() -> None:
    sent = {
        "dart-cn-01": steps(types.SetPrices((7850,)), Decimals()),
        "dart-cn-02": steps(types.Clear(), Decimals()),
        "dart-cn-11": steps(types.AskDelivered(), Decimals()),
        "dart-ksa-19": steps(types.AskTotals(1), Decimals()),
        "dart-ksa-01": steps(types.AskState(), Decimals()),
    }
    for name, (step,) in sent.items():
        assert framing.unwrap(dart(name).raw).data == layout.write(step), name
    authorised = steps(types.Authorise(types.AmountLimit(200_00)), Decimals())
    names = ("dart-cn-05", "dart-cn-06", "dart-cn-07")
    assert [layout.write(step) for step in authorised] == [framing.unwrap(dart(name).raw).data for name in names]
    assert steps(types.Authorise(types.VolumeLimit(30_009)), Decimals())[1] == layout.PresetVolume(3000)


def test_limit_that_the_pump_cannot_hold_is_refused_before_anything_is_sent() -> None:
    for limit in (types.AmountLimit(0), types.AmountLimit(99), types.VolumeLimit(9), types.AmountLimit(10**12)):
        with pytest.raises(LocalProtocolError):
            steps(types.Authorise(limit), Decimals(amount=0))
    with pytest.raises(LocalProtocolError, match="decimals"):
        steps(types.SetPrices((7855,)), Decimals())


def test_decimals_finer_than_ours_are_refused() -> None:
    for odd in ({"volume": 4}, {"amount": 3}, {"price": -1}):
        with pytest.raises(LocalProtocolError, match="decimals"):
            Decimals(**odd)


def test_amounts_are_rounded_half_up_at_the_pumps_last_place() -> None:
    assert Decimals().amount_of(25_470, 7_850) == 19_994
    assert Decimals().amount_of(100, 7_850) == 79  # 0.785; half to even would give 0.78
    assert Decimals(volume=2, amount=0, price=0).amount_of(18_290, 10_500_000) == 192_045_00
    assert not Decimals().explains(types.Delivered(None, 100), 7_850)
