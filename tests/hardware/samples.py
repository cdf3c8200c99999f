"""What tests of the emulated antenna have in common: a car, an exit, an order to start, and how to ask about them."""

from contextlib import asynccontextmanager

from hardware.emulators.control import ControlClient
from hardware.emulators.test_keys import ROOTS
from protocols.card import station_new
from protocols.card.psam import KeyKind
from protocols.crypto import Algorithm, Trade, diversify, tac
from protocols.rsu.messages import Initialise
from protocols.rsu.registry import dialect_named

V3 = dialect_named("pcrsu-v3")
PATIENCE_S = 300.0
"""A test that should see something waits this long before it fails; no passing test waits for it."""
QUIET_S = 0.3
"""How long a test looks for something that must not come. Seeing nothing proves nothing on a slow machine; a broken
antenna on a usual one fails."""
TERMINAL = bytes.fromhex("019900000001")
FACTOR = bytes.fromhex("B2E2CAD4B2E2CAD4")
TIME = "20250712093000"
UNIX = 1752283800
ENTRY = {"station": "0101", "lane": 2, "unix_seconds": 1752280200}

C0 = Initialise(
    unix_seconds=UNIX,
    datetime_bcd=TIME,
    lane_mode=4,
    bst_interval_ms=10,
    tx_power=20,
    pll_channel=1,
    trans_mode=1,
    flag_id=bytes.fromhex("371102"),
    reserved=bytes(2),
)
"""To an antenna that talks `pcrsu-v3`."""

QUICK = {"radio_ms": 10, "search_ms": 0, "search_pause_s": 0.02}
"""An antenna that takes no more time than it must."""


def car(number=1, **changes):
    """A vehicle in JSON: stored-value card with 500.00, in from station 0101."""
    spec = {
        "id": f"car-{number}",
        "plate": f"测A{number:05d}",
        "obu": {"id": f"9900{number:04x}", "serial": f"9901230100{number:06d}"},
        "card": {"type": 22, "inner_number": f"23012201{number:08d}", "balance_fen": 50_000},
        "station": dict(ENTRY),
    }
    for key, value in changes.items():
        spec[key] = {**spec[key], **value} if isinstance(value, dict) and isinstance(spec.get(key), dict) else value
    return spec


def record(station="0102", *, status=4, lane=9):
    """File 0019 as car-1 gets it, at the exit unless told otherwise."""
    return station_new(
        network="9901",
        station=station,
        lane=lane,
        unix_seconds=UNIX,
        vehicle_class=1,
        status=status,
        plate="测A00001",
        plate_colour=0,
    )


EXIT = record()


def true_tac(result, amount_fen, inner_number="2301220100000001"):
    """The TAC of a composite purchase, from the published root and what the report says."""
    leaf = diversify(ROOTS[KeyKind.TAC, Algorithm.DES3], (FACTOR, bytes.fromhex(inner_number)), Algorithm.DES3)
    trade = Trade(amount_fen, 9, result.terminal)
    return tac(leaf, trade, result.psam_serial, bytes.fromhex(result.trans_time_bcd), Algorithm.DES3)


@asynccontextmanager
async def started(device):
    """An emulator or a bad line, started, with a client of its control socket. Its own bug fails the test."""
    await device.start()
    try:
        async with await ControlClient.connect(*device.control_address) as control:
            yield device, control
    finally:
        failure = device.failure
        await device.close()
        if not failure.cancelled() and failure.done():
            failure.result()


async def card(control, name="car-1"):
    """The account of a card."""
    return next(item for item in (await control.request("cards"))["cards"] if item["id"] == name)


async def state(control, name="car-1"):
    """Where a vehicle stands."""
    return next(item for item in (await control.request("vehicles"))["vehicles"] if item["id"] == name)


async def wait(control, event, count=1, name="car-1"):
    """Until this has happened to a vehicle so often."""
    return await control.request("wait", id=name, event=event, count=count, timeout_ms=int(PATIENCE_S * 1000))
