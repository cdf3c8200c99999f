"""What an antenna gets out of a vehicle: identity, files, purchase with all its ends, lost TAC."""

import pytest

from hardware.emulators.card import make_card
from hardware.emulators.obu import make_obu
from hardware.emulators.psam import Psam
from hardware.emulators.test_keys import ROOTS
from hardware.emulators.transaction import AirTransaction, DebitError, ReadError, TacError
from protocols.card import decode_card_file, decode_station, station_new
from protocols.card.psam import KeyKind
from protocols.crypto import Algorithm, Trade, diversify, tac
from protocols.obu import decode_vehicle_file, vehicle_file_new
from protocols.rsu.messages import DeviceType

TIME = "20240301113015"
REGION = bytes.fromhex("B2E2CAD4") * 2


def fixed(length: int) -> bytes:
    return bytes(range(7, 7 + length))


def station(fee_fen: int = 0) -> bytes:
    return station_new(
        network="9901",
        station="0105",
        lane=1,
        unix_seconds=1709263815,
        vehicle_class=1,
        status=4,
        plate="测A12345",
        plate_colour=0,
        fee_fen=fee_fen,
    )


def bench_card(**facts):
    return make_card(**({"plate": "测A12345", "balance_raw": 50000, "random": fixed} | facts))


def vehicle(card="default", obu=None, sam=None, **card_facts):
    card = bench_card(**card_facts) if card == "default" else card
    obu = obu if obu is not None else make_obu(plate="测A12345", random=fixed)
    sam = sam if sam is not None else Psam(mode="bench")
    return AirTransaction(obu, card, sam, random=fixed), card, sam


def test_identify():
    air, _, _ = vehicle()
    found = air.identify()
    assert (found.obu_id, found.device_type) == (bytes.fromhex("08411A01"), DeviceType.TWO_PIECE)
    assert found.system_info.contract_number == "9901230100000001"
    assert found.status == bytes.fromhex("2001")
    assert vehicle(card=None)[0].identify().status == bytes.fromhex("A001")


@pytest.mark.parametrize(("obu_version", "card_version"), [(0x10, 0x40), (0x51, 0x50)])
def test_read_user(obu_version, card_version):
    obu = make_obu(plate="测A12345", plate_colour=4, version=obu_version, random=fixed)
    air, card, _ = vehicle(obu=obu, version=card_version, station=station())
    found = air.read_user()
    assert found.error == ReadError.OK
    assert len(found.vehicle_file) == 79
    tag = decode_vehicle_file(found.vehicle_file)
    assert (tag.plate, tag.plate_colour, tag.vehicle_class) == ("测A12345", 4, 1)
    assert (len(found.card_file), decode_card_file(found.card_file)) == (50, card.card_file)
    assert (found.station, found.balance_raw) == (station(), 50000)
    assert (found.cpc_province, found.cpc_fee) == (None, None)


def test_chips_on_t0_serve_as_well():
    air, _, _ = vehicle(sam=Psam(mode="bench", t0=True), t0=True)
    assert air.read_user().error == ReadError.OK
    assert air.purchase(1, TIME, station()).error == DebitError.OK


@pytest.mark.parametrize("size", [59, 16])
def test_short_vehicle_files_and_old_cards_are_padded(size):
    file = vehicle_file_new(plate="测A12345", plate_colour=0, vehicle_class=1, size=59)[:size]
    air, card, _ = vehicle(obu=make_obu(vehicle_file=file), version=0x10, length=43)
    found = air.read_user()
    assert found.vehicle_file == file.ljust(79, b"\0")
    assert found.card_file == card.card_file.raw + bytes(7)


def test_read_user_failures():
    no_card = vehicle(card=None)[0].read_user()
    assert no_card.error == ReadError.NO_CARD
    assert decode_vehicle_file(no_card.vehicle_file).plate == "测A12345"
    assert (no_card.card_file, no_card.station) == (bytes(50), bytes(43))
    locked = vehicle(sam=Psam(mode="bench", authorisation_needed=True))[0].read_user()
    assert (locked.error, locked.vehicle_file) == (ReadError.VEHICLE_UNDECIPHERABLE, bytes(79))


def test_a_tag_of_another_key_is_undecipherable(monkeypatch):
    obu = make_obu(plate="测A12345", random=fixed)
    monkeypatch.setattr(obu.esam, "_keys", {(KeyKind.VEHICLE, Algorithm.DES3): bytes(16)})
    assert vehicle(obu=obu)[0].read_user().error == ReadError.VEHICLE_UNDECIPHERABLE


def test_a_wrong_vehicle_checksum_is_reported(monkeypatch):
    obu = make_obu(plate="测A12345", random=fixed)
    process = obu.esam.process
    # The tag answers another random than the antenna's: everything decrypts, the MAC does not fit.
    monkeypatch.setattr(
        obu.esam,
        "process",
        lambda raw: process(raw[:5] + bytes(8) + raw[13:] if raw[1] == 0xB4 else raw),
    )
    found = vehicle(obu=obu)[0].read_user()
    assert (found.error, found.vehicle_file) == (ReadError.VEHICLE_CHECKSUM, bytes(79))


def test_a_dead_card_is_reported(monkeypatch):
    card = bench_card()
    monkeypatch.setattr(card, "process", lambda _raw: b"\x6f\x00")
    air, _, _ = vehicle(card=card)
    assert air.read_user().error == ReadError.CARD_FAILED
    assert air.purchase(1, TIME, station()).error == DebitError.PURCHASE_FAILED
    assert air.fetch_tac(2).error == TacError.TAC_FAILED


