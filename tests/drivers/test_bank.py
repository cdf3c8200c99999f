"""The bank link against a scripted host on a memory link, in virtual time: no test waits, none depends on speed."""

import asyncio
import itertools
import random
import selectors
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from drivers.bank import NETWORK_STAN_FIRST, NETWORK_STAN_LAST, SIGN_INS_AT_ONCE, BankLink, BankLinkConfig, BankState
from drivers.errors import DeviceTimeout, DeviceUnavailable, LinkLost, RequestOutcome
from drivers.link import MemoryLink, memory_pair
from protocols.bank.codec import Message, decode, encode
from protocols.bank.framing import KEEP_ALIVE, Framer, frame
from protocols.bank.transactions import Profile, is_request, response_to, reversal, sale
from protocols.errors import LocalProtocolError

PROFILE = Profile(terminal="B2E20001", merchant="990100000000001")
AT = datetime(2025, 7, 12, 1, 30, tzinfo=UTC)


class VirtualSelector(selectors.DefaultSelector):
    """Where a real loop would sleep, the clock jumps."""

    now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits and no timer is set")
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self):
        return self.virtual.now


class LoopClock:
    def monotonic(self):
        return asyncio.get_running_loop().time()

    def utcnow(self):
        return AT + timedelta(seconds=self.monotonic())

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


def run(main):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now():
    return asyncio.get_running_loop().time()


@dataclass
class Bank:
    """Scripted host plus the link under test."""

    config: BankLinkConfig
    seed: int = 1
    up: bool = True
    links: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    silent: set = field(default_factory=set)
    """MTIs that get no answer."""
    codes: dict = field(default_factory=dict)
    states: list = field(default_factory=list)
    late: list = field(default_factory=list)
    attempts: list = field(default_factory=list)
    tasks: list = field(default_factory=list)

    def __post_init__(self):
        self.link = BankLink(
            self.config,
            connect=self.connect,
            clock=LoopClock(),
            chance=random.Random(self.seed),
            on_state=lambda state: self.states.append((now(), state.state, state.cause)),
            on_late=self.late.append,
        )

    async def connect(self):
        self.attempts.append(now())
        if not self.up:
            raise DeviceUnavailable("nobody listens", device="bank")
        near, far = memory_pair()
        self.links.append(far)
        self.tasks.append(asyncio.create_task(self.serve(far)))
        return near

    async def serve(self, far: MemoryLink):
        framer = Framer()
        while data := await far.read(4096):
            framer.feed(data)
            while (body := framer.next_frame()) is not None:
                if not body:
                    self.requests.append(None)
                    continue
                message = decode(body)
                self.requests.append(message)
                if message.mti not in self.silent:
                    await far.write(self.answer(message))

    def answer(self, request, code=None, **changes):
        fields = {number: request.fields[number] for number in (11, 41, 42, 60) if number in request.fields}
        code = code or self.codes.get(request.mti, "00")
        message = response_to(request, code, fields)
        return frame(encode(replace(message, **changes)))

    async def start(self):
        self.running = asyncio.create_task(self.link.run())
        self.tasks.append(self.running)
        await self.until(lambda: self.link.state.state is BankState.UP)

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for far in self.links:
            await far.close()
        await asyncio.sleep(0)

    def seen(self, mti):
        return [message for message in self.requests if message is not None and message.mti == mti]

    async def until(self, true):
        for _ in range(10_000):
            if true():
                return
            await asyncio.sleep(0.01)
        pytest.fail("it never came true")


def config(**changes):
    return BankLinkConfig(device="bank", profile=PROFILE, **changes)


def bank_test(check, *, started=True, **changes):
    async def main():
        bank = Bank(config(**changes))
        try:
            if started:
                await bank.start()
            await check(bank)
        finally:
            await bank.stop()

    run(main())


def debit(stan=101, terminal="B2E20001"):
    return sale(
        PROFILE.at_terminal(terminal), stan=stan, batch="000001", amount_fen=1250, contract="9901230000000017", at=AT
    )


