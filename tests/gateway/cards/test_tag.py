"""Tags read through an emulated antenna, and out of hex, and judged: every reason, and never a purchase."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from drivers.clock import SystemClock
from drivers.errors import DeviceTimeout, DeviceUnavailable, RequestOutcome
from drivers.link import open_link
from drivers.rsu import RsuConfig
from gateway.cards.standing import lists_in_force
from gateway.cards.tag import TagBytesWrong, TagContents, tag_at, tag_of
from gateway.cards.tag_verdict import TagCheck, judge_tag
from gateway.cards.verdict import Check, ListsInForce, Question, SiteFacts
from gateway.payers.mandates import IssuerPolicy, Issuers
from gateway.payers.status_list_build import build
from gateway.payers.status_lists import DROP_BOUND
from gateway.points.etc.rsu_errors import PROFILE_OF_DIALECT, PROFILES
from hardware.emulators.road import Event, VehicleSpec
from hardware.emulators.rsu_antenna import Antenna
from hardware.emulators.rsu_antenna import RsuConfig as AntennaConfig
from protocols.codings import CHINA_TIME
from protocols.obu import route_file_new, system_info_new, vehicle_file_new
from protocols.rsu.dialect import Side
from protocols.rsu.messages import Continue, DeviceType, Initialise, Stop, StopType, SwitchAntenna
from protocols.rsu.registry import dialect_named
from protocols.rsu.session import Received, Session
from tests.hardware.samples import C0, QUICK, car

V3, SERIAL = dialect_named("pcrsu-v3"), dialect_named("legacy-serial-bj")
STUCK_S = 60.0
AT = datetime(2026, 12, 1, 4, tzinfo=UTC)
ASKED = Question(AT, CHINA_TIME, clock_trusted=True)
SITE = SiteFacts(
    Issuers({bytes.fromhex("B2E2CAD4"): IssuerPolicy("issuer-9901")}),
    ListsInForce(None, timedelta(hours=1)),
    None,
)
ISSUER = bytes.fromhex("B2E2CAD499010001")


def errors_of(dialect):
    return PROFILES[PROFILE_OF_DIALECT[dialect.name]]


def read(spec, dialect=V3, wait_s=STUCK_S, sent=None):
    """Contents of a vehicle's tag, and what the antenna had to do with it; its orders go into `sent`."""
    sent = bytearray() if sent is None else sent

    async def inside():
        antenna = Antenna(AntennaConfig(dialect=dialect, **QUICK))
        await antenna.listen()
        try:
            vehicle = None if spec is None else antenna.arrive(VehicleSpec.from_json(spec))
            config = RsuConfig("antenna", dialect, lambda: replace(C0, flag_id=None) if dialect is SERIAL else C0)
            address = "{}:{}".format(*antenna.address)

            async def connect():
                link = await open_link(address, timeout_s=STUCK_S, device="antenna")
                write = link.write

                async def noted(data):
                    sent.extend(data)
                    await write(data)

                monkey.setattr(link, "write", noted)
                return link

            found = await tag_at(config, errors_of(dialect), connect, SystemClock(), wait_s=wait_s)
            return found, vehicle
        finally:
            await antenna.close()

    with pytest.MonkeyPatch.context() as monkey:
        return asyncio.run(inside())


def said_to(antenna_bytes):
    """Messages that an antenna was sent."""
    events = Session(V3, Side.RSU).receive(antenna_bytes, 0.0).events
    return [event.message for event in events if isinstance(event, Received)]


def codes(verdict, *, refusing=True):
    return [finding.reason.code for finding in verdict.findings if finding.refuses or not refusing]


def test_a_tag_is_read_and_nothing_bought():
    tag, vehicle = read(car())
    assert (tag.obu_id, tag.device_type) == (bytes.fromhex("99000001"), DeviceType.TWO_PIECE)
    assert tag.system.contract_number == "9901230100000001"
    assert (tag.vehicle.plate, tag.card.card_file.plate, tag.balance_raw) == ("测A00001", "测A00001", 50_000)
    assert tag.card.station.station_code == "99010101"
    assert (vehicle.events[Event.ORDERED], vehicle.events[Event.TAKEN]) == (0, 0)
    assert vehicle.events[Event.READ] == 1


def test_an_antenna_is_let_go_and_hears_of_no_purchase():
    sent = bytearray()
    read(car(), sent=sent)
    said = said_to(bytes(sent))
    assert [type(message) for message in said] == [Initialise, SwitchAntenna, Continue, Stop]
    assert said[-1].stop_type == StopType.SEARCH_AGAIN


def test_a_listed_tag_is_refused(tmp_path):
    file = tmp_path / "delivery.csv"
    file.write_text(f"kind,key,list_type,sign\nobu,{ISSUER.hex().upper()}9901230100000001,1,1\n", encoding="utf-8")
    build(file, tmp_path, version="L1", created_at=AT, effective_at=AT)
    known = replace(SITE, lists=lists_in_force(tmp_path, AT, DROP_BOUND, timedelta(hours=48)))
    tag, _ = read(car())
    assert codes(judge_tag(tag, ASKED, known)) == ["obu_listed"]
    other, _ = read(car(2))
    assert codes(judge_tag(other, ASKED, known)) == []


