"""Every line of card-apdus.jsonl and crypto-vectors.jsonl says what our codecs read, fact for fact.

A line's `decoded` is what its source says it means. Each of its facts is read here from the line's bytes, by the codec
that owns it, and compared; a fact that nobody reads fails, and so does a line without any. Keys and cryptograms of the
computed sessions are checked where they are made: `tests/hardware/test_card_emulator_sessions.py` replays them, and
`tests/protocols/crypto/test_vectors.py` reckons every line of crypto-vectors.jsonl.
"""

import json
from datetime import date
from pathlib import Path

import pytest

from protocols.card import (
    CardFile,
    Command,
    Response,
    Station,
    StationLayout,
    commands,
    decode_card_file,
    decode_holder,
    decode_station,
    decode_transaction_log,
    my_number,
    psam,
    purse,
)
from protocols.card.apdu import status_cure, status_text
from protocols.card.fci import decode_fci, decode_transit_file
from protocols.card.psam_profiles import NATIONAL
from protocols.crypto import Algorithm, split_vehicle_block
from protocols.errors import ProtocolError
from protocols.obu import commands as obu_commands
from protocols.obu import decode_system_info, decode_vehicle_file
from tests.protocols.crypto import test_vectors as crypto_vectors

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "vectors" / "card-apdus.jsonl").read_text("utf-8").splitlines()
]

NOTES = {
    "op", "meaning", "inferred", "note_tail", "factor_order", "content", "key", "session_key", "file", "kind", "usage",
    "option_byte", "action_hex", "container",
}  # fmt: skip
"""Members of `decoded` that are words about the line, or a key that only the replay of its session knows."""

REPLAYED = {("INITIALIZE FOR LOAD", "card_no"), ("DEBIT with wrong MAC1", "correct_mac1")}
"""Facts that are not in the line's bytes: the replay of their session proves them, by cryptograms that fit."""

OWN_WORDS = {
    "ESAM serial = OBU MAC id",
    "unknown INS",
    "unknown CLA",
    "PIN tries left query (no data)",
    "PIN query on a blocked PIN (63C0 or 6983/6984)",
}
"""Names of steps that do not begin as their command is called, or name one that is not to be known."""


TRIPPED = (ProtocolError, AssertionError, LookupError, ValueError, TypeError, AttributeError, NameError, RuntimeError)
"""Errors of a codec or of a reader below, when a byte of a line is changed."""


def octets(number, length):
    return number.to_bytes(length, "big").hex().upper()


def text(value):
    return value.hex().upper()


def day(value):
    return "00000000" if value is None else f"{value:%Y%m%d}"


# --- files ------------------------------------------------------------------------------------------------------------


def card_file(data):
    card: CardFile = decode_card_file(data)
    assert card.encode() == data
    yield from {
        "issuer_id": text(card.issuer),
        "region": card.region,
        "card_type": card.card_type,
        "card_version": octets(card.version, 1),
        "network": card.network,
        "inner_no": card.inner_number.hex().upper(),
        "card_no_20": card.card_number,
        "start": day(card.starts),
        "expiry": day(card.expires),
        "plate": card.plate,
        "user_type": card.user_type,
        "plate_colour": card.plate_colour,
        "vehicle_class": card.vehicle_class,
        "reserved": text(data[43:]),
        "tail_2": text(card.free_pair or b""),
    }.items()


def station(data):
    record: Station = decode_station(data)
    assert record.encode() == data
    raw = {StationLayout.BLANK: blank_station, StationLayout.UNKNOWN: lambda _: {}}.get(record.layout)
    yield from {"record_id": text(data[:1]), "len": data[1], "first_bytes_match": text(data[:3])}.items()
    if raw is not None:
        yield from raw(data).items()
        return
    yield from {
        "layout": "old" if record.layout is StationLayout.OLD else "2020",
        "network": record.network,
        "station": record.station,
        "lane": record.lane,
        "time_unix": record.unix_seconds,
        "vehicle_class": record.vehicle_class,
        "status": octets(record.status, 1),
        "last_gantry": text(record.last_gantry or b""),
        "gantry_time_unix": record.gantry_unix_seconds,
        "plate": record.plate,
        "plate_colour": record.plate_colour,
        "axles": record.axles,
        "weight_kg": record.weight_kg,
        "vehicle_state": octets(record.vehicle_state or 0, 1),
        "fee_fen": record.fee_fen,
        "flags": text(record.flag_stations or b""),
        "staff": text(record.staff or b""),
        "shift": record.shift,
    }.items()