def test_signs_in_before_it_is_up():
    async def check(bank):
        assert [state for _, state, _ in bank.states] == [BankState.CONNECTING, BankState.SIGNING_IN, BankState.UP]
        assert [message.mti for message in bank.requests] == ["0800"]
        assert bank.requests[0].text(60) == "00000001001"
        assert bank.link._batches == {"B2E20001": "000001"}

    bank_test(check)


def test_signs_every_terminal_in_and_keeps_the_batches_the_host_gives():
    async def check(bank):
        bank.answer = lambda request: frame(
            encode(response_to(request, "00", {11: request.text(11), 60: "00000042001"}))
        )
        await bank.start()
        assert [message.text(41) for message in bank.seen("0800")] == ["B2E20001", "B2E20002"]
        assert bank.link._batches["B2E20002"] == "000042"
        await bank.links[0].close()
        await bank.until(lambda: len(bank.seen("0800")) == 4)
        assert bank.seen("0800")[3].text(60) == "00000042001"

    bank_test(check, started=False, terminals=("B2E20001", "B2E20002"))


def test_exchange_brings_the_answer():
    async def check(bank):
        answer = await bank.link.exchange(encode(debit()), timeout_s=1.2)
        assert (answer.mti, answer.text(39), answer.text(11)) == ("0210", "00", "000101")
        bank.codes["0200"] = "51"
        assert (await bank.link.exchange(encode(debit(102)), timeout_s=1.2)).text(39) == "51"

    bank_test(check)


def test_nothing_is_written_while_the_link_is_not_up():
    async def check(bank):
        bank.silent.add("0800")
        with pytest.raises(DeviceUnavailable) as caught:
            await bank.link.exchange(encode(debit()), timeout_s=1)
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        bank.tasks.append(asyncio.create_task(bank.link.run()))
        await bank.until(lambda: bank.seen("0800"))
        assert bank.link.state.state is BankState.SIGNING_IN
        with pytest.raises(DeviceUnavailable, match="signing_in"):
            await bank.link.exchange(encode(debit()), timeout_s=1)
        assert bank.seen("0200") == []

    bank_test(check, started=False)


def test_silence_is_unknown_at_the_deadline_and_a_late_answer_is_told():
    async def check(bank):
        bank.silent.add("0200")
        began = now()
        with pytest.raises(DeviceTimeout) as caught:
            await bank.link.exchange(encode(debit()), timeout_s=1.2)
        assert caught.value.outcome is RequestOutcome.UNKNOWN
        assert now() - began == pytest.approx(1.2)
        await bank.links[0].write(bank.answer(bank.seen("0200")[0]))
        await bank.until(lambda: bank.late)
        assert bank.late[0].text(11) == "000101"
        # The same keys may be used again, and its answer goes to the new asker.
        bank.silent.clear()
        assert (await bank.link.exchange(encode(debit()), timeout_s=1)).mti == "0210"
        assert len(bank.late) == 1

    bank_test(check)


def test_second_copy_of_an_answer_is_late():
    async def check(bank):
        once = bank.answer
        bank.answer = lambda request: once(request) * 2
        assert (await bank.link.exchange(encode(debit()), timeout_s=1)).mti == "0210"
        await bank.until(lambda: bank.late)
        assert bank.late[0].mti == "0210"

    bank_test(check)


@pytest.mark.parametrize("terminal", [None, "        "])
def test_answer_without_terminal_matches_when_only_one_fits(terminal):
    async def check(bank):
        def answer(request):
            fields = {11: request.text(11)} | ({41: terminal} if terminal else {})
            return frame(encode(response_to(request, "00", fields)))

        bank.answer = answer
        got = await asyncio.gather(
            bank.link.exchange(encode(debit(101)), timeout_s=1), bank.link.exchange(encode(debit(102)), timeout_s=1)
        )
        assert [message.text(11) for message in got] == ["000101", "000102"]

        # Two terminals with the same STAN: nobody may be given the other's approval.
        got = await asyncio.gather(
            bank.link.exchange(encode(debit(103)), timeout_s=1),
            bank.link.exchange(encode(debit(103, "B2E20002")), timeout_s=1),
            return_exceptions=True,
        )
        assert [type(item) for item in got] == [DeviceTimeout, DeviceTimeout]
        assert len(bank.late) == 2

    bank_test(check)


