"""Card services of one's own: beside each other, after a crash, for anybody, and gone when they are stopped."""

import multiprocessing
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from hardware.bench import pcsc_daemon
from hardware.bench.measure_cards import bare_median_s, median_s
from hardware.bench.pcsc_daemon import PcscDaemon, ServiceFailed, ServiceMissing
from hardware.bench.waiting import STUCK_S
from hardware.emulators.card import make_card
from tests import accounts
from tests.pcsc import STUCK_MS, ensure_possible, problem
from tests.programs import ROOT

LIST = """
from smartcard import scard
hresult, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
if hresult != scard.SCARD_S_SUCCESS:
    raise SystemExit(scard.SCardGetErrorMessage(hresult))
print(*scard.SCardListReaders(context, [])[1], sep="\\n")
"""
"""Program that lists readers: a process finds one service in its life."""

CHALLENGE = bytes.fromhex("0084000004")


def listed(daemon):
    """Readers that clients of a service see; None where it serves nobody."""
    command = (sys.executable, "-c", LIST)
    environment = {**os.environ, **daemon.environment}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else None


def gone(group):
    """True when no process of this session is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def service(*readers):
    """A card service that runs."""
    ensure_possible(problem())
    with tempfile.TemporaryDirectory(prefix="pcsc") as folder:
        daemon = PcscDaemon(Path(folder), readers)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


def test_services_stand_beside_each_other(pcsc_service):
    with service("Desk") as one, service("Counter", "Kiosk") as other:
        assert listed(one) == ["Desk 00 00", "Desk 00 01"]
        assert listed(other) == ["Counter 00 00", "Counter 00 01", "Kiosk 00 00", "Kiosk 00 01"]
        assert [slot.reader for slot in other.slots] == listed(other)
        assert not {slot.port for slot in one.slots} & {slot.port for slot in other.slots}
        one.stop()
        assert listed(one) is None
        assert len(listed(other)) == 4


def test_a_service_that_crashed_comes_up_again_with_its_readers(pcsc):
    card = make_card(plate="测A12345", balance_raw=50_000, random=os.urandom)
    slot = pcsc.slots[3]
    slot.insert(card)
    before = pcsc.daemon.slots
    assert listed(pcsc.daemon) == [one.reader for one in before]
    pcsc.kill()
    assert listed(pcsc.daemon) is None
    pcsc.restart()
    assert listed(pcsc.daemon) == [one.reader for one in before]
    assert pcsc.daemon.slots == before
    slot.insert(card)  # returns when it is seen
    slot.remove()


def test_every_slot_takes_a_card(pcsc):
    for slot in pcsc.slots:
        slot.insert(make_card(plate="测A12345", balance_raw=50_000, random=os.urandom))  # returns when it is seen
    for slot in pcsc.slots:
        assert slot.await_state(present=True, within_ms=STUCK_MS)


@pytest.mark.parametrize("end", [PcscDaemon.stop, PcscDaemon.kill])
def test_nothing_of_a_service_is_left(end):
    with service("Desk") as daemon:
        group = daemon._process.pid
        ports = {slot.port for slot in daemon.slots}
        assert not gone(group)
        assert ports <= pcsc_daemon._listening()
        end(daemon)
        assert gone(group)
        assert not ports & pcsc_daemon._listening()
        folder = daemon.socket.parent
        daemon.stop()  # once more does no harm
    assert not folder.exists()


STARTS = """
import sys
from pathlib import Path
from hardware.bench.pcsc_daemon import PcscDaemon
daemon = PcscDaemon(Path(sys.argv[1]), ["Desk"])
daemon.start()
print(daemon._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_service_ends_with_whoever_started_it():
    ensure_possible(problem())
    with tempfile.TemporaryDirectory(prefix="pcsc") as folder:
        command = (sys.executable, "-c", STARTS, folder)
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
            serving = os.pidfd_open(int(starter.stdout.readline()))
            starter.send_signal(signal.SIGKILL)
        try:
            assert select.select([serving], [], [], STUCK_S)[0], "the service lives on"
        finally:
            os.close(serving)


@contextmanager
def open_service_folder():
    with accounts.open_folder() as folder:
        os.chown(folder, accounts.NOBODY, accounts.NOBODY)
        yield folder


def _of_nobody(folder, told):
    """Become an ordinary user for good, start a service, and tell what its clients see."""
    os.setgroups([])
    os.setresgid(accounts.NOBODY, accounts.NOBODY, accounts.NOBODY)
    os.setresuid(accounts.NOBODY, accounts.NOBODY, accounts.NOBODY)
    daemon = PcscDaemon(folder, ["Desk"])
    daemon.start()
    try:
        done = subprocess.run(
            ("/usr/bin/opensc-tool", "--list-readers"),
            check=False,
            env={"HOME": str(folder), **daemon.environment},
            capture_output=True,
            text=True,
        )
    finally:
        daemon.stop()
    told.send(done.stdout + done.stderr + daemon.log.read_text())


@accounts.needed
def test_an_ordinary_user_has_a_service_too():
    ensure_possible(problem())
    if not Path("/usr/bin/opensc-tool").exists():
        ensure_possible("opensc-tool is missing: apt-get install opensc")
    with open_service_folder() as folder:
        hears, tells = multiprocessing.Pipe(duplex=False)
        user = multiprocessing.get_context("fork").Process(target=_of_nobody, args=(folder, tells))
        user.start()
        tells.close()
        with hears:
            try:
                seen = hears.recv()
            except EOFError:
                seen = "nothing: the user's process failed"
        user.join()
        user.close()
        if "NOT authorized" in seen:
            pytest.skip("polkit gives this user no smartcards")
        assert re.search("^1 +No +Desk 00 01$", seen, re.M), seen


RATIO_MAX = 50
TRIES_MAX = 10
"""A command through the service takes some two times of what it takes without. Where one side keeps its
acknowledgements for 40 ms it takes a thousand, in every try; a busy machine disturbs some of them."""


def ratio_of_service(slot, chip):
    from smartcard import scard

    slot.insert(chip)
    context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)[1]
    try:
        hresult, card, protocol = scard.SCardConnect(
            context, slot.reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_ANY
        )
        assert hresult == scard.SCARD_S_SUCCESS, scard.SCardGetErrorMessage(hresult)
        answers = []
        through = median_s(lambda: answers.append(scard.SCardTransmit(card, protocol, list(CHALLENGE))), 15)
        assert all(hresult == scard.SCARD_S_SUCCESS and len(data) == 6 for hresult, data in answers)
        scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)
    finally:
        scard.SCardReleaseContext(context)
    slot.remove()
    return through / bare_median_s(chip, CHALLENGE, 15)


