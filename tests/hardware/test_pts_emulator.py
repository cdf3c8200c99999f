"""The emulated pump controller as a program, steered by its control socket."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import datetime

import pytest

from hardware.emulators.control import ControlError, SyncControlClient, parse_address
from hardware.emulators.pts import PTS_ID
from hardware.emulators.pts_pump import Meter, Pump, Sale, amount_minor
from protocols.http_login import Login, basic_header
from protocols.pump.jsonpts.messages import Preset, TransactionState

START = datetime(2026, 1, 1)  # noqa: DTZ001 - local by definition
ADMIN = basic_header(Login("admin", "admin"))


@pytest.fixture
def controller():
    command = [sys.executable, "-m", "hardware.emulators.pts", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--basic", "--rate-ml-s", "100000"], stdout=subprocess.PIPE, text=True) as process:
        try:
            _, address, _, control = process.stdout.readline().split()
            with SyncControlClient(*parse_address(control)) as steering:
                yield f"http://{address}/jsonPTS", steering
        finally:
            process.terminate()
        assert process.wait() == 0


def ask(address, kind, **data):
    packet = {"Id": 1, "Type": kind} | ({"Data": data} if data else {})
    body = json.dumps({"Protocol": "jsonPTS", "Packets": [packet]}).encode()
    request = urllib.request.Request(address, body, {"Authorization": ADMIN})  # noqa: S310 - loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        [packet] = json.load(answer)["Packets"]
    return packet


def test_controller_answers_and_is_steered(controller):
    address, steering = controller
    assert ask(address, "GetUniqueIdentifier")["Data"] == {"Id": PTS_ID}
    confirmed = ask(address, "PumpAuthorize", Pump=3, Nozzle=1, Type="Volume", Dose=20)
    assert confirmed["Data"] == {"Pump": 3, "Transaction": 1}
    steering.request("lift", pump=3, nozzle=1)
    state = steering.request("wait", pump=3, state="EndOfTransaction")
    assert state["pumps"]["3"]["amount_minor"] == 15_700
    assert ask(address, "PumpCloseTransaction", Pump=3, Transaction=2)["Code"] == 27
    assert ask(address, "PumpCloseTransaction", Pump=3, Transaction=1)["Message"] == "OK"
    assert ask(address, "PumpGetTransactionInformation", Pump=3, Transaction=1)["Data"]["State"] == "Finished"
    assert ask(address, "PumpGetTransactionInformation", Pump=3, Transaction=9)["Data"]["State"] == "Not found"
    assert steering.request("jump", pump=3, nozzle=1, volume_ml=5000) == {"total_ml": 25_000}
    assert ask(address, "PumpGetLastSavedTotals", Pump=3)["Data"]["Nozzles"][0]["Volume"] == 25
    steering.request("refuse", type="PumpLock", code=96)
    assert ask(address, "PumpLock", Pump=3)["Code"] == 96
    assert ask(address, "PumpLock", Pump=3)["Message"] == "OK"
    assert ask(address, "PumpEmergencyStop", Pump=3)["Message"] == "OK"
    assert ask(address, "PumpGetStatus", Pump=9)["Code"] == 52
    assert ask(address, "MakeNonExistingRequest")["Message"] == "JSONPTS_ERROR_NOT_FOUND"
    assert "PumpLock" in steering.request("requests")["requests"]
    with pytest.raises(ControlError, match="pump 9 is not one of"):
        steering.request("lift", pump=9)


def test_stranger_is_challenged(controller):
    address, _ = controller
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(address, b"{}"))  # noqa: S310
    assert caught.value.code == 401
    assert caught.value.headers["WWW-Authenticate"] == 'Basic realm="PTS-2"'
    caught.value.close()


@pytest.mark.parametrize(
    ("preset", "dose", "volume_ml"),
    [(Preset.VOLUME, 25_475, 25_470), (Preset.AMOUNT, 20_000, 25_470), (Preset.FULL_TANK, 0, 60_000)],
)
def test_flow_takes_its_time_and_stops_before_the_limit(preset, dose, volume_ml):
    pump = Pump(1, [Meter(7850)], rate_ml_s=600.0)
    pump.authorise(Sale(transaction=1, nozzles=(1,), preset=preset, dose=dose, user="u"), 0.0, START)
    pump.lift(1, 10.0, START)
    pump.flow(11.0, START)
    assert pump.sale.volume_ml == 600
    pump.flow(110.0, START)
    pump.hang_up(110.0, START)
    assert pump.sale.volume_ml == volume_ml == pump.meters[0].total_ml
    assert pump.meters[0].total_minor == pump.sale.amount_minor == amount_minor(volume_ml, 7850)
    assert pump.sale.state is TransactionState.END_OF_TRANSACTION


def test_permission_without_delivery_is_gone_with_the_nozzle():
    pump = Pump(1, [Meter(7850)])
    pump.authorise(Sale(transaction=1, nozzles=(1,), preset=Preset.AMOUNT, dose=100, user="u"), 0.0, START)
    pump.lift(1, 0.0, START)
    pump.hang_up(0.0, START)
    assert pump.sale is None


def test_half_a_fen_is_rounded_up():
    assert amount_minor(100, 7850) == 79
    assert amount_minor(25_470, 7850) == 19_994