def blank_station(data):
    """The source reads FF as numbers, we as *never written*: the bytes are what both agree on."""
    assert set(data[3:]) == {0xFF}
    ones = {1: ("lane", "vehicle_class", "plate_colour", "axles"), 4: ("time_unix", "gantry_time_unix", "fee_fen")}
    numbers = {name: (1 << 8 * size) - 1 for size, names in ones.items() for name in names}
    words = {"network": "FFFF", "station": "FFFF", "status": "FF", "last_gantry": "FFFFFF", "vehicle_state": "FF"}
    return {"layout": "2020", "plate": "", "weight_kg": 0xFFFFFF} | numbers | words


def log(data):
    record = decode_transaction_log(data)
    assert record.encode() == data
    yield from {
        "seq": octets(record.sequence, 2),
        "overdraft": record.overdraft_fen,
        "amount_fen": record.amount_fen,
        "type": octets(record.trade_type, 1),
        "terminal": text(record.terminal),
        "date": day(record.day),
        "time": record.time,
    }.items()


def holder(data):
    found = decode_holder(data)
    assert found.encode() == data
    yield from {
        "holder_flag": octets(found.holder_type, 1),
        "staff_flag": octets(found.staff_flag, 1),
        "name": found.holder_name,
        "id_no": found.document_number,
        "id_type": octets(found.document_type, 1),
    }.items()


def system(data):
    found = decode_system_info(data)
    assert found.encode() == data
    yield from {
        "issuer_id": text(found.issuer),
        "contract_type": octets(found.contract_type, 1),
        "version": octets(found.version, 1),
        "serial": found.contract_number,
        "sign": day(found.starts),
        "expiry": day(found.expires),
    }.items()
    if found.mount_flag is not None:
        yield "tamper_flag", octets(found.mount_flag, 1)


FILES = {
    "0015": card_file,
    "0016": holder,
    "0018": log,
    "0019": station,
    "MF EF01": system,
    "MF EF01 (26 bytes)": system,
}


# --- commands and answers, by class and instruction -------------------------------------------------------------------


def select(command, answer):
    if command.p1 == 0x04 and command.data == commands.ETC_AID:
        yield "aid", text(command.data)
    if command.p1 == 0x00:
        assert command.data[:2] == int.from_bytes(command.data, "big").to_bytes(2, "big")
    if answer is None or not answer.data:
        return
    fci = decode_fci(answer.data)
    yield "aid", text(fci.name)
    yield "df_name", fci.name.decode("ascii", "replace")
    yield "sfi_dir", fci.directory_sfi
    yield "issuer_data_len", len(fci.proprietary)
    if fci.version is not None:
        yield "tag_9F08", octets(fci.version, 1)
    if len(fci.issuer_data) == 30:
        transit = decode_transit_file(fci.issuer_data)
        assert transit.encode() == fci.issuer_data
        assert date(2014, 1, 1) < transit.starts < transit.expires
        yield "tag_9F0C", text(fci.issuer_data)
    elif fci.issuer_data:
        decode_card_file(fci.issuer_data)
        yield "tag_9F0C", "copy of file 0015"


def read_binary(command, answer):
    assert command.p1 & 0x80 or command.p1 << 8 | command.p2 in (obu_commands.ROUTE_OFFSET, 0)
    assert answer is None or not answer.ok or len(answer.data) == command.le


def psam_file(command, answer):
    if command.p1 == 0x95:
        issue = psam.decode_issue(answer.data)
        assert issue.encode() == answer.data
        yield "serial", text(issue.serial)
        yield "version", octets(issue.version, 1)
        yield "key_type", octets(issue.key_type, 1)
    elif command.p1 == 0x96:
        yield "terminal", text(psam.decode_terminal(answer.data))
    else:
        found = psam.decode_application(answer.data)
        assert found.encode() == answer.data
        yield "key_index", octets(found.key_index, 1)
        yield "issuer", text(found.issuer)
        yield "area_factor", text(found.area)
        yield "start", day(found.starts)
        yield "expiry", day(found.expires)


