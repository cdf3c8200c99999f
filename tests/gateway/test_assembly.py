"""Parts built from a site file: what each kind of charge point needs, and nothing that it does not."""

import asyncio
import random
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
from pydantic import Field

from drivers.http_routes import Arrival
from gateway.assembly import Documents, Storage, assemble, assemble_point
from gateway.config import SiteFile
from gateway.ledger import engines
from gateway.ledger.writer import Committer, Writer
from gateway.model.clock import to_us
from gateway.payers import status_list_build
from gateway.payers.status_lists import StatusLists
from gateway.points.assemble import Point
from gateway.points.config import ChargePoint, Need
from gateway.points.toll.config import ChargingLane, EntryLane
from gateway.rules.loading import shipped_rules
from gateway.secret_files import SecretError
from gateway.tariffs.loading import load_tariffs
from gateway.timekeeping import Timekeeper
from hardware.bench.chain_key import KEYS
from hardware.bench.clocks import StillClock
from hardware.bench.ledgers import new_ledger
from tests.gateway.ledger.queries import AnswersAtOnce
from tests.gateway.points.plaza import AT, TARIFF

LANE = {
    "name": "lane-1",
    "station": "99010101",
    "lane_no": 1,
    "gantry": "990101",
    "antenna": {"address": "127.0.0.1:1"},
    "outputs": {"board": "plaza", "barrier": 0, "green": 1, "red": 2},
}
BOARD = {"name": "plaza", "address": "127.0.0.1:2"}
BANK = {"name": "bank-1", "address": "127.0.0.1:3", "merchant_no": "990100047840001"}
ISSUER = {"region": "B2E2CAD4", "name": "issuer-9901"}


class Surroundings:
    """Nothing is there to be connected to, and nobody may try while parts are made."""

    def __init__(self):
        self.clock = StillClock(to_us(AT))
        self.chance = random.Random(1)
        self.devices = []
        self.served = []

    async def connect(self, address, *, device):
        raise AssertionError(f"{device} was connected by being made")

    def http_server(self, section, on_condition):
        return SimpleNamespace(add=lambda *routes: self.served.extend(routes), run=None)

    def board(self, section, on_state):
        return SimpleNamespace(name=section.name, clock=self.clock)

    def device(self, name, make):
        self.devices.append(name)
        return make()


class Listener:
    def __init__(self):
        self.told = {}

    def tell(self, part, works, cause, code=None):
        self.told[part] = (works, code)

    def note_timing(self, timing):
        raise AssertionError

    def backlog(self, channel, backlog):
        raise AssertionError


@pytest.fixture
def build(tmp_path):
    """Build a site of these charge points; lists and tariffs are there where the kind says that it needs them."""
    for name in ("tariffs", "lists"):
        (tmp_path / name).mkdir()
    (tmp_path / "tariffs" / "a.toml").write_text(TARIFF, encoding="utf-8")
    (tmp_path / "delivery.csv").write_text("kind,key,list_type,sign\n", encoding="utf-8")
    status_list_build.build(tmp_path / "delivery.csv", tmp_path / "lists", version="L1", created_at=AT, effective_at=AT)
    new_ledger(tmp_path / "ledger.db", StillClock(to_us(AT)))

    def call(*points, model=SiteFile, **more):
        site = model.model_validate({"mode": "bench", "site": {"name": "one"}, "charge_points": list(points), **more})
        writing, reading = engines.open_writer(tmp_path / "ledger.db"), engines.open_reader(tmp_path / "ledger.db")
        surroundings, listener = Surroundings(), Listener()
        writer = Writer(Committer(writing, surroundings.clock, keys=KEYS))
        documents = Documents(
            shipped_rules(),
            StatusLists.open(tmp_path / "lists", AT) if site.need(Need.LISTS) else None,
            load_tariffs(tmp_path / "tariffs") if site.need(Need.TARIFFS) else None,
        )
        try:
            parts = assemble(
                site,
                surroundings,
                Storage(writer, AnswersAtOnce(reading), lambda: None),
                documents,
                time=Timekeeper(surroundings.clock),
                listener=listener,
            )
        finally:
            writing.dispose()
            reading.dispose()
        return parts, surroundings, listener

    return call


@pytest.mark.parametrize("kind", ["toll-open", "toll-exit", "toll-entry"])
def test_a_site_of_one_lane_and_no_bank(build, kind):
    parts, surroundings, listener = build(LANE | {"kind": kind}, issuers=[ISSUER], relay_boards=[BOARD])
    assert [point.name for point in parts.points] == ["lane-1"]
    assert list(parts.points[0].devices) == ["antenna/lane-1"]
    assert (dict(parts.banks), list(parts.boards.boards)) == ({}, ["plaza"])
    assert surroundings.devices == ["lane-1/antenna", "lane-1/outputs"]
    assert listener.told == {"board/plaza": (False, "barrier_fault"), "lane-1/antenna": (False, "rsu_silent")}
    assert list(parts.decline_policies) == ["lane-1"]


def test_an_entry_lane_needs_no_tariff_and_a_lane_that_charges_does():
    assert Need.TARIFFS not in EntryLane.needs
    assert Need.TARIFFS in ChargingLane.needs