def nameless(request, **fields):
    mirrored = {11: request.text(11)} | {int(name[1:]): value for name, value in fields.items()}
    return frame(encode(response_to(request, "00", mirrored)))


@pytest.mark.parametrize("answered", [False, True])
def test_answer_without_terminal_may_belong_to_a_request_that_is_over(answered):
    """Terminal 1 gave up, or is answered twice; terminal 2 asks with the same trace number meanwhile."""

    async def check(bank):
        bank.silent.add("0200")
        first = asyncio.create_task(bank.link.exchange(encode(debit(104)), timeout_s=5 if answered else 0.05))
        await bank.until(lambda: bank.seen("0200"))
        if answered:
            await bank.links[-1].write(nameless(bank.seen("0200")[0]))
            assert (await first).text(39) == "00"
        else:
            with pytest.raises(DeviceTimeout):
                await first
        second = asyncio.create_task(bank.link.exchange(encode(debit(104, "B2E20002")), timeout_s=5))
        await bank.until(lambda: len(bank.seen("0200")) == 2)
        await bank.links[-1].write(nameless(bank.seen("0200")[0]))
        await bank.until(lambda: bank.late)
        assert not second.done()
        await bank.links[-1].write(nameless(bank.seen("0200")[0], f4="000000001251"))  # nobody's amount
        await bank.until(lambda: len(bank.late) == 2)
        await bank.links[-1].write(bank.answer(bank.seen("0200")[1]))
        assert (await second).text(41) == "B2E20002"

    bank_test(check)


def test_answer_without_terminal_is_told_apart_by_its_amount():
    async def check(bank):
        bank.silent.add("0200")
        other = sale(PROFILE.at_terminal("B2E20002"), stan=105, batch="000001", amount_fen=1300, contract="1", at=AT)
        asked = [asyncio.create_task(bank.link.exchange(encode(what), timeout_s=5)) for what in (debit(105), other)]
        await bank.until(lambda: len(bank.seen("0200")) == 2)
        for request in reversed(bank.seen("0200")):
            await bank.links[-1].write(nameless(request, f4=request.text(4), f38=request.text(4)[-6:]))
        assert [(await answer).text(38) for answer in asked] == ["001250", "001300"]

    bank_test(check)


def test_requests_that_are_over_are_forgotten_in_time():
    async def check(bank):
        bank.silent.add("0200")
        with pytest.raises(DeviceTimeout):
            await bank.link.exchange(encode(debit(106)), timeout_s=1)
        first = now()
        await asyncio.sleep(2 * PROFILE.max_message_age_s - 1)
        for terminal, timely in (("B2E20002", False), ("B2E20003", False), ("B2E20004", True)):
            asked = asyncio.create_task(bank.link.exchange(encode(debit(106, terminal)), timeout_s=5))
            await bank.until(lambda: bank.seen("0200")[-1].text(41) == terminal)  # noqa: B023 - awaited in the turn
            await bank.links[-1].write(nameless(bank.seen("0200")[-1]))
            answer = (await asyncio.gather(asked, return_exceptions=True))[0]
            assert isinstance(answer, Message) == timely, (terminal, now() - first)
            await asyncio.sleep(2 * PROFILE.max_message_age_s + 1 if terminal == "B2E20003" else 0)

    bank_test(check)


def test_same_stan_on_two_terminals_with_terminal_in_the_answer():
    async def check(bank):
        got = await asyncio.gather(
            bank.link.exchange(encode(debit(103)), timeout_s=1),
            bank.link.exchange(encode(debit(103, "B2E20002")), timeout_s=1),
        )
        assert [message.text(41) for message in got] == ["B2E20001", "B2E20002"]

    bank_test(check)


