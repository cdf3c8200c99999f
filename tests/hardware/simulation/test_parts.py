"""The loop whose clock jumps, the links that do harm, the watcher of the ledger, the summary."""

import asyncio
import logging
import random
import re

import pytest

from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from hardware.bench.simulation import site
from hardware.bench.simulation.log_reader import LogReader, reading
from hardware.bench.simulation.loop import Crew, Deadlock, SimClock, VirtualLoop
from hardware.bench.simulation.storage import Storage, folder
from hardware.bench.simulation.summary import Summary
from hardware.bench.simulation.trace import Trace
from hardware.bench.simulation.wires import MESSAGE_FAULTS, Harm, Network, damage_bank, damage_frame
from hardware.bench.simulation.world import RunResult
from protocols.bank.framing import Framer, frame

pytestmark = pytest.mark.slow


def play(story):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story())


def lines():
    """A network, and the far ends of its connections."""
    loop = asyncio.get_running_loop()
    network = Network(loop, random.Random(1), Trace(loop.time))
    return network, []


def test_an_hour_takes_no_time():
    async def story():
        loop = asyncio.get_running_loop()
        clock = SimClock(loop)
        begun = clock.utcnow()
        await asyncio.sleep(3600)
        assert loop.time() == pytest.approx(3600, abs=1e-5)
        assert (clock.utcnow() - begun).total_seconds() == pytest.approx(3600, abs=1e-5)

    play(story)


def test_waiting_for_nothing_is_an_error():
    async def story():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        play(story)


def test_a_rest_smaller_than_the_clock_can_tell_does_not_spin():
    async def story():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(70.56803)
        due = loop.time() + 1e-14
        turns = 0
        while loop.time() < due:
            turns += 1
            await asyncio.sleep(due - loop.time())
        return turns

    assert play(story) <= 2


def test_a_crew_is_dropped_with_all_that_it_began():
    async def story():
        crew, ended = Crew("crew"), []

        async def child():
            try:
                await asyncio.sleep(100)
            finally:
                ended.append("child")

        async def parent():
            task = asyncio.get_running_loop().create_task(child())
            await task

        crew.start(parent())
        await asyncio.sleep(1)
        assert len(crew.tasks) == 2
        await crew.drop()
        assert ended == ["child"]
        assert not crew.tasks

    play(story)


@pytest.mark.parametrize("fault", MESSAGE_FAULTS)
def test_every_fault_of_a_message_does_what_its_name_says(fault):
    async def story():
        network, ends = lines()
        harm = Harm({fault: 1.0}, (1.0, 2.0), lambda data, _: data.upper())
        network.listen("peer", ends.append, Crew("peer"), harm)
        link = await network.connect("peer", "device")
        await asyncio.sleep(0)
        await link.write(b"first")
        network.calm = True
        arrived = b""
        try:
            await link.write(b"second")
            async with asyncio.timeout(5):
                while True:
                    data = await ends[0].read(100)
                    if not data:
                        break
                    arrived += data
        except (TimeoutError, ConnectionError, LinkLost):
            pass
        assert network.counts == {f"peer.{fault}": 1}
        return arrived

    arrived = play(story)
    expected = {
        "drop": rb"second",
        "delay": rb"firstsecond",
        "duplicate": rb"firstfirstsecond|firstsecondfirst",
        "reorder": rb"secondfirst",
        "cut": rb"(first)?(second)?",
        "half_frame": rb"f(i|ir|irs)?(second)?",
        "corrupt": rb"FIRSTsecond",
    }
    assert re.fullmatch(expected[fault], arrived)


def test_a_closed_link_says_the_end_for_ever_and_a_broken_one_that_nothing_was_sent():
    async def story():
        network, ends = lines()
        network.listen("peer", ends.append, Crew("peer"), Harm())
        link = await network.connect("peer", "device")
        await asyncio.sleep(0)
        ends[0].send(b"bye")
        ends[0].close()
        assert [await link.read(10), await link.read(10), await link.read(10)] == [b"bye", b"", b""]
        other = await network.connect("peer", "device")
        network.cut("peer")
        with pytest.raises(LinkLost) as lost:
            await other.write(b"x")
        assert lost.value.outcome is RequestOutcome.NOT_SENT
        with pytest.raises(LinkLost):
            await other.read(10)
        network.ignore("peer")
        with pytest.raises(DeviceUnavailable):
            await network.connect("peer", "device")

    play(story)