def test_a_tag_is_read_in_two_steps_where_the_dialect_has_them():
    tag, vehicle = read(car(), SERIAL)
    assert (tag.vehicle.plate, tag.card.card_file.plate) == ("测A00001", "测A00001")
    assert (vehicle.events[Event.DESCRIBED], vehicle.events[Event.ORDERED]) == (1, 0)


def test_a_tag_that_is_not_there_is_told():
    with pytest.raises(DeviceTimeout, match="no tag within") as told:
        read(None, wait_s=0.3)
    assert told.value.outcome is RequestOutcome.NOT_SENT


def test_an_antenna_that_is_not_there_is_told():
    async def inside():
        config = RsuConfig("antenna", V3, lambda: C0)
        connect = partial(open_link, "127.0.0.1:1", timeout_s=STUCK_S, device="antenna")
        await tag_at(config, errors_of(V3), connect, SystemClock(), wait_s=0.3)

    with pytest.raises(DeviceUnavailable):
        asyncio.run(inside())


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, []),
        ({"obu": {"tampered": True}}, ["obu_tampered"]),
        ({"obu": {"locked": True}}, ["obu_locked"]),
        ({"obu": {"expires": "2025-01-01"}}, ["obu_expired"]),
        ({"obu": {"network": "4301"}}, ["obu_issuer_unknown"]),
        ({"card": {"plate": "测A99999"}}, ["plate_mismatch"]),
        ({"vehicle_class": 8, "card": {"vehicle_class": 1}}, ["obu_class_illegal", "class_mismatch"]),
        ({"obu": {"tampered": True, "locked": True}, "card": {"balance_fen": 0}}, ["obu_tampered", "obu_locked"]),
    ],
)
def test_every_reason_is_told(change, wanted):
    tag, _ = read(car(**change))
    judged = judge_tag(tag, ASKED, SITE)
    found = [code for code in codes(judged) if code not in ("list_unavailable", "purse_zero")]
    assert found == wanted
    assert ("purse_zero" in codes(judged)) == (change.get("card", {}).get("balance_fen") == 0)


def test_a_tag_without_a_card_is_told_and_its_card_not_judged():
    spec = car(obu={"no_card": True})
    spec["card"] = None
    tag, _ = read(spec)
    judged = judge_tag(tag, ASKED, SITE)
    assert "obu_no_card" in codes(judged)
    assert set(Check) | {TagCheck.VEHICLE} <= set(judged.not_made)
    assert not judged.taken


def test_without_a_site_its_checks_are_not_made():
    tag, _ = read(car(obu={"battery_low": True}))
    judged = judge_tag(tag, replace(ASKED, clock_trusted=False), None)
    assert judged.taken
    assert codes(judged, refusing=False) == ["obu_battery_low"]
    assert {TagCheck.TAG_ISSUER, TagCheck.TAG_LISTS, TagCheck.TAG_DATES, Check.ISSUER} <= set(judged.not_made)
    assert TagCheck.STATUS not in judged.not_made


# --- hex --------------------------------------------------------------------------------------------------------------


SYSTEM = system_info_new(
    issuer=ISSUER, contract_serial=bytes(8), starts=date(2024, 1, 1), expires=date(2034, 1, 1), mount_flag=0
)
VEHICLE = vehicle_file_new(plate="测A12345", plate_colour=0, vehicle_class=1)


def of(*pieces):
    return tag_of(pieces, V3, errors_of(V3))


def test_files_are_told_by_their_lengths():
    read_tag, _ = read(car())
    station = read_tag.station_file
    tag = of(SYSTEM, VEHICLE, read_tag.card_file, station, route_file_new(station), b"\x20\x01")
    assert (tag.system.mount_flag, tag.vehicle.plate, tag.route.plate) == (0, "测A12345", "测A00001")
    assert tag.card.station.station_code == "99010101"
    judged = judge_tag(tag, ASKED, SITE)
    assert {"plate_mismatch", "obu_entry_invalid"} <= set(codes(judged))
    assert of(read_tag.card_file[:43]).card_file is not None
    assert of(b"\xaa\x29\x00" + bytes(40)).station_file is not None
    assert codes(judge_tag(of(SYSTEM), ASKED, None)) == ["obu_tampered"]


def frame(name):
    lines = (Path(__file__).parents[2] / "vectors" / "rsu-frames.jsonl").read_text("utf-8").splitlines()
    return next(vector for vector in map(json.loads, lines) if vector["id"] == name)["hex"]


def test_a_pasted_report_is_a_tag():
    tag = of(bytes.fromhex(frame("v3-b4-01")))
    assert (tag.vehicle is not None, tag.card is not None) == (True, True)


@pytest.mark.parametrize("piece", [b"", b"\x01", bytes(72), bytes(10), bytes(300)])
def test_what_is_nothing_of_a_tag_is_refused(piece):
    with pytest.raises(TagBytesWrong):
        of(piece)


def test_an_error_byte_is_told_with_its_reason():
    tag = TagContents(error=0x05, fault="vehicle_decrypt_failed")
    assert judge_tag(replace(tag, fault=None), ASKED, None).findings[0].reason.code == "rsu_error_unlisted"


def test_a_cpc_card_goes_to_the_attendant():
    assert "cpc_to_attendant" in codes(judge_tag(TagContents(device_type=DeviceType.CPC_CARD), ASKED, None))