def initialise(command, answer):
    yield "key_index", octets(command.data[0], 1)
    yield "amount_fen", int.from_bytes(command.data[1:5], "big")
    yield "terminal", text(command.data[5:])
    if not answer.ok:
        return
    load = command.p1 == 0x00
    opened = (purse.parse_load_opened if load else purse.parse_purchase_opened)(answer.data)
    assert opened.encode() == answer.data
    yield "key_version", octets(opened.key_version, 1)
    yield "alg", octets(opened.algorithm, 1)
    yield "card_random", text(opened.card_random)
    if load:
        yield "old_balance_fen", opened.old_balance
        yield "online_seq", octets(opened.online_sequence, 2)
        yield "mac1", text(opened.mac1)
    else:
        yield "balance_fen", opened.balance_raw
        yield "offline_seq", octets(opened.offline_sequence, 2)
        yield "overdraft", opened.overdraft_fen


def debit(command, answer):
    built = purse.debit(int.from_bytes(command.data[:4], "big"), command.data[4:11].hex(), command.data[11:])
    assert built.data == command.data
    yield "terminal_serial", text(command.data[:4])
    yield "datetime", command.data[4:11].hex()
    yield "mac1", text(command.data[11:])
    if answer is not None and answer.ok:
        proof = purse.parse_debit(answer.data)
        yield "tac", text(proof.tac)
        yield "mac2", text(proof.mac2)


def prove(command, answer):
    yield "type", octets(command.p2, 1)
    yield "seq", text(command.data)
    if answer is not None and answer.ok:
        proof = purse.parse_transaction_prove(answer.data)
        yield "tac", text(proof.tac)
        yield "mac2", text(proof.mac2)


def credit_load(command, answer):
    yield "datetime", command.data[:7].hex()
    yield "mac2", text(command.data[7:])
    if answer is not None:
        yield "tac", text(purse.parse_credit_load(answer.data))


def balance(_command, answer):
    yield "balance_fen", purse.parse_balance(answer.data)


def challenge(command, answer):
    assert command == commands.get_challenge(command.le)
    yield "card_random", text(answer.data)
    assert len(answer.data) == command.le


def authenticate(command, _answer):
    assert command == commands.external_authenticate(command.p2, command.data)
    yield "key_id", octets(command.p2, 1)
    yield "auth_data", text(command.data)


def verify(command, _answer):
    if not command.data:
        assert command == my_number.ask_tries()
        return
    coding = commands.PinCoding.ASCII if command.p2 == 0x80 else commands.PinCoding.BCD
    digits = command.data.decode() if coding is commands.PinCoding.ASCII else command.data.hex()
    assert commands.pin_bytes(digits, coding) == command.data
    yield "pin_bcd", digits
    yield "pin_bytes", digits


def open_sam(command, answer):
    data = command.data
    yield "card_random", text(data[:4])
    yield "card_seq", text(data[4:6])
    yield "amount_fen", int.from_bytes(data[6:10], "big")
    yield "type", octets(data[10], 1)
    yield "datetime", data[11:18].hex()
    yield "key_version", octets(data[18], 1)
    yield "alg", octets(data[19], 1)
    yield "card_no", text(data[20:28])
    yield "area_factor", text(data[28:])
    if answer.ok:
        yield from sam_answer(answer)


def sam_answer(answer):
    made = psam.parse_sam_purchase(answer.data)
    yield "terminal_serial", octets(made.terminal_serial, 4)
    yield "mac1", text(made.mac1)


def get_response(command, answer):
    assert command == commands.get_response(8)
    if answer is not None:
        yield from sam_answer(answer)


def close_sam(command, _answer):
    assert command == psam.credit_sam_for_purchase(command.data)
    yield "mac2", text(command.data)


def derive(command, _answer):
    use = NATIONAL.usages[command.p1, command.p2]
    leaf, region = command.data[:8], command.data[8:]
    assert NATIONAL.derive(use.kind, use.algorithm, leaf, region, p2=command.p2) == command
    yield "factor1", text(leaf)
    yield "factor2", text(region)