def test_answer_of_another_terminal_is_not_ours():
    async def check(bank):
        bank.answer = lambda request: frame(encode(response_to(request, "00", {11: request.text(11), 41: "B2E20009"})))
        with pytest.raises(DeviceTimeout):
            await bank.link.exchange(encode(debit()), timeout_s=1)
        assert len(bank.late) == 1

    bank_test(check)


def test_answers_out_of_order_glued_and_in_single_bytes():
    async def check(bank):
        bank.silent.add("0200")
        asked = [asyncio.create_task(bank.link.exchange(encode(debit(stan)), timeout_s=5)) for stan in (101, 102, 103)]
        await bank.until(lambda: len(bank.seen("0200")) == 3)
        first, second, third = map(bank.answer, bank.seen("0200"))
        await bank.links[0].write(third + first + second[:20])
        assert [(await asked[i]).text(11) for i in (2, 0)] == ["000103", "000101"]
        assert not asked[1].done()
        for byte in second[20:]:
            await bank.links[0].write(bytes([byte]))
        assert (await asked[1]).text(11) == "000102"

    bank_test(check)


def test_cut_line_is_unknown_for_every_request_and_comes_back():
    async def check(bank):
        bank.silent.add("0200")
        asked = [asyncio.create_task(bank.link.exchange(encode(debit(stan)), timeout_s=5)) for stan in (101, 102)]
        await bank.until(lambda: len(bank.seen("0200")) == 2)
        await bank.links[0].close()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [(type(item), item.outcome) for item in results] == [(LinkLost, RequestOutcome.UNKNOWN)] * 2
        with pytest.raises(DeviceUnavailable):
            await bank.link.exchange(encode(debit(103)), timeout_s=5)
        await bank.until(lambda: bank.link.state.state is BankState.UP)
        assert len(bank.seen("0800")) == 2
        bank.silent.clear()
        assert (await bank.link.exchange(encode(debit(104)), timeout_s=5)).mti == "0210"
        causes = [cause for _, state, cause in bank.states if state is BankState.DOWN]
        assert causes == ["the bank closed the connection"]

    bank_test(check)


def test_line_cut_inside_a_message_says_so():
    async def check(bank):
        await bank.links[0].write(b"\x00\x50\x60")
        await bank.links[0].close()
        await bank.until(lambda: bank.states[-1][1] is BankState.DOWN)
        assert "in the middle of a message (3 bytes)" in bank.states[-1][2]

    bank_test(check)


def test_many_terminals_sign_in_side_by_side():
    names = tuple(f"B2E2{number:04d}" for number in range(2 * SIGN_INS_AT_ONCE + 1))

    async def check(bank):
        bank.silent.add("0800")
        task = asyncio.create_task(bank.start())
        await bank.until(lambda: len(bank.seen("0800")) == SIGN_INS_AT_ONCE)
        for request in reversed(bank.seen("0800")):
            await bank.links[-1].write(bank.answer(request))
        bank.silent.clear()
        await task
        assert [request.text(41) for request in bank.seen("0800")] == list(names)

    bank_test(check, terminals=names, started=False)


def test_one_refused_of_many_sign_ins_is_told():
    async def check(bank):
        refused = "B2E20003"
        once = bank.answer
        bank.answer = lambda request: once(request, "03" if request.text(41) == refused else "00")
        bank.running = asyncio.create_task(bank.link.run())
        bank.tasks.append(bank.running)
        await bank.until(lambda: bank.states and bank.states[-1][1] is BankState.DOWN and bank.attempts)
        assert f"sign-in of {refused} refused" in bank.states[-1][2]

    bank_test(check, terminals=("B2E20001", "B2E20002", "B2E20003", "B2E20004"), started=False)


