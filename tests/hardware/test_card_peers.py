"""Peers nobody here wrote: programs that read our emulated card through the card service, and a card that we read.

Programs are those of Debian: OpenSC, pcsc-tools, and pyscard's own classes where others build on those. Of readers
that run on telephones the published commands are sent, and their answers are read at the places where they look: the
cut-outs are theirs. The card is that of Debian's `vicc` (ISO 7816 on T=1), which dies of some commands: just as well.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.errors import LinkLost, RequestOutcome
from drivers.pcsc import Readers
from gateway.cards.contents import CardKind, read_card
from hardware.bench.waiting import STUCK_S
from hardware.emulators.psam import Psam
from hardware.emulators.virtual_reader import ATR
from protocols.card.apdu import Command
from tests.hardware.test_card_emulator import TIME, bench_card, purchase
from tests.pcsc import ensure_possible

SELECT, CARD_FILE, BALANCE = "00A4000002100100", "00B0950000", "805C000204"
BALANCE_FEN, PRICE_FEN = 50_000, 1234


def tool(name, package):
    """Program of a Debian package; skips where it is not installed."""
    found = shutil.which(name, path="/usr/bin")
    if found is None:
        ensure_possible(f"{name} is missing: apt-get install {package}")
    return found


def ran(*command, told=None):
    done = subprocess.run(command, input=told, check=False, capture_output=True, text=True, timeout=STUCK_S)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture
def card(pcsc):
    """A card that has paid once, in the first slot."""
    card = bench_card(balance_raw=BALANCE_FEN)
    assert purchase(card, Psam(mode="bench"), PRICE_FEN).ok
    pcsc.slots[0].insert(card)
    return card


def answers_of(*commands):
    """Answers of the same card where nothing stands between."""
    card = bench_card(balance_raw=BALANCE_FEN)
    purchase(card, Psam(mode="bench"), PRICE_FEN)
    card.reset()
    return [card.process(bytes.fromhex(command)) for command in commands]


# --- programs of Debian -----------------------------------------------------------------------------------------------


def test_opensc_reads_the_card_byte_for_byte(pcsc, card):
    opensc = tool("opensc-tool", "opensc")
    number = "0"
    assert re.search(rf"^{number} +Yes .*{pcsc.slots[0].reader}$", ran(opensc, "--list-readers"), re.M)
    assert bytes.fromhex(ran(opensc, "--reader", number, "--atr").replace(":", "")) == ATR
    commands = (SELECT, CARD_FILE, BALANCE)
    sends = [word for command in commands for word in ("--send-apdu", command)]
    told = ran(opensc, "--reader", number, "--card-driver", "default", *sends)
    assert [bytes.fromhex(text) for text in opensc_answers(told)] == answers_of(*commands)


def opensc_answers(told):
    """Answers in hex out of what opensc-tool prints: a status word, and lines of 16 bytes with their characters."""
    for answer in told.split("Received ")[1:]:
        dump = answer.partition("Sending")[0]
        sw = "".join(re.findall("=0x(..)", dump))
        yield "".join(re.findall("^((?:[0-9A-F]{2} ){1,16})", dump, re.M)) + sw


def test_pcsc_scan_sees_reader_and_card(pcsc, card):
    scan = tool("pcsc_scan", "pcsc-tools")
    slots = [f"{number}: {slot.reader}" for number, slot in enumerate(pcsc.slots)]
    assert [line for line in ran(scan, "-r").splitlines() if line] == slots
    told = ran(scan, "-c", "-n")
    inserted = told[told.index(pcsc.slots[0].reader) : told.index(pcsc.slots[1].reader)]
    assert "Card inserted" in inserted
    assert f"ATR: {ATR.hex(' ').upper()}" in inserted
    assert told.count("Card removed") == len(pcsc.slots) - 1


def test_a_script_of_pcsc_tools_is_answered_byte_for_byte(pcsc, card):
    commands = (SELECT, CARD_FILE, BALANCE)
    script = "".join(f"{bytes.fromhex(command).hex(' ')}\n" for command in commands)
    told = ran(tool("scriptor", "pcsc-tools"), "-r", pcsc.slots[0].reader, told=f"reset\n{script}")
    answers = [bytes.fromhex(text) for text in re.findall(r"^< ([0-9A-F \n]+):", told, re.M)]
    assert answers == answers_of(*commands)


# --- readers of others, by their published commands -------------------------------------------------------------------


def others_connection(reader):
    """Connection as Python programs for cards open it."""
    from smartcard.System import readers

    (found,) = [one for one in readers() if str(one) == reader]
    return found.createConnection()


def hex_answers(connection, *commands):
    """Answers in upper case hex with their status words, as such programs handle them."""
    answers = []
    for command in commands:
        data, sw1, sw2 = connection.transmit(list(bytes.fromhex(command)))
        answers.append(bytes((*data, sw1, sw2)).hex().upper())
    return answers


@pytest.fixture
def connection(pcsc, card):
    connection = others_connection(pcsc.slots[0].reader)
    connection.connect()
    yield connection
    connection.disconnect()
    connection.release()


def test_an_owners_app_for_etc_cards_finds_the_plate(connection):
    """Commands and cut-out of a mini program for OBUs of a Chinese maker (Genvict), over its Bluetooth channel."""
    answers = hex_answers(connection, "00a40000023f00", "00a40000021001", "00B095002B")
    assert bytes.fromhex(answers[2][56:80]).rstrip(b"\0").decode("gbk") == "测A12345"


def test_an_app_for_loading_etc_cards_finds_number_and_balance(connection):
    """Commands of a mini program that loads ETC cards through an OBU."""
    commands = ("00A40000023F00", "00A40000021001", "00B0950000", "805C000204")
    *_, file, balance = hex_answers(connection, *commands)
    assert file[20:40] == "99012301220100000001"
    assert (int(balance[:8], 16), balance[8:]) == (BALANCE_FEN - PRICE_FEN, "9000")


def purchases(records):
    """Transactions as the transit reader nfsee cuts them out, newest first."""
    for record in records:
        assert record.endswith("9000")
        yield int(record[:4], 16), int(record[10:18], 16), record[18:20], record[32:40] + record[40:46]


OTHER_CARDS = (
    "00B0840020",
    "9060000000",
    "00A40400075041592E535A54",
    "00A40400094150312E5748435443",
    "00A4040007D410000003000100",
    "00A404000AB0C4C3C5CDA8C7AEB0FC",
    "00A4040008A00000063201010500",
    "00A404000E325041592E5359532E444446303100",
)
"""Commands by which nfsee finds other cards than ours; it sends them all, some of them at the end."""


@pytest.mark.parametrize("select", ["00A4000002100100", "00A40000021001", "00A4040009A0000000038698070100"])
@pytest.mark.parametrize("length", ["17", "00"])
def test_a_reader_of_transit_cards_finds_balance_and_purchase(connection, select, length):
    """Commands of nfsee: those of Beijing's, Shenzhen's and the City Union's cards. Ours is one of the last to it."""
    assert set(hex_answers(connection, *OTHER_CARDS)) == {"6A82", "6E00"}
    selected, balance, *records = hex_answers(
        connection, select, "805C000204", *(f"00B2{number:02X}C4{length}" for number in range(1, 11))
    )
    assert selected.endswith("9000")
    assert int(balance[:8], 16) % 0x80000000 == BALANCE_FEN - PRICE_FEN
    newest, *older = purchases(records)
    assert newest == (2, PRICE_FEN, "09", TIME)
    assert {kind for _, _, kind, _ in older} == {"FF"}  # never written