def test_what_a_dead_gateway_wrote_still_arrives():
    async def story():
        network, ends = lines()
        network.listen("peer", ends.append, Crew("peer"), Harm())
        link = await network.connect("peer", "device")
        await asyncio.sleep(0)
        await link.write(b"last words")
        link.wire.abandon()
        ends[0].send(b"nobody hears this")
        assert [await ends[0].read(100), await ends[0].read(100)] == [b"last words", b""]

    play(story)


def test_damage_can_be_told():
    message = frame(bytes.fromhex("6000030000603100310100") + bytes(20))
    damaged = damage_bank(message, random.Random(1))
    assert len(damaged) == len(message)
    framer = Framer()
    framer.feed(damaged)
    assert framer.next_frame() is not None
    whole = bytes(range(40))
    hurt = damage_frame(whole, random.Random(1))
    assert sum(bin(a ^ b).count("1") for a, b in zip(whole, hurt, strict=True)) == 1


def test_the_watcher_sees_committed_rows_and_no_others():
    seen = []
    with folder() as path:
        storage = Storage(
            site.template(),
            path / "ledger.db",
            random.Random(1),
            Trace(lambda: 0.0),
            seen.append,
            salts=random.Random(2),
        )
        writer, reader = storage.open()
        with writer.begin() as connection:
            connection.exec_driver_sql("insert into account values (1, 'bank', 'b', 0, 0, 0)")
        storage.committed(writer)
        with writer.connect() as connection:
            connection.begin()
            connection.exec_driver_sql("update account set balance = 7")
            connection.rollback()
        storage.committed(writer)
        with writer.begin() as connection:
            connection.exec_driver_sql("update account set balance = 5")
        storage.committed(writer)
        storage.close(writer, reader)
    told = [[(row[1], row[2], *row[3:7]) for row in rows] for rows in seen]
    assert told == [[("+account", 1, "bank", "b", 0, 0)], [], [("~account", 1, 5, 0, None, None)]]


def outcome(**changes):
    values = {"seed": 1, "workload": "engine", "digest": "d", "lines": 1, "commits": 1, "virtual_s": 1.0}
    return RunResult(**{**values, "problem": None, "last_lines": [], **changes})


def test_a_run_of_full_size_that_left_something_out_is_no_good():
    summary = Summary()
    summary.add(outcome(done=10))
    assert summary.good
    summary.add(outcome(done=1_000_000))
    summary.add(outcome(done=100_000, workload="lanes"))
    assert summary.good
    summary.add(outcome(done=100_000, workload="fuel"))
    assert not summary.good
    assert "fault bank.drop: 0" in summary.missing()
    assert "hit fewer than 100 times" in summary.text()


def test_a_broken_promise_is_no_good():
    summary = Summary()
    summary.add(outcome(problem="a fen is missing"))
    assert not summary.good
    assert summary.as_dict()["broken"] == [{"seed": 1, "workload": "engine", "problem": "a fen is missing"}]


def test_a_line_of_the_log_that_names_somebody_is_told():
    told = []
    log = logging.getLogger("gateway.points.anything")
    level = logging.getLogger("gateway").level
    reader = LogReader(told.append)
    with reading(reader):
        log.info("record %d of lane %s, plate %s", 7, site.lane_name(0), "测A0****")
        log.info("debit %s", "01a206217041791780fe6b2a4dd9c6ab")
        log.debug("card %s", "9901" + "0" * 16)
        assert (reader.lines, told) == (2, [])
        log.info("card %s", site.fleet()[0].card_number)
        log.error("it failed", exc_info=ValueError(f"no account {site.fleet()[0].contract_ref}"))
        log.info("tag %s", site.fleet()[0].tag_contract.lower())
        log.info("plate %s", site.fleet()[0].plate)
    log.warning("after it: %s", site.fleet()[0].plate)
    assert [text.split()[2] for text in told] == [
        site.fleet()[0].card_number,
        site.fleet()[0].contract_ref,
        site.fleet()[0].tag_contract.lower(),
        site.fleet()[0].plate,
    ]
    assert logging.getLogger("gateway").level == level