def test_refused_sign_in_waits_longer_and_longer():
    async def check(bank):
        bank.codes["0800"] = "03"
        bank.tasks.append(asyncio.create_task(bank.link.run()))
        await bank.until(lambda: len(bank.attempts) == 8)
        assert BankState.UP not in [state for _, state, _ in bank.states]
        assert "sign-in of B2E20001 refused: 03 merchant not valid" in bank.states[2][2]
        waits = [later - earlier for earlier, later in zip(bank.attempts, bank.attempts[1:], strict=False)]
        for attempt, wait in enumerate(waits):
            longest = min(4.0, 0.5 * 2**attempt)
            assert longest / 2 <= wait <= longest + 0.001

    bank_test(check, started=False, backoff_max_s=4.0)


def test_waits_differ_with_the_seed_and_repeat_with_it():
    def attempts(seed):
        async def main():
            bank = Bank(config(), seed=seed, up=False)
            try:
                bank.tasks.append(asyncio.create_task(bank.link.run()))
                await bank.until(lambda: len(bank.attempts) == 5)
                assert "nobody listens" in bank.states[1][2]
                return bank.attempts
            finally:
                await bank.stop()

        return run(main())

    assert attempts(1) == attempts(1)
    assert attempts(1) != attempts(2)


def test_unanswered_sign_in_ends_the_connection():
    async def check(bank):
        bank.silent.add("0800")
        bank.tasks.append(asyncio.create_task(bank.link.run()))
        await bank.until(lambda: len(bank.attempts) == 2)
        assert "sign-in of B2E20001 not answered" in bank.states[2][2]
        assert bank.attempts[1] - bank.attempts[0] >= 10

    bank_test(check, started=False)


def test_sign_in_answer_without_code_is_unusable():
    async def check(bank):
        bank.answer = lambda request: frame(encode(Message("0810", {11: request.text(11)}, request.tpdu)))
        bank.tasks.append(asyncio.create_task(bank.link.run()))
        await bank.until(lambda: len(bank.attempts) == 2)
        assert "unusable sign-in answer" in bank.states[2][2]

    bank_test(check, started=False)


def flood(bank, count, first=500):
    """Answers that nobody waits for, in one write."""
    return b"".join(bank.answer(debit(first + number % 400_000)) for number in range(count))


def causes(bank):
    return [cause for _, state, cause in bank.states if state is BankState.DOWN]


def test_a_burst_of_late_answers_and_their_copies_is_heard_to_the_last():
    """What a host sends that wakes up: the answer to everything that may be outstanding, twice."""

    async def check(bank):
        count = 2 * bank.config.outstanding_max
        for start in range(0, count, 64):
            await bank.links[0].write(flood(bank, 64, 500 + start))
        await bank.until(lambda: len(bank.late) == count)
        assert len(bank.links) == 1
        await asyncio.sleep(60)
        await bank.links[0].write(flood(bank, count))
        await bank.until(lambda: len(bank.late) == 2 * count)
        assert causes(bank) == []

    bank_test(check)


@pytest.mark.parametrize(
    "piece",
    [
        lambda bank: flood(bank, 1),
        lambda bank: frame(encode(Message("0820", {11: "000001"}))),
        lambda bank: KEEP_ALIVE,
    ],
    ids=["answers", "requests", "keep-alives"],
)
def test_a_flood_of_what_nobody_asked_for_is_cut_and_said_in_few_lines(piece, caplog):
    async def check(bank):
        caplog.clear()
        await bank.links[0].write(piece(bank) * 600)
        await bank.until(lambda: causes(bank))
        assert "nobody asked for" in causes(bank)[0]
        assert bank.link.state.misbehaved
        assert len(bank.late) <= bank.config.unasked_burst
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) <= 4
        if piece(bank) != KEEP_ALIVE:
            assert "509 more messages nobody asked for" in warnings[-1].getMessage()
        await bank.until(lambda: bank.link.state.state is BankState.UP)

    bank_test(check)


def test_exchanges_go_on_while_the_bank_sends_what_nobody_asked_for():
    async def check(bank):
        await bank.links[0].write(flood(bank, 400))
        for number in range(10):
            await bank.links[0].write(flood(bank, 10, 5000 + 10 * number))
            assert (await bank.link.exchange(encode(debit(number + 1)), timeout_s=1)).text(39) == "00"
        assert len(bank.links) == 1

    bank_test(check)