def test_one_piece_tag_has_no_card():
    obu = make_obu(plate="测A12345", device_type=DeviceType.ONE_PIECE, station=station(), random=fixed)
    air, card, _ = vehicle(obu=obu)
    found = air.read_user()
    assert (found.error, found.balance_raw, found.card_file, found.station) == (ReadError.OK, 0, bytes(50), station())
    assert decode_vehicle_file(found.vehicle_file).plate == "测A12345"
    assert air.purchase(1, TIME, station()).error == DebitError.PURCHASE_FAILED
    assert air.fetch_tac(1).error == TacError.TAC_FAILED
    assert card.offline_sequence == 1


def test_cpc_card():
    obu = make_obu(device_type=DeviceType.CPC_CARD, contract_serial="9901200000000042", station=station())
    air, _, _ = vehicle(card=None, obu=obu)
    assert air.identify().system_info.contract_serial == bytes.fromhex("9901200000000042")
    found = air.read_user()
    assert (found.error, found.station) == (ReadError.OK, station())
    assert (found.cpc_province, found.cpc_fee) == (bytes(4), bytes(10))


@pytest.mark.parametrize(("version", "algorithm"), [(0x40, Algorithm.DES3), (0x50, Algorithm.SM4)])
def test_purchase(version, algorithm):
    air, card, sam = vehicle(version=version, offline_sequence=0x33)
    result = air.purchase(3000, TIME, station(3000))
    assert (result.error, result.mac2_ok) == (DebitError.OK, True)
    assert (result.card_serial, result.psam_serial, result.balance_raw) == (0x34, 1, 47000)
    assert (result.key_version, result.algorithm) == (algorithm.purse_key_index, algorithm)
    assert (result.terminal, result.time, result.trade_type) == (sam.terminal, TIME, 0x09)
    inner = bytes.fromhex("2301220100000001")
    leaf = diversify(ROOTS[KeyKind.TAC, algorithm], (REGION, inner), algorithm)
    trade = Trade(3000, 0x09, sam.terminal)
    assert result.tac == tac(leaf, trade, 1, bytes.fromhex(TIME), algorithm)
    assert decode_station(card.station).fee_fen == 3000


def test_a_lost_answer_is_found_again():
    air, card, sam = vehicle()
    result = air.purchase(3000, TIME, station(3000), lose_answer=True)
    assert (result.error, result.tac, result.mac2_ok, result.balance_raw) == (DebitError.NO_ANSWER, None, None, None)
    assert (card.balance_raw, card.station) == (47000, station(3000))
    card.reset()
    back = AirTransaction(make_obu(plate="测A12345", random=fixed), card, sam, random=fixed)
    found = back.fetch_tac(result.card_serial)
    assert (found.error, found.balance_raw) == (TacError.OK, 47000)
    assert found.tac != bytes(4)
    assert found.mac != bytes(4)
    assert back.fetch_tac(result.card_serial - 1).error == TacError.TAC_FAILED


def test_leaving_before_the_debit_looks_the_same_but_is_not_debited():
    lost = vehicle()[0].purchase(3000, TIME, station(3000), lose_answer=True)
    air, card, _ = vehicle()
    left = air.purchase(3000, TIME, station(3000), leave_before_debit=True)
    assert left == lost
    assert (card.balance_raw, card.offline_sequence, card.transactions) == (50000, 1, ())
    assert decode_station(card.station).unix_seconds is None
    assert card.process(bytes.fromhex("805C000204")) == bytes.fromhex("6985")  # powered down: no directory selected
    missing = air.fetch_tac(left.card_serial)
    assert (missing.error, missing.tac, missing.balance_raw) == (TacError.TAC_FAILED, bytes(4), 50000)
    again = air.purchase(3000, TIME, station(3000))
    assert (again.error, again.psam_serial) == (DebitError.OK, 2)


@pytest.mark.parametrize(
    ("facts", "arguments", "error"),
    [
        ({"balance_raw": 2999}, {}, DebitError.PURCHASE_FAILED),
        ({}, {"station": bytes(42)}, DebitError.PURCHASE_FAILED),
        ({}, {"time": "20240231000000"}, DebitError.PURCHASE_FAILED),
        ({}, {"region": bytes(8)}, DebitError.PURCHASE_FAILED),
        ({"offline_sequence": 0xFFFF}, {}, DebitError.PURCHASE_FAILED),
    ],
)
def test_failed_purchases_change_nothing(facts, arguments, error):
    air, card, _ = vehicle(**facts)
    before = (card.balance_raw, card.offline_sequence, card.station)
    result = air.purchase(3000, **({"time": TIME, "station": station()} | arguments))
    assert (result.error, result.tac, result.mac2_ok) == (error, None, None)
    assert (card.balance_raw, card.offline_sequence, card.station) == before


def test_a_psam_that_cannot_gives_mac1_failed():
    air, card, _ = vehicle(version=0x50, sam=Psam(mode="bench", algorithms=frozenset({Algorithm.DES3})))
    result = air.purchase(1, TIME, station())
    assert (result.error, result.card_serial, result.tac) == (DebitError.MAC1_FAILED, 2, None)
    assert card.offline_sequence == 1


def test_a_psam_that_does_not_believe_the_card_keeps_the_tac(monkeypatch):
    air, card, sam = vehicle()
    process = sam.process
    monkeypatch.setattr(sam, "process", lambda raw: b"\x93\x02" if raw[1] == 0x72 else process(raw))
    result = air.purchase(1, TIME, station())
    assert (result.error, result.mac2_ok) == (DebitError.MAC2_FAILED, False)
    assert result.tac is not None
    assert card.offline_sequence == 2


def test_charge_card_counts_down():
    air, card, _ = vehicle(card_type=23, balance_raw=0xFA0A1E33)
    assert air.purchase(100, TIME, station()).balance_raw == card.balance_raw == 0xFA0A1DCF