def test_a_command_does_not_wait_for_an_acknowledgement(pcsc):
    card = make_card(plate="测A12345", balance_raw=50_000, random=os.urandom)
    ratios = []
    while len(ratios) < TRIES_MAX and (not ratios or ratios[-1] > RATIO_MAX):
        ratios.append(ratio_of_service(pcsc.slots[0], card))
    assert ratios[-1] <= RATIO_MAX, ratios


# --- machines that lack something -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "cure"), [("SERVICE", "apt-get install pcscd"), ("DRIVER", "apt-get install vsmartcard-vpcd")]
)
def test_what_a_machine_lacks_is_said_with_its_cure(tmp_path, monkeypatch, part, cure):
    for name in ("SERVICE", "DRIVER"):
        monkeypatch.setattr(pcsc_daemon, name, Path("/bin/sh"))
    monkeypatch.setattr(pcsc_daemon, part, tmp_path / "none")
    with pytest.raises(ServiceMissing, match=f"^{tmp_path}/none is missing: {cure}$"):
        PcscDaemon(tmp_path, ["Desk"])


def test_an_ordinary_user_cannot_make_the_folder_of_the_service(tmp_path, monkeypatch):
    for name in ("SERVICE", "DRIVER"):
        monkeypatch.setattr(pcsc_daemon, name, Path("/bin/sh"))
    monkeypatch.setattr(pcsc_daemon, "STATE_FOLDER", tmp_path / "none")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert pcsc_daemon.missing() == f"{tmp_path}/none is missing and only root can make it: mkdir {tmp_path}/none"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert pcsc_daemon.missing() is None


def test_a_service_that_does_not_come_up_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(pcsc_daemon, "SERVICE", Path(shutil.which("false")))
    monkeypatch.setattr(pcsc_daemon, "DRIVER", Path("/bin/sh"))
    monkeypatch.setattr(pcsc_daemon, "STATE_FOLDER", tmp_path)
    daemon = PcscDaemon(tmp_path, ["Desk"])
    with pytest.raises(ServiceFailed, match=str(daemon.log)):
        daemon.start()


def test_a_machine_without_a_service_skips_and_fails_where_all_has_to_be_tested(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="pcscd is missing"):
        ensure_possible("pcscd is missing")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="pcscd is missing"):
        ensure_possible("pcscd is missing")
    ensure_possible(None)