def test_a_host_that_floods_after_each_sign_in_is_backed_off_from_like_one_that_is_away():
    async def check(bank):
        for _ in range(8):
            await bank.until(lambda: bank.link.state.state is BankState.UP)
            await bank.links[-1].write(flood(bank, 600))
            await bank.until(lambda: bank.link.state.state is BankState.DOWN)
        waits = [later - earlier for earlier, later in itertools.pairwise(bank.attempts)]
        assert waits[-1] > 15, waits
        assert len(bank.late) <= bank.config.unasked_burst + bank.config.unasked_per_s * now()

    bank_test(check)


def test_a_host_that_was_good_for_long_is_tried_again_at_once_after_a_flood():
    async def check(bank):
        for _ in range(3):
            await bank.until(lambda: bank.link.state.state is BankState.UP)
            await asyncio.sleep(60)
            await bank.links[-1].write(flood(bank, 600))
            await bank.until(lambda: bank.link.state.state is BankState.DOWN)
            at = now()
            await bank.until(lambda: bank.link.state.state is BankState.UP)
            assert now() - at < 1

    bank_test(check)


def test_a_message_that_does_not_end_takes_the_link_down_however_its_bytes_trickle():
    async def check(bank):
        began = now()
        await bank.links[0].write((1000).to_bytes(2, "big"))
        while not causes(bank) and now() - began < 30:
            await bank.links[0].write(b"\x60")
            await asyncio.sleep(0.5)
        assert causes(bank) == ["the bank began a message and did not end it within 5 s: cut off"]
        assert now() - began == pytest.approx(5, abs=1)

    bank_test(check)


def test_each_message_has_the_whole_time_for_itself():
    async def check(bank):
        message = flood(bank, 1)
        for _ in range(10):
            # The rest of one and the beginning of the next in one piece: never is there no message begun.
            await bank.links[0].write(message[-5:] + message[:-5] if bank.late else message + message[:-5])
            await asyncio.sleep(4)
        assert len(bank.late) == 10
        assert len(bank.links) == 1

    bank_test(check)


def test_bytes_of_a_message_that_is_not_whole_do_not_postpone_the_echo():
    async def check(bank):
        await asyncio.sleep(58)
        await bank.links[0].write(flood(bank, 1)[:-5])
        await asyncio.sleep(3)
        assert len(bank.seen("0820")) == 1

    bank_test(check)


def test_silence_is_filled_with_echoes_and_traffic_postpones_them():
    async def check(bank):
        await asyncio.sleep(40)
        await bank.link.exchange(encode(debit()), timeout_s=1)
        await asyncio.sleep(40)
        assert bank.seen("0820") == []
        await asyncio.sleep(30)
        assert len(bank.seen("0820")) == 1
        assert bank.seen("0820")[0].text(60) == "00000001301"
        await asyncio.sleep(600)
        assert len(bank.seen("0820")) == 11
        assert bank.link.state.state is BankState.UP

    bank_test(check)


def test_unanswered_echoes_take_the_link_down():
    async def check(bank):
        bank.silent.add("0820")
        await asyncio.sleep(60 + 2 * 5 + 1)
        assert bank.link.state.state is BankState.UP
        await asyncio.sleep(5)
        assert len(bank.seen("0820")) == 3
        assert "3 echoes unanswered" in [cause for _, state, cause in bank.states if state is BankState.DOWN]
        await bank.until(lambda: bank.link.state.state is BankState.UP)

    bank_test(check)


def test_anything_heard_during_an_echo_is_life():
    async def check(bank):
        bank.silent.add("0820")
        for _ in range(6):
            await bank.until(lambda: len(bank.seen("0820")) > len(bank.late))
            await bank.links[0].write(bank.answer(debit()))
            bank.requests[:] = [None]
            bank.late.clear()
            await asyncio.sleep(6)
        assert bank.link.state.state is BankState.UP
        assert len(bank.links) == 1

    bank_test(check)


