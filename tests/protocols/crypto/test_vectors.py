"""Every line of crypto-vectors.jsonl, published and computed, is reproduced by protocols.crypto."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocols.crypto import (
    Algorithm,
    Trade,
    VehicleBlock,
    algorithm_of_version,
    crc16_obu,
    diversify,
    external_auth,
    line_mac,
    load_mac1,
    load_mac2,
    load_session_key,
    load_tac,
    mac1,
    mac2,
    open_vehicle,
    seal_vehicle,
    session_key,
    split_vehicle_block,
    tac,
    tac_key,
    vehicle_mac,
    vehicle_mac_input,
)
from protocols.crypto.primitives import (
    decrypt,
    des_cbc_mac,
    des_cbc_mac_blocks,
    encrypt,
    retail_mac,
    retail_mac_blocks,
    sm4_cbc_mac,
    sm4_cbc_mac_blocks,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "vectors" / "crypto-vectors.jsonl").read_text("utf-8").splitlines()
]
Inputs = dict[str, Any]
Expected = dict[str, str]


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def number(text: str) -> int:
    return int(text, 16)


def factors(inputs: Inputs) -> list[bytes]:
    return [raw(factor) for factor in inputs["factors"]]


def leaf(inputs: Inputs, root: str, algorithm: Algorithm) -> bytes:
    return diversify(raw(root), factors(inputs), algorithm)


def trade_of(inputs: Inputs) -> Trade:
    return Trade(number(inputs["amount"]), number(inputs["type"]), raw(inputs["terminal"]))


def check_diversify(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    root = raw(inputs["root"])
    assert diversify(root, factors(inputs)[:1], algorithm) == raw(expected["level1"])
    assert diversify(root, factors(inputs), algorithm) == raw(expected["level2"])


def check_session_key(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    key = session_key(
        raw(inputs["dpk"]),
        raw(inputs["card_random"]),
        number(inputs["card_seq"]),
        number(inputs["terminal_serial"]),
        algorithm,
    )
    assert key == raw(expected["session_key"])


def check_session_key_load(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    key = load_session_key(raw(inputs["dlk"]), raw(inputs["card_random"]), number(inputs["card_online_seq"]), algorithm)
    assert key == raw(expected["session_key"])


def check_mac1(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    session = raw(inputs["session_key"])
    assert mac1(session, trade_of(inputs), raw(inputs["datetime"]), algorithm) == raw(expected["mac1"])


def check_load_mac2(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    session = raw(inputs["session_key"])
    assert load_mac2(session, trade_of(inputs), raw(inputs["datetime"]), algorithm) == raw(expected["mac2"])


def check_load_tac(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    # The lab publishes the folded key only; a leaf whose right half is zero folds to its left half.
    proof = load_tac(
        raw(inputs["tac_key8"]) + bytes(8),
        trade_of(inputs),
        raw(inputs["datetime"]),
        algorithm,
        new_balance=number(inputs["new_balance"]),
        online_sequence=number(inputs["card_online_seq"]),
        iv=raw(inputs["iv"]),
    )
    assert proof == raw(expected["tac"])


def check_purchase_tac(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    dtk = raw(inputs["dtk"])
    assert tac_key(dtk, algorithm) == raw(expected["tac_key8"])
    serial, time = number(inputs["terminal_serial"]), raw(inputs["datetime"])
    assert tac(dtk, trade_of(inputs), serial, time, algorithm) == raw(expected["tac"])


def check_purchase(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    dpk = leaf(inputs, inputs["roots"]["MPK"], algorithm)
    dtk = leaf(inputs, inputs["roots"]["MTK"], algorithm)
    assert (dpk, dtk) == (raw(expected["dpk"]), raw(expected["dtk"]))
    serial, time = number(inputs["terminal_serial"]), raw(inputs["datetime"])
    session = session_key(dpk, raw(inputs["card_random"]), number(inputs["card_seq"]), serial, algorithm)
    assert session == raw(expected["session_key"])
    trade = trade_of(inputs)
    assert mac1(session, trade, time, algorithm) == raw(expected["mac1"])
    assert mac2(session, trade, algorithm) == raw(expected["mac2"])
    assert tac(dtk, trade, serial, time, algorithm) == raw(expected["tac"])
    full = raw(expected["mac1_full8" if algorithm is Algorithm.DES3 else "mac1_full16"])
    chain = des_cbc_mac if algorithm is Algorithm.DES3 else sm4_cbc_mac
    assert chain(session, raw(expected["mac1_input"])) == full


def check_load(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    dlk = leaf(inputs, inputs["roots"]["MLK"], algorithm)
    dtk = leaf(inputs, inputs["roots"]["MTK"], algorithm)
    assert dlk == raw(expected["dlk"])
    sequence = number(inputs["card_online_seq"])
    session = load_session_key(dlk, raw(inputs["card_random"]), sequence, algorithm)
    assert session == raw(expected["session_key"])
    trade, time = trade_of(inputs), raw(inputs["datetime"])
    assert load_mac1(session, trade, number(inputs["old_balance"]), algorithm) == raw(expected["mac1"])
    assert load_mac2(session, trade, time, algorithm) == raw(expected["mac2"])
    new_balance = number(expected["new_balance"])
    proof = load_tac(dtk, trade, time, algorithm, new_balance=new_balance, online_sequence=sequence)
    assert proof == raw(expected["tac"])


def check_external_auth(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    uk = leaf(inputs, inputs["root"], algorithm)
    assert uk == raw(expected["uk"])
    assert external_auth(uk, raw(inputs["card_random"]), algorithm) == raw(expected["auth_data"])


def check_line_mac(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    damk = leaf(inputs, inputs["root"], algorithm)
    assert damk == raw(expected["damk"])
    challenge, header, data = raw(inputs["card_random4"]), raw(inputs["header"]), raw(inputs["data"])
    assert line_mac(damk, challenge, header, data, algorithm) == raw(expected["mac4"])
    if algorithm is Algorithm.DES3:
        assert retail_mac(damk, header + data, raw(expected["iv"])) == raw(expected["mac8"])
    assert header + data + raw(expected["mac4"]) == raw(expected["apdu"])


def check_vehicle(inputs: Inputs, expected: Expected, algorithm: Algorithm) -> None:
    if "leaf_key" in inputs:
        key, data, cipher = raw(inputs["leaf_key"]), raw(expected["vehicle_info_59"]), raw(inputs["ciphertext"])
    else:
        key, data, cipher = leaf(inputs, inputs["root"], algorithm), raw(inputs["vehicle_info"]), None
        assert key == raw(expected["leaf_key"])
        cipher = raw(expected["ciphertext"])
    random = raw(inputs["rsu_random"])
    mac = raw(expected["mac8" if algorithm is Algorithm.DES3 else "mac16"])
    assert crc16_obu(data) == number(expected["crc16"])
    assert vehicle_mac_input(data, random, algorithm) == raw(expected["mac_input"])
    assert vehicle_mac(key, data, random, algorithm) == mac
    assert seal_vehicle(key, data, random, algorithm) == cipher
    assert open_vehicle(key, cipher, algorithm) == VehicleBlock(mac=mac, data=data)
    assert decrypt(key, cipher, algorithm) == raw(expected["plaintext"])


def check_crc(inputs: Inputs, expected: Expected, _algorithm: Algorithm) -> None:
    crc = crc16_obu(raw(inputs["data"]))
    assert crc == number(expected["crc16"])
    assert crc.to_bytes(2, "little") == raw(expected["wire_le"])


def check_primitives(inputs: Inputs, expected: Expected, _algorithm: Algorithm) -> None:
    data, key8, key16 = raw(inputs["data"]), raw(inputs["k8"]), raw(inputs["k16"])
    assert des_cbc_mac(key8, data) == raw(expected["des_cbc_mac8"])
    assert retail_mac(key16, data) == raw(expected["iso9797_alg3_mac8"])
    assert sm4_cbc_mac(key16, data) == raw(expected["sm4_cbc_mac16"])


def check_sm4_block(inputs: Inputs, expected: Expected, _algorithm: Algorithm) -> None:
    key, plain, cipher = raw(inputs["key"]), raw(inputs["plaintext"]), raw(expected["ciphertext"])
    assert encrypt(key, plain, Algorithm.SM4) == cipher
    assert decrypt(key, cipher, Algorithm.SM4) == plain


def check_unverified_tac(inputs: Inputs, expected: Expected, _algorithm: Algorithm) -> None:
    # No key was published: only the structure of what the PSAM is asked can be checked.
    body = inputs["amount"] + inputs["type"] + inputs["terminal"] + inputs["terminal_serial"] + inputs["datetime"]
    assert expected["psam_cmd_1"].endswith(inputs["card_no"] + inputs["issuer_factor"])
    assert expected["psam_cmd_2"] == "80FA050020" + "00" * 8 + body + "8000"


CHECKS: dict[str, Callable[[Inputs, Expected, Algorithm], None]] = {
    "3des-diversify": check_diversify,
    "sm4-diversify": check_diversify,
    "3des-session-key": check_session_key,
    "3des-session-key-load": check_session_key_load,
    "3des-mac1": check_mac1,
    "3des-load-mac2": check_load_mac2,
    "3des-load-tac": check_load_tac,
    "3des-purchase-tac": check_purchase_tac,
    "3des-purchase": check_purchase,
    "sm4-purchase": check_purchase,
    "3des-load": check_load,
    "sm4-load": check_load,
    "3des-external-auth": check_external_auth,
    "sm4-external-auth": check_external_auth,
    "3des-line-mac": check_line_mac,
    "sm4-line-mac": check_line_mac,
    "3des-obu-vehicle-info": check_vehicle,
    "sm4-obu-vehicle-info": check_vehicle,
    "crc16-obu": check_crc,
    "mac-primitives": check_primitives,
    "sm4-ecb-block": check_sm4_block,
    "purchase-tac-unverified": check_unverified_tac,
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_vector_is_reproduced(vector):
    algorithm = Algorithm.SM4 if vector["kind"].startswith("sm4") else Algorithm.DES3
    CHECKS[vector["kind"]](vector["inputs"], vector["expected"], algorithm)


def test_every_check_has_a_vector():
    assert {vector["kind"] for vector in VECTORS} == set(CHECKS)


def test_line_mac_takes_a_16_byte_challenge_with_sm4_only():
    key, header = bytes(range(16)), bytes.fromhex("04D6811A05")
    long = line_mac(key, b"\x01\x02\x03\x04" + bytes(12), header, b"\x01", Algorithm.SM4)
    assert long == line_mac(key, b"\x01\x02\x03\x04", header, b"\x01", Algorithm.SM4)
    with pytest.raises(LocalProtocolError, match="challenge"):
        line_mac(key, bytes(16), header, b"\x01", Algorithm.DES3)


def test_a_four_byte_challenge_is_filled_on_the_right():
    key = bytes(range(16))
    for algorithm in Algorithm:
        assert external_auth(key, b"\x01\x02\x03\x04", algorithm) == external_auth(
            key, b"\x01\x02\x03\x04\0\0\0\0", algorithm
        )


@pytest.mark.parametrize(
    ("version", "algorithm"),
    [
        (0x10, Algorithm.DES3),
        (0x48, Algorithm.DES3),
        (0x50, Algorithm.SM4),
        (0x60, Algorithm.SM4),
        (0xFF, Algorithm.DES3),
    ],
)
def test_version_byte_names_the_algorithm(version, algorithm):
    assert algorithm_of_version(version) is algorithm


def test_key_indices():
    assert [algorithm.purse_key_index for algorithm in Algorithm] == [0x01, 0x41]
    assert [algorithm.vehicle_key_index for algorithm in Algorithm] == [0x00, 0x40]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_block_opened_with_another_key_is_refused(algorithm):
    cipher = seal_vehicle(bytes(range(16)), bytes(59), bytes(8), algorithm)
    with pytest.raises(RemoteProtocolError, match="wrong key"):
        open_vehicle(bytes(16), cipher, algorithm)
    with pytest.raises(RemoteProtocolError, match="whole blocks"):
        open_vehicle(bytes(range(16)), cipher[:-1], algorithm)
    with pytest.raises(RemoteProtocolError):
        open_vehicle(bytes(range(16)), b"", algorithm)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\x08" + bytes(15),  # a MAC and no data
        b"\x20" + bytes(15),  # longer than the block
        b"\x09" + bytes(9) + b"\x80" + bytes(13),  # a whole block too many
        b"\x0a" + bytes(13) + b"\x80\x01",  # padding is not 80 00..
    ],
)
def test_inconsistent_vehicle_block_is_refused(plain):
    with pytest.raises(RemoteProtocolError, match="vehicle block"):
        split_vehicle_block(plain, Algorithm.DES3)


def test_misuse_names_the_field_and_never_shows_a_key():
    key = bytes.fromhex("0123456789ABCDEF")
    with pytest.raises(LocalProtocolError, match="root") as caught:
        diversify(key, [], Algorithm.DES3)
    assert key.hex() not in str(caught.value)
    for call in (
        lambda: diversify(bytes(16), [bytes(7)], Algorithm.DES3),
        lambda: session_key(bytes(16), bytes(4), 0x1_0000, 0, Algorithm.DES3),
        lambda: mac2(bytes(8), Trade(-1, 9, bytes(6)), Algorithm.DES3),
        lambda: mac1(bytes(8), Trade(0, 9, bytes(5)), bytes(7), Algorithm.DES3),
        lambda: mac1(bytes(8), Trade(0, 9, bytes(6)), bytes(6), Algorithm.DES3),
        lambda: encrypt(bytes(16), bytes(7), Algorithm.DES3),
        lambda: des_cbc_mac(bytes(16), b""),
        lambda: seal_vehicle(bytes(16), bytes(250), bytes(8), Algorithm.DES3),
    ):
        with pytest.raises(LocalProtocolError):
            call()


def test_chains_over_padded_blocks_agree_with_chains_over_data():
    key, data = bytes(range(16)), b"twenty bytes of data"
    assert des_cbc_mac_blocks(key[:8], data + b"\x80\0\0\0") == des_cbc_mac(key[:8], data)
    assert retail_mac_blocks(key, data + b"\x80\0\0\0") == retail_mac(key, data)
    assert sm4_cbc_mac_blocks(key, data + b"\x80" + bytes(11)) == sm4_cbc_mac(key, data)