def crypt(command, answer):
    function = psam.Crypt(command.p1)
    assert NATIONAL.crypt(function, command.data, 8).encode()[:-1] == command.encode()
    if function is psam.Crypt.MAC:
        yield "iv", text(command.data[:8])
        yield "tac_input", text(command.data[8:])
    if answer is None:
        return
    if function is psam.Crypt.ENCRYPT:
        yield "result", text(answer.data)
        return
    for algorithm in Algorithm:
        if answer.data[0] in (59 + algorithm.block_bytes, 79 + algorithm.block_bytes):
            block = split_vehicle_block(answer.data, algorithm)
            vehicle = decode_vehicle_file(block.data)
    yield from {
        "length_byte": octets(len(block.mac) + len(block.data), 1),
        "mac": text(block.mac),
        "vehicle_info": text(block.data),
        "plate": vehicle.plate,
        "plate_colour": vehicle.plate_colour,
        "vehicle_class": vehicle.vehicle_class,
        "user_type": vehicle.user_type,
    }.items()


def obu_id(command, answer):
    assert command == obu_commands.read_obu_id()
    yield "mac_id", text(answer.data)


def read_vehicle(command, answer):
    length, index = command.data[8:]
    algorithm = next(known for known in Algorithm if known.vehicle_key_index == index)
    assert obu_commands.read_vehicle(command.data[:8], length, algorithm) == command
    yield "rsu_random", text(command.data[:8])
    yield "plain_len", length
    yield "key_index", octets(index, 1)
    yield "cipher_len", len(answer.data)


def protected(command, _answer):
    data, mac = command.data[:-4], command.data[-4:]
    built = commands.update_protected(command.p1 & 0x1F, command.p2, data)
    assert commands.with_mac(built, mac) == command
    yield "mac4", text(mac)
    if command.p1 == 0x95:
        yield from card_file(data)
        yield "card_no", text(data[12:20])
    else:
        assert command.p2 == obu_commands.MOUNT_FLAG_OFFSET
        yield "flag", text(data)


def update_cache(command, _answer):
    sfi = command.p2 >> 3
    if not command.p2 & 0b111:  # the transit scheme's own P2 means a record number
        assert purse.update_cache(command.p1, command.data, sfi=sfi) == command
        yield from station(command.data)


def create(command, _answer):
    if command.p1 == 0x00:
        yield "type", text(command.data[:1])
    elif command.p1 == 0x01:
        yield "name", text(command.data[7:])
    else:
        kind, read, write, count, size = command.data[2:7]
        yield "read", octets(read, 1)
        yield "write", octets(write, 1)
        yield from {"size": size, "records": count, "record_len": size}.items()
        assert kind in (0x20, 0x04)


def append(command, _answer):
    assert command == commands.append_record(command.data)
    assert decode_station(command.data).layout is StationLayout.BLANK


def update_binary(command, _answer):
    assert command == commands.update_binary(commands.SFI_TOLL, 0, command.data)
    assert decode_station(b"\xaa\x29\x00" + command.data).plate == "测A12345"


def nothing(command, _answer):
    """A command that has no facts of its own: what its source says is its name."""


READERS = {
    (0x00, 0x20): verify,
    (0x00, 0x82): authenticate,
    (0x00, 0x84): challenge,
    (0x00, 0xA4): select,
    (0x00, 0xB0): read_binary,
    (0x00, 0xB2): nothing,
    (0x00, 0xB4): read_vehicle,
    (0x00, 0xC0): get_response,
    (0x00, 0xD6): update_binary,
    (0x00, 0xE2): append,
    (0x04, 0xD6): protected,
    (0x80, 0x1A): derive,
    (0x80, 0x50): initialise,
    (0x80, 0x52): credit_load,
    (0x80, 0x54): debit,
    (0x80, 0x5A): prove,
    (0x80, 0x5C): balance,
    (0x80, 0x70): open_sam,
    (0x80, 0x72): close_sam,
    (0x80, 0xCA): nothing,
    (0x80, 0xDC): update_cache,
    (0x80, 0xE0): create,
    (0x80, 0xF6): obu_id,
    (0x80, 0xFA): crypt,
    (0x00, 0xDD): nothing,
    (0x90, 0xA4): nothing,
}


# --- lines, by kind ---------------------------------------------------------------------------------------------------