def test_keep_alive_is_returned():
    async def check(bank):
        await bank.links[0].write(KEEP_ALIVE)
        await bank.until(lambda: None in bank.requests)
        assert bank.link.state.state is BankState.UP

    bank_test(check)


def test_single_unreadable_messages_are_survived_and_a_third_is_not():
    async def check(bank):
        for _ in range(2):
            await bank.links[0].write(frame(b"nonsense"))
        assert (await bank.link.exchange(encode(debit()), timeout_s=1)).mti == "0210"
        await bank.links[0].write(frame(b"nonsense"))
        await bank.until(lambda: bank.states[-1][1] is BankState.DOWN)
        assert "unreadable bytes from the bank" in bank.states[-1][2]

    bank_test(check)


def test_impossible_length_ends_the_connection():
    async def check(bank):
        await bank.links[0].write(b"\xff\xff")
        await bank.until(lambda: bank.states[-1][1] is BankState.DOWN)
        assert "length 65535" in bank.states[-1][2]

    bank_test(check)


def test_same_keys_twice_and_too_many_are_refused_unsent():
    async def check(bank):
        bank.silent.add("0200")
        asked = [asyncio.create_task(bank.link.exchange(encode(debit(stan)), timeout_s=5)) for stan in (101, 102)]
        await bank.until(lambda: len(bank.seen("0200")) == 2)
        for stan, why in ((101, "under way already"), (103, "3 requests unanswered")):
            with pytest.raises(DeviceUnavailable, match=why) as caught:
                await bank.link.exchange(encode(debit(stan)), timeout_s=5)
            assert caught.value.outcome is RequestOutcome.NOT_SENT
            if stan == 101:  # a reversal of 101 is another exchange, and fills the last place
                undo = reversal(PROFILE, debit(101))
                bank.silent.add("0400")
                asked.append(asyncio.create_task(bank.link.exchange(encode(undo), timeout_s=5)))
                await bank.until(lambda: bank.seen("0400"))
        assert len(bank.seen("0200")) == 2
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    bank_test(check, outstanding_max=3)


def test_reversal_answered_as_advice_is_understood():
    async def check(bank):
        plain = bank.answer
        bank.answer = lambda request: plain(request, mti="0430")
        undo = reversal(PROFILE, debit(101))
        assert (await bank.link.exchange(encode(undo), timeout_s=1)).mti == "0430"

    bank_test(check)


def test_passed_deadline_sends_nothing():
    async def check(bank):
        with pytest.raises(DeviceTimeout) as caught:
            await bank.link.exchange(encode(debit()), timeout_s=0)
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        assert bank.seen("0200") == []

    bank_test(check)


def test_what_is_no_request_is_our_error():
    async def check(bank):
        for message, field_name in ((Message("0210", {11: "000001"}), "MTI"), (Message("0200", {}), "F11")):
            with pytest.raises(LocalProtocolError) as caught:
                await bank.link.exchange(encode(message), timeout_s=1)
            assert caught.value.field == field_name

    bank_test(check)


def test_request_of_the_bank_is_ignored():
    async def check(bank):
        await bank.links[0].write(frame(encode(Message("0820", {11: "000001"}))))
        assert (await bank.link.exchange(encode(debit()), timeout_s=1)).mti == "0210"
        assert bank.late == []
        assert is_request("0820")

    bank_test(check)


def test_answer_to_a_cancelled_exchange_is_late():
    async def check(bank):
        bank.silent.add("0200")
        asked = asyncio.create_task(bank.link.exchange(encode(debit()), timeout_s=5))
        await bank.until(lambda: bank.seen("0200"))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await bank.links[0].write(bank.answer(bank.seen("0200")[0]))
        await bank.until(lambda: bank.late)

    bank_test(check)


def pending_answer(bank):
    return bank.link._session.pending[0].answer