def test_a_reader_that_asks_for_more_than_an_etc_card_tells_gets_a_refusal(connection):
    """Commands of nfsee for purses with other files, and for the load counter, which is behind the PIN."""
    answers = hex_answers(
        connection, "00A40000021001", "00B097000B", "00B0850030", "805000020B010000000100000000000010", "805C000204"
    )
    assert answers[1:4] == ["6A82", "6A82", "6982"]
    assert int(answers[4][:8], 16) == BALANCE_FEN - PRICE_FEN


# --- a card of others, read by us -------------------------------------------------------------------------------------

VICC = Path("/usr/bin/vicc")
VICC_MODULES = Path("/usr/lib/python3/site-packages/virtualsmartcard")
"""Place where Debian 12 puts them, and no Python there looks."""

VICC_START = f"""
import importlib, runpy, sys
for name in ("", ".Cipher", ".Cipher.DES3", ".Cipher.DES", ".Cipher.AES", ".Cipher.ARC4", ".Hash", ".PublicKey"):
    sys.modules["Crypto" + name] = importlib.import_module("Cryptodome" + name)  # as Debian 12 calls it
sys.path.insert(0, "{VICC_MODULES}")
runpy.run_path("{VICC}", run_name="__main__")
"""
VICC_ATR = bytes.fromhex("3B951381018073FF01000B")
MADE = "00E000000D620B8201018302001580020032"
"""File 0015 of 50 bytes is created: it has a descriptor, an identifier and a size."""