def of_exchange(vector):
    command = Command.decode(bytes.fromhex(vector["command_hex"]))
    assert command.encode().hex().upper() == vector["command_hex"]
    answer = Response.decode(bytes.fromhex(vector["response_hex"])) if vector["response_hex"] else None
    decoded = vector["decoded"]
    operation = decoded.get("op", "READ")
    known = commands.command_name(command)
    if operation not in OWN_WORDS:
        assert known.en.replace("_", " ").split()[0] in operation
    else:
        assert (known is None) == operation.startswith("unknown")
    found = {}
    if "op" in decoded:
        found["op"] = operation
    if answer is not None:
        assert answer.encode().hex().upper() == vector["response_hex"]
        found["sw"] = octets(answer.sw, 2)
        assert status_text(answer.sw).zh
        assert status_cure(answer.sw).zh
    reader = psam_file if operation.startswith("PSAM READ") else READERS[command.cla, command.ins]
    found |= dict(reader(command, answer) or ())
    file = decoded.get("file")
    if file is not None and answer is not None and answer.data:
        found |= dict(FILES[file](answer.data))
    return found


def of_file(vector):
    return dict(FILES[vector["decoded"]["file"]](bytes.fromhex(vector["response_hex"])))


def of_response(vector):
    raw, operation = bytes.fromhex(vector["response_hex"]), vector["decoded"].get("op")
    if operation == "DEBIT response body":
        proof = purse.parse_debit(raw)
        return {"op": operation, "tac": text(proof.tac), "mac2": text(proof.mac2)}
    answer = Response.decode(raw)
    if answer.data:
        return {"op": operation} | dict(select(commands.select_id(commands.MF), answer))
    assert status_text(answer.sw).en == vector["decoded"]["meaning"]
    return {"sw": octets(answer.sw, 2)}


def of_secure_read(vector):
    decoded = vector["decoded"]
    command = obu_commands.read_vehicle(bytes.fromhex(decoded["rnd_rsu"]), int(decoded["length"], 16), Algorithm.DES3)
    sm4_use = NATIONAL.usage_of(psam.KeyKind.VEHICLE, Algorithm.SM4)
    return {
        "rnd_rsu": text(command.data[:8]),
        "length": octets(command.data[8], 1),
        "key_id_authen": octets(command.data[9], 1),
        "key_id_encrypt": octets(Algorithm.DES3.vehicle_key_index, 1),
        "sm4_pair": [octets(Algorithm.SM4.vehicle_key_index, 1), octets(sm4_use[1], 1)],
        "fid": int(decoded["action_hex"][2:4], 16) - 4,
        "offset": 0,
    }


CHECKERS = {
    "apdu": of_exchange,
    "apdu-command": of_exchange,
    "apdu-response": of_response,
    "file": of_file,
    "getsecure-params": of_secure_read,
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_line_says_what_our_codecs_read(vector):
    found = CHECKERS[vector["kind"]](vector)
    assert found, "a line must say something that is checked"
    told = vector["decoded"]
    wanted = {name: told[name] for name in told.keys() - NOTES if (told.get("op"), name) not in REPLAYED}
    assert {name: found.get(name, "read by nobody") for name in wanted} == wanted


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_line_whose_bytes_change_is_noticed(vector):
    """The same check fails, or reads something else, when a byte of the line is another one."""
    for member in ("command_hex", "response_hex"):
        if not vector[member]:
            continue
        plain = CHECKERS[vector["kind"]](vector)
        raw = bytearray.fromhex(vector[member])
        noticed = 0
        for at in range(len(raw)):
            other = raw[:at] + bytes((raw[at] ^ 0x15,)) + raw[at + 1 :]
            try:
                noticed += CHECKERS[vector["kind"]](vector | {member: other.hex().upper()}) != plain
            except TRIPPED:
                noticed += 1
        assert noticed, member


def test_every_kind_of_line_has_a_checker():
    assert {vector["kind"] for vector in VECTORS} == set(CHECKERS)
    assert {vector["kind"] for vector in crypto_vectors.VECTORS} == set(crypto_vectors.CHECKS)
    assert (len(VECTORS), len(crypto_vectors.VECTORS)) == (157, 50), "add the new lines' facts"


def test_every_instruction_of_the_lines_has_a_reader():
    seen = {Command.decode(bytes.fromhex(v["command_hex"])) for v in VECTORS if v["command_hex"]}
    assert {(command.cla, command.ins) for command in seen} == set(READERS)
