"""A machine on which a part of PC/SC is missing: one sentence says which, with its cure, and all else goes on."""

import asyncio
import ctypes
import os
import subprocess
import sys

import pytest

from drivers.errors import DeviceUnavailable, RequestOutcome
from drivers.pcsc import Readers
from hardware.bench.pcsc_daemon import SOCKET_VARIABLE
from tests import pcsc as service

BLOCKED = """
import ctypes, sys
ctypes.CDLL = lambda name: None  # here or not
sys.modules["smartcard"] = None
from gateway.cli.main import app
app(sys.argv[1:])
"""


def etcgw(*arguments, program=("-m", "gateway.cli.main"), **more):
    command = [sys.executable, *program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def without_pyscard(*arguments):
    return etcgw(*arguments, program=("-c", BLOCKED))


@pytest.mark.parametrize(
    "arguments", [["readers"], ["card", "watch"], ["card", "apdu", "00A40000021001"], ["card", "read"]]
)
def test_without_pyscard_the_commands_of_cards_say_what_to_install(arguments):
    done = without_pyscard(*arguments)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "pyscard is not installed" in done.stderr
    assert "pip install 'etc-gateway[cards]'" in done.stderr


def test_without_pyscard_the_program_starts():
    done = without_pyscard("readers", "--help")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(service.problem() is not None, reason=str(service.problem()))
@pytest.mark.parametrize("arguments", [["readers"], ["card", "apdu", "00A40000021001"]])
def test_without_a_service_they_say_how_to_start_it(arguments, tmp_path):
    nowhere = os.environ | {SOCKET_VARIABLE: str(tmp_path / "nowhere")}
    done = etcgw(*arguments, env=nowhere)
    assert done.returncode == 3, done.stderr
    assert "the PC/SC service does not run" in done.stderr
    assert "systemctl start pcscd.socket" in done.stderr


def test_without_the_library_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    async def listed():
        async with Readers() as readers:
            return await readers.listed()

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceUnavailable, match="the PC/SC library is missing") as raised:
        asyncio.run(listed())
    assert "libpcsclite1" in raised.value.hint
    assert raised.value.outcome is RequestOutcome.NOT_SENT