def test_each_bank_has_its_line_its_outbox_and_its_debts(build):
    lanes = [
        LANE | {"kind": "toll-open", "terminals": {"bank-1": ["T0000001"]}},
        LANE
        | {
            "kind": "toll-open",
            "name": "lane-2",
            "lane_no": 2,
            "antenna": {"address": "127.0.0.1:4"},
            "outputs": {"board": "plaza", "barrier": 3, "green": 4, "red": 5},
            "terminals": {"bank-1": ["T0000002"]},
        },
    ]
    parts, surroundings, listener = build(*lanes, issuers=[ISSUER], relay_boards=[BOARD], banks=[BANK])
    assert list(parts.banks) == ["bank/bank-1", "outbox/bank-1", "debts/bank-1"]
    assert surroundings.devices[0] == "bank/bank-1"
    assert listener.told["bank/bank-1"] == (False, "bank_unavailable")
    assert parts.engine.banks.channel("bank-1")._terminals == {"lane-1": ["T0000001"], "lane-2": ["T0000002"]}


class Kiosk(ChargePoint):
    kind: Literal["kiosk"]


class SiteWithKiosks(SiteFile):
    charge_points: list[Annotated[ChargingLane | EntryLane | Kiosk, Field(discriminator="kind")]]


class Idle:
    async def run(self):
        await asyncio.Event().wait()

    async def drain(self):
        pass


def test_a_new_kind_of_charge_point_needs_no_board_issuer_bank_list_or_tariff(build):
    assemble_point.register(Kiosk, lambda section, common: Point(section.name, Idle(), {}))
    parts, surroundings, _ = build({"kind": "kiosk", "name": "kiosk-1"}, model=SiteWithKiosks)
    assert [point.name for point in parts.points] == ["kiosk-1"]
    assert surroundings.devices == []
    assert list(parts.decline_policies) == ["kiosk-1"]


def test_a_kind_that_nobody_can_assemble_is_an_error_of_ours(build):
    class Unknown(ChargePoint):
        kind: Literal["unknown"]

    class Site(SiteFile):
        charge_points: list[Unknown]

    with pytest.raises(TypeError, match="kiosk-1"):
        build({"kind": "unknown", "name": "kiosk-1"}, model=Site)


ISLAND = {
    "kind": "fuel",
    "name": "island-1",
    "station": "99010101",
    "lane_no": 1,
    "gantry": "990101",
    "antenna": {"address": "127.0.0.1:1"},
}
PTS = {"name": "pts", "dialect": "jsonpts", "pts_id": "003A003A3435510938393730"}
CALLS = {"sources": ["127.0.0.1"]}


def island(*links, name="island-1", **more):
    sides = [
        {"number": i, "pump": link["name"], "address": 80 if "pts_id" not in link else 1, "nozzles": [NOZZLE]}
        for i, link in enumerate(links, 1)
    ]
    return ISLAND | {"name": name, "pumps": list(links), "sides": sides} | more


NOZZLE = {"number": 1, "grade": "92"}


def test_lines_of_an_island_are_set_as_their_dialect_usually_is(build):
    lines = [
        {"name": "one", "address": "serial:/dev/ttyS0"},
        {"name": "two", "address": "serial:/dev/ttyS1?baud=19200"},
    ]
    parts, surroundings, listener = build(island(*lines), issuers=[ISSUER])
    devices = parts.points[0].devices
    addresses = [devices[f"pumps/island-1/{name}"].__self__._connect.args[0] for name in ("one", "two")]
    assert [str(address) for address in addresses] == ["serial:/dev/ttyS0 9600 8O1", "serial:/dev/ttyS1 19200 8O1"]
    assert (surroundings.served, dict(parts.doors.tasks())) == ([], {})
    assert "http" not in listener.told


def test_all_controllers_that_call_share_one_door(build):
    other = PTS | {"pts_id": "003A003A3435510938393731"}
    points = [island(PTS | {"calls": CALLS}), island(other | {"calls": CALLS}, name="island-2", lane_no=2)]
    points[1]["antenna"] = {"address": "127.0.0.1:2"}
    parts, surroundings, listener = build(*points, issuers=[ISSUER])
    assert [route.path for route in surroundings.served] == ["/jsonPTS", "/ptsWebSocket"]
    guard = surroundings.served[1].guard
    for number in (PTS["pts_id"], other["pts_id"]):
        assert guard.refusal(Arrival("127.0.0.1", "/", {"x-pts-id": number})) is None
        assert guard.refusal(Arrival("127.0.0.2", "/", {"x-pts-id": number})).status == 403
    assert list(parts.doors.tasks()) == ["http"]
    assert listener.told["http"] == (False, "http_unavailable")
    assert listener.told["island-2/pts"] == (False, "pump_unavailable")


def test_a_controller_that_is_called_opens_no_door_and_its_login_is_read(build, tmp_path):
    link = PTS | {"address": "http://127.0.0.1:3", "login": str(tmp_path / "login"), "login_kind": "basic"}
    with pytest.raises(SecretError, match="No such file"):
        build(island(link), issuers=[ISSUER])
    (tmp_path / "login").touch(0o600)
    (tmp_path / "login").write_text("user:pass:word\n")
    parts, surroundings, _ = build(island(link), issuers=[ISSUER])
    http = parts.points[0].devices["pumps/island-1/pts"].__self__.controller.config.http
    assert (http.login.user, http.login.password, http.login_kind.value) == ("user", "pass:word", "basic")
    assert surroundings.served == []
