"""What an emulated antenna is told to lie about, and that it lies about nothing else."""

import asyncio
import random

import pytest

from hardware.emulators.road import AntennaPsam, Event, Fault, FaultKind, Forgery, Script, SpecError, VehicleSpec, build
from hardware.emulators.rsu_air import FORGED_TAC, Air, Spell
from protocols.rsu.messages import Continue, Debit, FetchTac, RecoverTac

TERMINAL = bytes.fromhex("019900000042")
CAR = {
    "id": "car",
    "plate": "测A00001",
    "obu": {"id": "99000001", "serial": "9901230100000001"},
    "card": {"type": 22, "inner_number": "2301220100000001", "balance_fen": 50_000, "serial_start": 40},
}
STATION = bytes.fromhex("aa2900") + bytes(40)
AMOUNT = 1425


def test_a_forgery_is_read_from_json():
    told = {
        "debits": True,
        "balance_unchanged": True,
        "balance_off_fen": -7,
        "card_serial": 41,
        "terminal": "019900000001",
        "psam_serial": 9,
        "tac": "a0b1c2d3",
    }
    assert Forgery.from_json(told) == Forgery(
        True, True, -7, 41, bytes.fromhex("019900000001"), 9, bytes.fromhex("a0b1c2d3")
    )
    assert Forgery.from_json({}) == Forgery()


@pytest.mark.parametrize(
    ("told", "key"),
    [
        (None, "forgery"),
        ({"debit": True}, "forgery.debit"),
        ({"debits": 1}, "forgery.debits"),
        ({"balance_off_fen": "7"}, "forgery.balance_off_fen"),
        ({"card_serial": 65_536}, "forgery.card_serial"),
        ({"psam_serial": -1}, "forgery.psam_serial"),
        ({"terminal": "0199"}, "forgery.terminal"),
        ({"tac": "not hex!"}, "forgery.tac"),
    ],
    ids=str,
)
def test_a_slip_of_the_pen_is_an_error_that_names_the_key(told, key):
    with pytest.raises(SpecError, match=f"^{key}: "):
        Forgery.from_json(told)


def on_air(*faults, orders):
    """What the antenna reports to these orders, the vehicle, and what happened to it."""

    async def run():
        vehicle = build(VehicleSpec.from_json(CAR), Script(), 1)
        psam = AntennaPsam(mode="bench", terminal=TERMINAL, random=random.Random(1).randbytes)
        seen = []
        air = Air(
            psam,
            random.Random(2),
            lambda _, event: seen.append(event),
            stepwise=False,
            station=bytes(4),
            clock=lambda: 0,
        )
        for fault in faults:
            vehicle.script.arm(fault)
        this = air.begin(vehicle, Spell(), radio_ms=1, search_ms=1)
        reports = [await air.work(this, order(vehicle)) for order in orders]
        return reports, vehicle, seen

    return asyncio.run(run())


def read(vehicle):
    return Continue(vehicle.obu_id, bytes(8))


def buy(vehicle):
    return Debit(vehicle.obu_id, bytes(8), AMOUNT, "20261123100000", STATION)


def test_a_purchase_that_nobody_made():
    (user, result), vehicle, seen = on_air(Fault(FaultKind.FORGE_RESULT, 1), orders=(read, buy))
    assert (user.balance_raw, vehicle.purse.balance_fen(), vehicle.card.offline_sequence) == (50_000, 50_000, 40)
    assert (result.error, result.tac, result.balance_raw) == (0, FORGED_TAC, 50_000 - AMOUNT)
    assert (result.terminal, result.card_serial, result.psam_serial) == (TERMINAL, 41, 1)
    assert seen == [Event.FORGED]


@pytest.mark.parametrize(
    ("forgery", "balance"),
    [
        (Forgery(balance_unchanged=True), 50_000),
        (Forgery(balance_off_fen=3), 50_000 - AMOUNT + 3),
        (Forgery(debits=True, balance_off_fen=-3), 50_000 - AMOUNT - 3),
    ],
)
def test_another_balance(forgery, balance):
    (result,), vehicle, _ = on_air(Fault(FaultKind.FORGE_RESULT, 1, forgery=forgery), orders=(buy,))
    assert result.balance_raw == balance
    assert vehicle.purse.balance_fen() == (50_000 - AMOUNT if forgery.debits else 50_000)


def test_other_serials_and_another_tac():
    forgery = Forgery(card_serial=7, terminal=bytes(6), psam_serial=8, tac=b"TAC1")
    (result,), _, _ = on_air(Fault(FaultKind.FORGE_RESULT, 1, forgery=forgery), orders=(buy,))
    assert (result.card_serial, result.terminal, result.psam_serial, result.tac) == (7, bytes(6), 8, b"TAC1")
    assert result.balance_raw == 50_000 - AMOUNT


def test_a_file_that_is_shown_as_it_was_to_be_written():
    faults = (Fault(FaultKind.PURCHASE_REFUSED, 1), Fault(FaultKind.FORGE_READING, 1))
    (before, result, shown, true), vehicle, seen = on_air(*faults, orders=(read, buy, read, read))
    assert (result.error, vehicle.card.offline_sequence) == (0x11, 40)
    assert (shown.station, shown.balance_raw) == (STATION, 50_000)
    assert true.station == before.station != STATION
    assert seen == [Event.FORGED]


@pytest.mark.parametrize("order", [FetchTac, RecoverTac])
def test_a_proof_with_another_balance(order):
    def fetch(vehicle):
        if order is FetchTac:
            return FetchTac(vehicle.obu_id, 41)
        return RecoverTac(vehicle.obu_id, bytes(8), "20261123100000", STATION[7:])

    forgery = Forgery(balance_off_fen=5)
    (_, proof, true), _, seen = on_air(Fault(FaultKind.FORGE_PROOF, 1, forgery=forgery), orders=(buy, fetch, fetch))
    assert (proof.error, proof.tac, proof.balance_raw) == (0, true.tac, true.balance_raw + 5)
    assert Event.FORGED in seen
