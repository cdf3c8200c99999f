"""The emulated bank over real loopback sockets: its book, its switched faults, and the product's link against it."""

import asyncio
import json
import random
import signal
import stat
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from drivers.bank import BankLink, BankLinkConfig, BankState
from drivers.clock import SystemClock
from drivers.errors import DeviceTimeout, LinkLost, RequestOutcome
from drivers.link import TcpLink
from hardware.bench.wire_bank import read_wire, split_stream
from hardware.emulators.bank_day_file import main as write_file
from hardware.emulators.bank_host import BankHost, BankHostConfig, main
from hardware.emulators.control import ControlClient, ControlError, SyncControlClient
from protocols.bank.codec import Message, decode, encode
from protocols.bank.framing import KEEP_ALIVE, Framer, frame
from protocols.bank.transactions import Profile, advice, echo, reversal, sale, sign_in
from tests.programs import program

PROFILE = Profile(terminal="B2E20001", merchant="990100000000001")
CONTRACT = "9901230000000017"
AT = datetime(2025, 7, 12, 1, 30, tzinfo=UTC)
PATIENCE_S = 300.0
"""A test that should see an answer waits this long before it fails; no passing test waits for it."""


class Terminal:
    """A bare client: sends messages, reads messages."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.framer = Framer()

    @classmethod
    async def connect(cls, host):
        return cls(*await asyncio.open_connection(*host.address))

    async def send(self, *messages):
        self.writer.write(b"".join(frame(encode(message)) for message in messages))
        await self.writer.drain()

    async def receive(self):
        async with asyncio.timeout(PATIENCE_S):
            while (body := self.framer.next_frame()) is None:
                data = await self.reader.read(4096)
                if not data:
                    return None
                self.framer.feed(data)
        return decode(body) if body else b""

    async def ask(self, message):
        await self.send(message)
        return await self.receive()

    async def code(self, message):
        return (await self.ask(message)).text(39)

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


def host_test(check, tmp_path, **changes):
    async def run():
        host = BankHost(BankHostConfig(**{"book": tmp_path / "book.db", "latency_ms": 0, **changes}))
        await host.start()
        try:
            async with await ControlClient.connect(*host.control_address) as control:
                await control.request("account", contract=CONTRACT, balance_fen=10_000)
                terminal = await Terminal.connect(host)
                await check(host, control, terminal)
                await terminal.close()
        finally:
            await host.close()

    asyncio.run(run())


def debit(stan=101, amount_fen=1250, contract=CONTRACT, terminal="B2E20001"):
    return sale(
        PROFILE.at_terminal(terminal), stan=stan, batch="000001", amount_fen=amount_fen, contract=contract, at=AT
    )


def undo(original):
    return reversal(PROFILE, original)


def told(stan=201, amount_fen=3000, contract=CONTRACT, **more):
    return advice(PROFILE, stan=stan, batch="000001", amount_fen=amount_fen, contract=contract, at=AT, **more)


async def balance(control, contract=CONTRACT):
    return (await control.request("book"))["accounts"][contract]["balance_fen"]


# --- the book ---------------------------------------------------------------------------------------------------


def test_sign_in_and_echo(tmp_path):
    async def check(host, control, terminal):
        answer = await terminal.ask(sign_in(PROFILE, stan=1, batch="000000"))
        assert (answer.mti, answer.text(39), answer.text(60)) == ("0810", "00", "00000001001")
        answer = await terminal.ask(echo(PROFILE, stan=2, batch="000007"))
        assert (answer.mti, answer.text(39), answer.text(60)) == ("0830", "00", "00000007301")
        assert answer.tpdu.hex() == "6000000003"
        assert answer.header == PROFILE.header
        terminal.writer.write(KEEP_ALIVE)
        assert await terminal.receive() == b""

    host_test(check, tmp_path)


def test_sale_moves_money_once(tmp_path):
    async def check(host, control, terminal):
        first = await terminal.ask(debit())
        assert first.text(39) == "00"
        assert first.text(4) == "000000001250"
        assert len(first.text(38)) == 6
        assert await terminal.ask(debit()) == first
        assert await balance(control) == 8750
        assert await terminal.code(debit(amount_fen=1251)) == "94"
        assert await terminal.code(debit(terminal="B2E20002")) == "00"
        assert await balance(control) == 7500

    host_test(check, tmp_path)


def test_refusals(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(debit(1, contract="4711")) == "14"
        assert await terminal.code(debit(2, amount_fen=10_001)) == "51"
        assert await terminal.code(debit(2, amount_fen=10_001)) == "51"
        assert await terminal.code(debit(3, amount_fen=10_000)) == "00"
        assert await terminal.code(debit(4, amount_fen=1)) == "51"
        without = {number: value for number, value in debit(5).fields.items() if number != 48}
        assert await terminal.code(Message("0200", without, PROFILE.tpdu)) == "30"
        zero = {**debit(6).fields, 4: "0" * 12}
        assert await terminal.code(Message("0200", zero, PROFILE.tpdu)) == "13"
        bare = {number: value for number, value in debit(7).fields.items() if number != 41}
        assert await terminal.code(Message("0200", bare, PROFILE.tpdu)) == "30"
        assert await terminal.code(Message("0100", dict(debit(8).fields), PROFILE.tpdu)) == "40"
        assert await balance(control) == 0

    host_test(check, tmp_path)


def test_reversal_takes_back_once(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(undo(debit())) == "25"
        assert await terminal.code(debit()) == "00"
        assert await terminal.code(undo(debit(amount_fen=1))) == "64"
        for _ in range(3):
            assert await terminal.code(undo(debit())) == "00"
        assert await balance(control) == 10_000
        book = await control.request("book")
        kinds = [posting["kind"] for posting in book["accounts"][CONTRACT]["postings"]]
        assert kinds == ["sale", "reversal"]
        totals = {
            "sale_fen": 1250,
            "reversal_fen": -1250,
            "advice_fen": 0,
            "refund_fen": 0,
            "net_fen": 0,
            "postings": 2,
        }
        assert book["totals"] == totals
        posting = book["accounts"][CONTRACT]["postings"][0]
        assert (posting["terminal"], posting["merchant"]) == ("B2E20001", "990100000000001")
        assert (posting["batch"], posting["stan"], posting["amount_fen"]) == ("000001", "000101", 1250)
        short = {**undo(debit(102)).fields, 61: "000001"}
        assert await terminal.code(Message("0400", short, PROFILE.tpdu)) == "25"

    host_test(check, tmp_path)


def test_reversal_of_a_declined_sale_finds_nothing(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(debit(amount_fen=20_000)) == "51"
        assert await terminal.code(undo(debit(amount_fen=20_000))) == "25"

    host_test(check, tmp_path)


def test_advice_posts_whatever_the_balance_and_once(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(told(amount_fen=12_000)) == "00"
        assert await terminal.code(replace(told(amount_fen=12_000), mti="0221")) == "00"
        assert await balance(control) == -2000
        assert await terminal.code(told(202, contract="4711")) == "14"
        await control.request("behave", mode="decline", code="62", mti="0220", contract=CONTRACT)
        assert await terminal.code(told(203)) == "62"
        assert await balance(control) == -2000

    host_test(check, tmp_path)


# --- faults -----------------------------------------------------------------------------------------------------


def test_decline_and_approve_for_the_next_messages(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="decline", code="61", next=2)
        assert [await terminal.code(debit(stan)) for stan in (1, 2, 3)] == ["61", "61", "00"]
        await control.request("behave", mode="approve", contract=CONTRACT)
        assert await terminal.code(debit(4, amount_fen=50_000)) == "00"
        # One message's switch goes before a lasting one, also when the lasting one is newer.
        await control.request("behave", mode="decline", code="05", next=1)
        await control.request("behave", mode="approve", contract=CONTRACT)
        assert [await terminal.code(debit(stan)) for stan in (5, 6)] == ["05", "00"]
        await control.request("behave", mode="normal")
        assert await terminal.code(debit(7)) == "51"

    host_test(check, tmp_path)


def test_switch_for_one_contract_leaves_others_alone(tmp_path):
    async def check(host, control, terminal):
        await control.request("account", contract="9901230000000025", balance_fen=5000)
        await control.request("behave", mode="decline", contract="9901230000000025")
        await control.request("behave", mode="decline", code="61", contract=CONTRACT)
        assert await terminal.code(debit(1)) == "61"
        assert await terminal.code(debit(2, contract="9901230000000025")) == "05"
        await control.request("behave", mode="normal", contract=CONTRACT, mti="any")
        assert await terminal.code(debit(3)) == "00"
        assert await terminal.code(debit(4, contract="9901230000000025")) == "05"

    host_test(check, tmp_path)


def test_sign_in_refused(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="decline", code="97", mti="0800")
        assert await terminal.code(sign_in(PROFILE, stan=1, batch="000001")) == "97"
        assert await terminal.code(echo(PROFILE, stan=2, batch="000001")) == "00"

    host_test(check, tmp_path)


def test_reversal_switched_by_the_contract_of_its_original(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(debit()) == "00"
        await control.request("behave", mode="decline", code="96", mti="0400", contract=CONTRACT, next=2)
        assert [await terminal.code(undo(debit())) for _ in range(3)] == ["96", "96", "00"]
        assert await balance(control) == 10_000

    host_test(check, tmp_path)


@pytest.mark.parametrize(("mode", "left"), [("silent_but_posted", 8750), ("silent-not-posted", 10_000)])
def test_silent(tmp_path, mode, left):
    async def check(host, control, terminal):
        await control.request("behave", mode=mode, next=1)
        await terminal.send(debit(), echo(PROFILE, stan=2, batch="000001"))
        assert (await terminal.receive()).mti == "0830"
        assert await balance(control) == left
        assert await terminal.code(undo(debit())) == ("00" if left == 8750 else "25")
        assert await balance(control) == 10_000

    host_test(check, tmp_path)


def test_late_posts_after_a_reversal_that_found_nothing(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="late", next=1)
        await terminal.send(debit())
        await control.request("wait", mti="0200")
        assert await terminal.code(undo(debit())) == "25"
        assert await balance(control) == 10_000
        await control.request("deliver")
        late = await terminal.receive()
        assert (late.mti, late.text(39)) == ("0210", "00")
        assert await balance(control) == 8750
        assert await terminal.code(undo(debit())) == "00"
        assert await balance(control) == 10_000

    host_test(check, tmp_path)


def test_slow_posts_before_a_reversal_that_finds_it(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="slow", next=1)
        await terminal.send(debit())
        await control.request("wait", mti="0200")
        assert await balance(control) == 8750
        assert await terminal.code(undo(debit())) == "00"
        assert await balance(control) == 10_000
        await control.request("deliver")
        slow = await terminal.receive()
        assert (slow.mti, slow.text(39)) == ("0210", "00")
        assert await balance(control) == 10_000

    host_test(check, tmp_path)


def test_late_by_the_clock_posts_even_when_the_gateway_has_gone(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="late", ms=1, next=1)
        assert await terminal.code(debit(1)) == "00"
        await control.request("behave", mode="late", next=1)
        gone = await Terminal.connect(host)
        await gone.send(debit(2))
        await control.request("wait", mti="0200", count=2)
        await gone.close()
        await control.request("deliver")
        await terminal.ask(echo(PROFILE, stan=3, batch="000001"))
        assert await balance(control) == 7500

    host_test(check, tmp_path)


@pytest.mark.parametrize(("mode", "left"), [("cut", 10_000), ("cut_before_answer", 8750)])
def test_cut(tmp_path, mode, left):
    async def check(host, control, terminal):
        await control.request("behave", mode=mode, next=1)
        assert await terminal.ask(debit()) is None
        assert await balance(control) == left
        again = await Terminal.connect(host)
        assert await again.code(debit()) == "00"
        assert await balance(control) == 8750
        await again.close()

    host_test(check, tmp_path)


def test_a_flood_answers_what_nobody_asked_until_its_time_is_over(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(debit()) == "00"
        assert await control.request("flood", what="answers", ms=300, per_s=2000) == {"connections": 1}
        unasked = [await terminal.receive() for _ in range(100)]
        assert {(answer.mti, answer.text(39), answer.text(41)) for answer in unasked} == {("0210", "00", "B2E20001")}
        assert min(int(answer.text(11)) for answer in unasked) >= 900_000
        await terminal.send(debit(102, 1000))
        true = 0
        while not true:
            true = (await terminal.receive()).text(11) == "000102"
        await terminal.send(echo(PROFILE, stan=9, batch="000001"))
        while (await terminal.receive()).mti != "0830":
            pass
        assert await balance(control) == 7750  # what was asked for, and nothing else

    host_test(check, tmp_path)


def test_a_message_that_never_ends_ends_with_its_line(tmp_path):
    async def check(host, control, terminal):
        assert await terminal.code(debit()) == "00"
        assert await control.request("flood", what="trickle", ms=400) == {"connections": 1}
        begun = await terminal.reader.readexactly(4)
        assert begun == bytes.fromhex("20000000")  # a length of 8192, and hardly more
        await terminal.send(debit(102, 1000))
        async with asyncio.timeout(PATIENCE_S):
            rest = await terminal.reader.read()
        assert set(rest) <= {0}  # no answer ended up in it
        assert len(rest) < 100
        again = await Terminal.connect(host)
        assert await again.code(debit(102, 1000)) == "00"
        assert await balance(control) == 7750
        await again.close()

    host_test(check, tmp_path)


@pytest.mark.parametrize(
    "wanted", [{"what": "rain", "ms": 5}, {"what": "answers", "ms": 60_001}, {"what": "answers", "ms": 5, "per_s": 0}]
)
def test_a_flood_has_bounds(tmp_path, wanted):
    async def check(_host, control, _terminal):
        with pytest.raises(ControlError, match="answers or trickle, ms up to 60000, per_s up to 10000"):
            await control.request("flood", **wanted)

    host_test(check, tmp_path)


def test_duplicate_answer_and_missing_terminal(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="duplicate_answer", next=1)
        first = await terminal.ask(debit(1))
        assert await terminal.receive() == first
        await control.request("behave", mode="no_f41", next=1)
        bare = await terminal.ask(debit(2))
        assert bare.text(41) is None
        assert bare.text(39) == "00"
        assert await balance(control) == 7500

    host_test(check, tmp_path)


@pytest.mark.parametrize("posted", [True, False])
@pytest.mark.parametrize(
    ("mode", "codes"), [("approve_then_decline", ["00", "05"]), ("decline_then_approve", ["05", "00"])]
)
def test_two_opposite_answers(tmp_path, mode, codes, posted):
    async def check(host, control, terminal):
        await control.request("behave", mode=mode, posted=posted, next=1)
        first = await terminal.ask(debit())
        second = await terminal.receive()
        assert [first.text(39), second.text(39)] == codes
        assert first.text(11) == second.text(11) == "000101"
        assert await balance(control) == (8_750 if posted else 10_000)
        assert await terminal.code(undo(debit())) == ("00" if posted else "25")

    host_test(check, tmp_path)


def test_the_second_of_two_opposite_answers_can_be_kept_back(tmp_path):
    async def check(host, control, terminal):
        await control.request("behave", mode="approve_then_decline", ms=5, code="51", next=1)
        assert await terminal.code(debit()) == "00"
        assert (await terminal.receive()).text(39) == "51"

    host_test(check, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [(4, "000000000001"), (49, "840"), (42, "990100000000002"), (41, "B2E20009")]
)
def test_altered_answers_and_an_honest_book(tmp_path, field, value):
    async def check(host, control, terminal):
        await control.request("behave", mode="altered", field=field, value=value, next=1)
        assert (await terminal.ask(debit())).text(field) == value
        assert await balance(control) == 8_750

    host_test(check, tmp_path)


@pytest.mark.parametrize(("code", "heard"), [("Z9", "Z9"), ("  ", "  "), ("", None), ("94", "94")])
def test_any_code_and_none(tmp_path, code, heard):
    async def check(host, control, terminal):
        await control.request("behave", mode="posted_but_code", code=code, next=1)
        assert (await terminal.ask(debit())).text(39) == heard
        await control.request("behave", mode="posted_but_code", code="94", ms=5, next=1)
        assert await terminal.code(debit(stan=102)) == "94"
        assert await balance(control) == 7_500

    host_test(check, tmp_path)


def test_hold_and_release(tmp_path):
    async def check(host, control, terminal):
        await control.request("hold")
        await terminal.send(debit(1), debit(2))
        await control.request("wait", mti="0200", count=2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(terminal.reader.read(1), 0.1)
        await control.request("release")
        assert {(await terminal.receive()).text(11) for _ in range(2)} == {"000001", "000002"}

    host_test(check, tmp_path)


def test_down_and_up(tmp_path):
    async def check(host, control, terminal):
        await control.request("down")
        assert await terminal.receive() is None
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection(*host.address)
        await control.request("up")
        assert (await control.request("up"))["port"] == host.address[1]
        again = await Terminal.connect(host)
        assert await again.code(debit()) == "00"
        await again.close()

    host_test(check, tmp_path)


def test_requests_are_logged_and_waits_end(tmp_path):
    async def check(host, control, terminal):
        async with await ControlClient.connect(*host.control_address) as second:
            waiting = asyncio.create_task(second.request("wait", mti="0200", count=2))
            await terminal.ask(debit(1))
            assert not waiting.done()
            await terminal.ask(debit(2, amount_fen=7))
            assert (await waiting)["count"] == 2
        entries = (await control.request("requests"))["requests"]
        assert [(entry["stan"], entry["amount_fen"]) for entry in entries] == [("000001", 1250), ("000002", 7)]
        assert entries[0]["mti"] == "0200"
        assert entries[0]["terminal"] == "B2E20001"
        assert entries[0]["contract"] == CONTRACT
        assert datetime.fromisoformat(entries[0]["at"]).tzinfo is not None
        with pytest.raises(ControlError, match="1 messages 0400 within 1 ms"):
            await control.request("wait", mti="0400", timeout_ms=1)

    host_test(check, tmp_path)


@pytest.mark.parametrize(
    ("cmd", "arguments", "why"),
    [
        ("account", {"contract": "1"}, "balance_fen"),
        ("behave", {"mode": "strange"}, "strange"),
        ("behave", {"mode": "cut", "next": 0}, "at least 1"),
    ],
)
def test_commands_that_make_no_sense(tmp_path, cmd, arguments, why):
    async def check(host, control, terminal):
        with pytest.raises(ControlError, match=why):
            await control.request(cmd, **arguments)

    host_test(check, tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"\x00\x04rest", b"\xff\xff", frame(encode(Message("0210", {11: "000001"})))],
    ids=["no message", "impossible length", "no request"],
)
def test_nonsense_is_hung_up_on(tmp_path, data):
    async def check(host, control, terminal):
        terminal.writer.write(data)
        assert await terminal.receive() is None
        again = await Terminal.connect(host)
        assert await again.code(debit()) == "00"
        await again.close()

    host_test(check, tmp_path)


def test_book_survives_and_answers_as_before(tmp_path):
    answers = []

    async def check(host, control, terminal):
        answers.append(await terminal.ask(debit()))

    host_test(check, tmp_path)

    async def again(host, control, terminal):
        assert await terminal.ask(debit()) == answers[0]
        assert await terminal.code(debit(amount_fen=9)) == "94"
        assert await terminal.code(undo(debit())) == "00"
        postings = (await control.request("book"))["accounts"][CONTRACT]["postings"]
        assert [posting["amount_fen"] for posting in postings] == [1250, -1250]

    host_test(again, tmp_path)


def test_capture_holds_the_bytes_of_both_directions(tmp_path):
    path = tmp_path / "bank.jsonl"

    async def check(host, control, terminal):
        await terminal.ask(debit())
        raw = frame(encode(undo(debit())))
        terminal.writer.write(raw[:9])
        await terminal.writer.drain()
        await control.request("book")
        terminal.writer.write(raw[9:])
        await terminal.receive()

    host_test(check, tmp_path, capture=path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    streams = {
        direction: b"".join(bytes.fromhex(line["hex"]) for line in lines if line["dir"] == direction)
        for direction in ("in", "out")
    }
    read = [read_wire(message) for stream in streams.values() for message in split_stream(stream)]
    assert [(item.mti, item.amount_fen, item.code) for item in read] == [
        ("0200", 1250, None),
        ("0400", 1250, "98"),
        ("0210", 1250, "00"),
        ("0410", 1250, "00"),
    ]
    assert read[1].original == "000001000101" + "0712"


# --- the product's link against it ------------------------------------------------------------------------------


@asynccontextmanager
async def gateway(host):
    """A running bank link of the product, connected over TCP."""
    late = []
    ups = asyncio.Queue()

    def on_state(state):
        if state.state is BankState.UP:
            ups.put_nowait(state)

    link = BankLink(
        BankLinkConfig(device="bank", profile=PROFILE, backoff_first_s=0.01, backoff_max_s=0.05),
        connect=lambda: TcpLink.connect(*host.address, timeout_s=PATIENCE_S, device="bank"),
        clock=SystemClock(),
        chance=random.Random(1),
        on_state=on_state,
        on_late=late.append,
    )
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await ups.get()
        yield link, ups, late
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def eventually(true):
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.005)


def test_link_many_at_once(tmp_path):
    async def check(host, control, terminal):
        async with gateway(host) as (link, _, late):
            answers = await asyncio.gather(
                *(link.exchange(encode(debit(stan, amount_fen=stan)), timeout_s=PATIENCE_S) for stan in range(1, 41))
            )
        assert [int(answer.text(4)) for answer in answers] == list(range(1, 41))
        assert {answer.text(39) for answer in answers} == {"00"}
        assert late == []
        assert await balance(control) == 10_000 - sum(range(1, 41))

    host_test(check, tmp_path)


def test_link_late_answer_after_its_deadline(tmp_path):
    async def check(host, control, terminal):
        async with gateway(host) as (link, _, late):
            await control.request("behave", mode="late", next=1)
            with pytest.raises(DeviceTimeout) as caught:
                await link.exchange(encode(debit()), timeout_s=0.1)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            assert (await link.exchange(encode(undo(debit())), timeout_s=PATIENCE_S)).text(39) == "25"
            await control.request("deliver")
            await eventually(lambda: late)
            assert (late[0].mti, late[0].text(39)) == ("0210", "00")
            assert (await link.exchange(encode(undo(debit())), timeout_s=PATIENCE_S)).text(39) == "00"
        assert await balance(control) == 10_000

    host_test(check, tmp_path)


@pytest.mark.parametrize("mode", ["cut", "cut_before_answer"])
def test_link_cut_reconnects(tmp_path, mode):
    async def check(host, control, terminal):
        async with gateway(host) as (link, ups, _):
            await control.request("behave", mode=mode, next=1)
            with pytest.raises(LinkLost) as caught:
                await link.exchange(encode(debit()), timeout_s=PATIENCE_S)
            assert caught.value.outcome is RequestOutcome.UNKNOWN
            async with asyncio.timeout(PATIENCE_S):
                await ups.get()
            code = (await link.exchange(encode(undo(debit())), timeout_s=PATIENCE_S)).text(39)
            assert code == ("25" if mode == "cut" else "00")
        assert await balance(control) == 10_000

    host_test(check, tmp_path)


def test_link_outlives_a_refused_sign_in_and_a_host_that_is_away(tmp_path):
    async def check(host, control, terminal):
        async with gateway(host) as (link, ups, _):
            await control.request("behave", mode="decline", code="97", mti="0800", next=2)
            await control.request("down")
            await eventually(lambda: link.state.state is BankState.DOWN)
            await control.request("up")
            async with asyncio.timeout(PATIENCE_S):
                await ups.get()
            assert (await link.exchange(encode(debit()), timeout_s=PATIENCE_S)).text(39) == "00"
            signed = [item for item in (await control.request("requests"))["requests"] if item["mti"] == "0800"]
            assert len(signed) == 4

    host_test(check, tmp_path)


def test_link_understands_a_bank_that_leaves_the_terminal_out_or_repeats_itself(tmp_path):
    async def check(host, control, terminal):
        async with gateway(host) as (link, _, late):
            await control.request("behave", mode="no_f41", next=1)
            assert (await link.exchange(encode(debit(1)), timeout_s=PATIENCE_S)).text(39) == "00"
            await control.request("behave", mode="duplicate_answer", next=1)
            assert (await link.exchange(encode(debit(2)), timeout_s=PATIENCE_S)).text(39) == "00"
            await eventually(lambda: late)
            assert late[0].text(11) == "000002"

    host_test(check, tmp_path)


# --- the program ------------------------------------------------------------------------------------------------


class Program:
    """The host as a process of its own, ready."""

    def __init__(self, process):
        self.process = process
        words = process.stdout.readline().split()
        assert words[0::2] == ["ready", "control"]
        self.address, self.control = ((host, int(port)) for host, port in (word.split(":") for word in words[1::2]))

    def stop(self, number):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start():
    with ExitStack() as started:
        yield lambda *arguments: Program(started.enter_context(program("hardware.emulators.bank_host", *arguments)))


def test_program_is_killed_and_comes_back_with_its_book(start, tmp_path):
    arguments = ("--book", str(tmp_path / "book.db"), "--latency-ms", "0", "--capture", str(tmp_path / "c.jsonl"))
    first = start("--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", *arguments)

    async def ask(program):
        terminal = await Terminal.connect(program)
        try:
            return await terminal.ask(debit())
        finally:
            await terminal.close()

    with SyncControlClient(*first.control) as control:
        control.request("account", contract=CONTRACT, balance_fen=2000)
    answer = asyncio.run(ask(first))
    assert answer.text(39) == "00"
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL

    second = start("--listen", f"127.0.0.1:{first.address[1]}", *arguments)
    assert second.address == first.address
    assert asyncio.run(ask(second)) == answer
    with SyncControlClient(*second.control) as control:
        assert control.request("book")["accounts"][CONTRACT]["balance_fen"] == 750
        with pytest.raises(ControlError, match="unknown cmd"):
            control.request("nonsense")
    assert second.stop(signal.SIGTERM) == 0
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 4


def test_program_says_why_it_cannot_start(tmp_path, capsys):
    assert main(["--book", str(tmp_path), "--listen", "127.0.0.1:0"]) == 3
    assert "unable to open database file" in capsys.readouterr().err
    assert main(["--book", str(tmp_path / "b.db"), "--control", "192.0.2.1:0"]) == 3
    assert "not loopback" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--book", str(tmp_path / "b.db"), "--listen", "somewhere"])


# --- the day file -----------------------------------------------------------------------------------------------


def test_the_day_file_is_what_the_book_says_of_one_settlement_day(tmp_path):
    now = [datetime(2025, 7, 12, 14, 59, tzinfo=UTC)]  # 22:59 there
    path = tmp_path / "day.csv"

    async def check(host, control, terminal):
        first = await terminal.ask(debit(101))
        await terminal.ask(debit(102, amount_fen=300))
        now[0] = datetime(2025, 7, 12, 15, 0, tzinfo=UTC)
        assert (await terminal.ask(undo(debit(102, amount_fen=300)))).text(15) == "0713"
        await terminal.ask(told(201))
        written = await control.request("day_file", day="20250712", path=str(path))
        assert (first.text(15), written["lines"], written["net_fen"]) == ("0712", 2, 1550)
        assert path.read_text(encoding="utf-8").splitlines() == [
            "kind,settlement_day,terminal,batch,stan,retrieval_reference,amount,contract,count",
            f"sale,20250712,B2E20001,000001,000101,{first.text(37)},1250,{CONTRACT},",
            f"sale,20250712,B2E20001,000001,000102,000000000002,300,{CONTRACT},",
            "total,20250712,,,,,1550,,2",
        ]
        await control.request("day_file", day="20250713", path=str(path))
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line.split(",")[0] for line in lines[1:]] == ["reversal", "advice", "total"]
        assert lines[-1] == "total,20250713,,,,,2700,,2"

    async def run():
        config = BankHostConfig(book=tmp_path / "book.db", latency_ms=0, cut_over="23:00")
        host = BankHost(config, utcnow=lambda: now[0])
        await host.start()
        try:
            async with await ControlClient.connect(*host.control_address) as control:
                await control.request("account", contract=CONTRACT, balance_fen=10_000)
                terminal = await Terminal.connect(host)
                await check(host, control, terminal)
                await terminal.close()
        finally:
            await host.close()

    asyncio.run(run())
    book = ["--book", str(tmp_path / "book.db"), "--cut-over", "23:00"]
    assert write_file([*book, "--day", "20250713", "--out", str(tmp_path / "again.csv")]) == 0
    assert (tmp_path / "again.csv").read_bytes() == path.read_bytes()
    assert write_file(["--book", str(tmp_path / "no.db"), "--day", "20250713", "--out", str(path)]) == 3
