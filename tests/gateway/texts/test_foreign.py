"""Texts that come to us in English are told in Chinese: drivers', checks' of the ledger, and a state file's."""

import ast
import re
from pathlib import Path

import pytest

from gateway.debit.recovery import Findings
from gateway.ledger.verify import CHECKS
from gateway.ledger.writer import WriterState
from gateway.texts.foreign import text_of

ROOT = Path(__file__).parents[3]
HAN = "[\u4e00-\u9fff]"

DRIVERS = ("addresses", "bank", "lane_io", "link", "modbus", "psam", "rsu", "serial_link")
NOT_FOR_PEOPLE = {"log", "LocalProtocolError", "LogStretch", "say"}
"""Names of calls whose texts go into the log, or tell a mistake of ours."""


def texts(path):
    """Texts of a module with two words and more, a 7 in the place of each value; without docstrings."""
    tree = ast.parse(path.read_text())
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant | ast.JoinedStr) or isinstance(above[node], ast.Expr | ast.JoinedStr):
            continue
        text = "".join(
            part.value if isinstance(part, ast.Constant) else "7"
            for part in getattr(node, "values", [node])
            if not isinstance(part, ast.Constant) or isinstance(part.value, str)
        )
        if re.search("[a-z]{2,} [a-z]{2,}", text) and not NOT_FOR_PEOPLE & set(calls_around(node, above)):
            yield text


def calls_around(node, above):
    while node in above:
        node = above[node]
        if isinstance(node, ast.Call):
            function = node.func
            yield getattr(function, "id", getattr(function, "attr", ""))
            yield getattr(getattr(function, "value", None), "id", "")


@pytest.mark.parametrize("name", DRIVERS)
def test_what_a_driver_tells_people_has_a_chinese_text(name):
    left = [text for text in texts(ROOT / "drivers" / f"{name}.py") if not re.search(HAN, text_of(text).zh)]
    assert left == []


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_of_the_ledger_has_a_chinese_name(name):
    assert re.search(HAN, text_of(name).zh)


@pytest.mark.parametrize("state", WriterState)
def test_the_state_of_the_storage_is_told(state):
    assert re.fullmatch("存储.*" + HAN + ".*", text_of(f"storage is {state.value}").zh)


@pytest.mark.parametrize("name", Findings().counts)
def test_what_a_start_has_found_is_told(name):
    assert re.search(HAN, text_of(name.replace("_", " ")).zh)


def test_values_stay_and_texts_in_texts_are_told():
    assert text_of("write coil 3: no answer within 200 ms").zh == "write coil 3: 200 毫秒内无应答"
    assert text_of("down: cannot connect to a:1: Connection refused").zh == "断开: 无法连接 a:1: Connection refused"
    told = text_of("bank-1: deadline passed before sending; outcome not_sent; check address and firewall").zh
    assert told == "bank-1: 发送前已超过时限; 结果 未发出; 请检查地址和防火墙"
    told = text_of("LEN is 9, at most 4 is possible; offset 4; data ffff").zh
    assert told == "LEN 为 9,最大为 4; 偏移 4; 数据 ffff"
    told = text_of("reader 01: PSAM refused reading file 0015: record not found (SW 6A83); outcome refused").zh
    assert told == "reader 01: PSAM 拒绝读文件 0015: 未找到记录 (SW 6A83); 结果 被拒绝"
    assert text_of("PSAM has no SM4 vehicle key (SW 6A88)").zh == "PSAM 没有 SM4 车辆信息解密密钥 (SW 6A88)"
    assert text_of("PSAM is not authorised (SW 6985)").zh == "PSAM 未授权 (SW 6985)"
    assert text_of("x: " * 1000) == ("x: " * 1000, "x: " * 1000), (
        "what is longer than any text of ours is not looked for"
    )
    assert text_of("Permission denied") == ("Permission denied", "Permission denied")