def test_answer_in_the_same_turn_as_the_cancellation_is_late_not_lost():
    async def check(bank):
        bank.silent.add("0200")
        asked = asyncio.create_task(bank.link.exchange(encode(debit()), timeout_s=5))
        await bank.until(lambda: bank.seen("0200"))
        bank.link._received(bank.link._session, decode(bank.answer(bank.seen("0200")[0])[2:]))
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert [message.text(11) for message in bank.late] == ["000101"]

    bank_test(check)


@pytest.mark.parametrize("cancelled", [False, True])
def test_two_answers_in_one_segment_are_told_in_their_order(cancelled):
    """The first to whoever asked, the second behind it; where nobody is left both come late, in their order."""

    async def check(bank):
        bank.silent.add("0200")
        asked = asyncio.create_task(bank.link.exchange(encode(debit()), timeout_s=5))
        await bank.until(lambda: bank.seen("0200"))
        request = bank.seen("0200")[0]
        for code in ("00", "05"):
            bank.link._received(bank.link._session, decode(bank.answer(request, code)[2:]))
        assert bank.late == [], "nobody has fetched the first one yet"
        if cancelled:
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert [message.text(39) for message in bank.late] == ["00", "05"]
        else:
            assert (await asked).text(39) == "00"
            assert [message.text(39) for message in bank.late] == ["05"]

    bank_test(check)


def test_answer_in_the_same_turn_as_the_deadline_is_not_lost():
    async def check(bank):
        bank.silent.add("0200")
        asked = asyncio.create_task(bank.link.exchange(encode(debit()), timeout_s=5))
        await bank.until(lambda: bank.seen("0200"))
        message = decode(bank.answer(bank.seen("0200")[0])[2:])
        # Timers of one turn run in their order: the answer first, then the deadline, then the waiting task.
        loop = asyncio.get_running_loop()
        loop.call_at(pending_deadline(loop), bank.link._received, bank.link._session, message)
        assert (await asked).text(39) == "00"
        assert bank.late == []

    bank_test(check)


def pending_deadline(loop):
    """When the deadline's timer fires, a hair before: both fall into one turn of the loop."""
    return min(handle.when() for handle in loop._scheduled if "Timeout" in repr(handle)) - 1e-10


def test_stopping_fails_what_is_under_way():
    async def check(bank):
        bank.silent.add("0200")
        asked = asyncio.create_task(bank.link.exchange(encode(debit()), timeout_s=5))
        await bank.until(lambda: bank.seen("0200"))
        bank.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bank.running
        with pytest.raises(LinkLost):
            await asked
        assert bank.link.state.state is BankState.DOWN
        assert bank.link.state.cause == "stopped"

    bank_test(check)


def test_bug_in_a_callback_ends_the_link_visibly():
    async def check(bank):
        bank.link._on_late = lambda _: 1 / 0
        await bank.links[0].write(bank.answer(debit()))
        with pytest.raises(ZeroDivisionError):
            await bank.running
        assert bank.link.state.state is BankState.DOWN

    bank_test(check)


def test_network_stans_stay_in_their_range():
    async def check(bank):
        assert int(bank.seen("0800")[0].text(11)) == NETWORK_STAN_FIRST
        bank.link._network_stan = NETWORK_STAN_LAST
        await asyncio.sleep(61)
        assert int(bank.seen("0820")[0].text(11)) == NETWORK_STAN_FIRST

    bank_test(check)


def test_broken_write_takes_its_outcome_along():
    async def check(bank):
        async def broken(_data):
            raise LinkLost("gone", device="bank", outcome=RequestOutcome.NOT_SENT)

        bank.link._session.link.write = broken
        with pytest.raises(LinkLost) as caught:
            await bank.link.exchange(encode(debit()), timeout_s=1)
        assert caught.value.outcome is RequestOutcome.NOT_SENT
        await bank.links[0].write(KEEP_ALIVE)  # the reader cannot answer it either, and gives up
        await bank.until(lambda: "gone" in bank.states[-1][2])

    bank_test(check)
