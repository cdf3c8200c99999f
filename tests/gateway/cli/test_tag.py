"""`etcgw tag`: out of hex and through an emulated antenna, for people and programs."""

import asyncio
import json
from datetime import date

import pytest

from gateway.cli import tag as command
from hardware.emulators.road import Event, VehicleSpec
from hardware.emulators.rsu_antenna import Antenna, RsuConfig
from protocols.card import card_file_new
from protocols.obu import system_info_new, vehicle_file_new
from tests.gateway.cli.test_json_shapes import compare, merged, shape
from tests.hardware.samples import QUICK, car

ISSUER = bytes.fromhex("B2E2CAD499010001")
FROM, TO = date(2024, 1, 1), date(2034, 1, 1)


def system(**facts):
    known = {"issuer": ISSUER, "contract_serial": bytes.fromhex("9901230100000001"), "starts": FROM, "expires": TO}
    return system_info_new(**(known | facts)).hex()


def vehicle(plate="测A12345"):
    return vehicle_file_new(plate=plate, plate_colour=0, vehicle_class=1).hex()


def card_file(plate="测A12345"):
    return card_file_new(
        issuer=ISSUER,
        card_type=22,
        version=0x40,
        network="9901",
        inner_number=bytes.fromhex("2301220100000001"),
        starts=FROM,
        expires=TO,
        plate=plate,
        plate_colour=0,
        vehicle_class=1,
    ).hex()


def hexes(*pieces):
    return [word for piece in pieces for word in ("--hex", piece)]


AT = ("--at", "2026-12-01T12:00:00+08:00")


def test_a_tag_out_of_hex(run):
    shown = run("tag", "read", *hexes(system(), vehicle(), card_file())).stdout
    assert "测A***45" in shown
    assert "测A12345" not in shown
    assert "9901230100000001" not in shown
    bare = run("tag", "read", *hexes(system(), vehicle()), "--unmask").stdout
    assert "测A12345" in bare
    assert "9901230100000001" in bare
    assert "系统信息文件" in run("tag", "read", *hexes(system()), "--lang", "zh").stdout


def test_json_of_a_tag_hides_what_gives_it_away(run, ask):
    found = ask("tag", "read", *hexes(system(), vehicle(), card_file()))
    assert "12345" not in json.dumps(found, ensure_ascii=False)
    compare("tag-read", shape(found))
    assert ask("tag", "read", *hexes(vehicle()), "--unmask")["plate"] == "测A12345"


def test_a_verdict_names_every_reason(run, ask):
    good = ask("tag", "verdict", *hexes(system(), vehicle(), card_file()), *AT)
    assert (good["taken"], good["findings"]) == (True, [])
    bad = hexes(system(mount_flag=0, expires=FROM), vehicle(), card_file("测A12346"))
    found = ask("tag", "verdict", *bad, *AT, code=1)
    assert found["error"]["code"] == "tag_refused"
    assert [one["reason"]["code"] for one in found["findings"]] == ["obu_tampered", "obu_expired", "plate_mismatch"]
    assert "tag_lists" in found["not_checked"]
    del found["error"]  # only of a refusal
    compare("tag-verdict", merged(shape(good), shape(found)))
    shown = run("tag", "verdict", *bad, *AT, "--lang", "zh", code=1)
    assert "将被拒绝" in shown.stdout
    assert "3 个原因" in shown.stderr


def test_a_site_judges_issuer_and_lists(run, ask, site, ledger):
    found = ask("tag", "verdict", *hexes(system(), card_file()), *AT, "--config", site)
    told = {one["reason"]["code"] for one in found["findings"]}
    assert "obu_issuer_unknown" not in told
    assert {"tag_issuer", "tag_lists"}.isdisjoint(found["not_checked"])
    foreign = system(issuer=bytes.fromhex("BAFEC4CF43010001"))
    found = ask("tag", "verdict", *hexes(foreign), *AT, "--config", site, code=1)
    assert "obu_issuer_unknown" in {one["reason"]["code"] for one in found["findings"]}


def test_a_tag_is_read_through_an_antenna(run, ask):
    async def read():
        antenna = Antenna(RsuConfig(**QUICK))
        await antenna.listen()
        try:
            there = antenna.arrive(VehicleSpec.from_json(car()))
            address = "{}:{}".format(*antenna.address)
            return await asyncio.to_thread(ask, "tag", "read", "--antenna", address, "--wait", "60"), there
        finally:
            await antenna.close()

    found, there = asyncio.run(read())
    assert (found["balance_raw"], found["device_type"], found["plate"]) == (50_000, 1, "测A***01")
    assert (there.events[Event.READ], there.events[Event.ORDERED]) == (1, 0)


def test_an_antenna_that_is_away_ends_with_3(run):
    shown = run("tag", "read", "--antenna", "127.0.0.1:1", "--wait", "0.2", code=3)
    assert "127.0.0.1:1" in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--antenna", "127.0.0.1:1", "--hex", "00"),
        ("--antenna", "nowhere"),
        ("--antenna", "127.0.0.1:1", "--dialect", "none"),
        ("--lane", "lane-1"),
        ("--hex", "0"),
        ("--hex", "zz"),
        ("--hex", "00" * 72),
        ("--hex", "00" * 5),
    ],
)
def test_what_cannot_be_meant_is_usage(run, arguments):
    run("tag", "read", *arguments, code=2)


def test_a_lane_of_the_site(run, site):
    run("tag", "read", "--config", site, "--lane", "lane-9", code=2)
    shown = run("tag", "read", "--config", site, "--lane", "lane-1", "--wait", "0.2", code=3)
    assert "127.0.0.1:9" in shown.stderr


def test_an_antenna_in_a_gateways_hands_is_left_alone(run, site, monkeypatch):
    class Running:
        running = True

    monkeypatch.setattr("gateway.views.health.health_of", lambda path, now_us: Running)
    monkeypatch.setattr(command, "_through", pytest.fail)
    shown = run("tag", "read", "--config", site, "--lane", "lane-1", code=3)
    assert "gateway" in shown.stderr