@contextmanager
def vicc(slot):
    """Card of vicc in a slot, blank."""
    python = "/usr/bin/python3"
    looks = "import importlib.util as u; raise SystemExit(not u.find_spec('Cryptodome'))"
    if not VICC_MODULES.exists() or subprocess.run((python, "-c", looks), check=False, env={}).returncode:
        ensure_possible("vicc or what it needs is missing: apt-get install vsmartcard-vpicc python3-pycryptodome")
    command = (python, "-c", VICC_START, "--type", "iso7816", "--port", str(slot.port))
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={}, **quiet) as process:
        try:
            assert slot.await_state(present=True, within_ms=int(STUCK_S * 1000))
            yield
        finally:
            process.kill()
    assert slot.await_state(present=False, within_ms=int(STUCK_S * 1000))


def with_slot(slot, do):
    """What `do` makes of the card in a slot."""

    async def opened():
        async with Readers() as readers, readers.open(slot.reader) as card:
            return await do(card)

    return asyncio.run(opened())


def test_a_strangers_card_on_t1_gives_a_file_by_command(pcsc):
    slot = pcsc.slots[1]
    with vicc(slot):
        commands = (MADE, "00A4000C020015", "00B0000005", "0084000008")
        told = ran(
            sys.executable, "-m", "gateway.cli.main", "card", "apdu", *commands, "--reader", slot.reader, "--json"
        )
    exchanges = json.loads(told)["exchanges"]
    assert [one["sw"] for one in exchanges] == ["9000"] * 4
    assert exchanges[2]["data"] == "00" * 5
    assert len(exchanges[3]["data"]) == 2 * 8


def test_a_strangers_card_is_told_from_ours(pcsc):
    slot = pcsc.slots[1]

    async def look(card):
        return card.atr, await read_card(card)

    with vicc(slot):
        atr, contents = with_slot(slot, look)
    assert atr == VICC_ATR
    assert contents.kind is CardKind.OTHER
    assert [hex(file.sw) for file in contents.files.values()] == ["0x6a82"]


def test_what_a_strangers_card_has_left_over_is_fetched(pcsc):
    """vicc makes eight random bytes, gives the four that were asked for, and says that four more are waiting."""
    slot = pcsc.slots[1]
    challenge = Command(0x00, 0x84, 0, 0, le=4)

    async def ask(card):
        return await card.raw(challenge.encode()), await card.transmit(challenge)

    with vicc(slot):
        bare, whole = with_slot(slot, ask)
    assert (len(bare), bare[-2:]) == (6, b"\x61\x04")
    assert (len(whole.data), whole.sw) == (8, 0x9000)


def test_a_strangers_card_that_dies_within_its_answer_leaves_the_outcome_open(pcsc):
    """vicc dies of a SELECT that is to tell about the file."""
    slot = pcsc.slots[1]

    async def ask(card):
        with pytest.raises(LinkLost) as lost:
            await card.raw(bytes.fromhex("00A40000023F00"))
        return lost.value

    with vicc(slot):
        error = with_slot(slot, ask)
    assert error.outcome is RequestOutcome.UNKNOWN
