"""Packing of each field of a message: dialects are data, the codec is one.

Sources and their weight:

- fields marked *seen* occur in real messages of tests/vectors/iso8583.jsonl;
- the other UnionPay POS fields follow the 银联 POS 终端规范 field table as several independent terminal programs
  carry it (two or more agree);
- fields that specification leaves unused follow ISO 8583:1987 packed in the same manner; they are inferred and
  must be checked against the partner's own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from protocols.bank.codings import coding
from protocols.bank.responses import CUPS_POS, ResponseTable
from protocols.fields import Field, Privacy


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One way of packing messages: name, the field table, and what its answer codes mean."""

    name: str
    fields: Mapping[int, Field]
    responses: ResponseTable = CUPS_POS


_ID, _SECRET = Privacy.NUMBER, Privacy.HIDDEN


def _field(
    number: int,
    notation: str,
    meaning: str,
    zh: str,
    *,
    privacy: Privacy = Privacy.OPEN,
    pad_before: bool = False,
) -> tuple[int, Field]:
    """One field of a table. Hidden are track data, PIN blocks, keys, chip data, cryptograms."""
    return number, Field(f"F{number}", coding(notation, pad_before=pad_before), meaning, privacy=privacy, zh=zh)


_CUPS_POS_FIELDS = (
    _field(2, "n..19", "account number", "主账号", privacy=_ID),  # seen
    _field(3, "n6", "processing code", "交易处理码"),  # seen
    _field(4, "n12", "amount, fen", "交易金额"),  # seen
    _field(5, "n12", "settlement amount", "清算金额"),
    _field(6, "n12", "cardholder billing amount", "持卡人扣账金额"),
    _field(7, "n10", "transmission time MMDDhhmmss", "交易传输时间"),
    _field(8, "n8", "cardholder billing fee", "持卡人扣账手续费"),
    _field(9, "n8", "settlement rate", "清算汇率"),
    _field(10, "n8", "cardholder billing rate", "持卡人扣账汇率"),
    _field(11, "n6", "trace number (STAN)", "受卡方系统跟踪号"),  # seen
    _field(12, "n6", "local time hhmmss", "受卡方所在地时间"),  # seen
    _field(13, "n4", "local date MMDD", "受卡方所在地日期"),  # seen
    _field(14, "n4", "card expiry YYMM", "卡有效期", privacy=_SECRET),  # seen
    _field(15, "n4", "settlement date MMDD", "清算日期"),  # seen
    _field(16, "n4", "conversion date MMDD", "兑换日期"),
    _field(17, "n4", "capture date MMDD", "截取日期"),
    _field(18, "n4", "merchant category", "商户类型"),
    # n3 in two bytes. Only F22 and F23 are documented (F22 left, F23 right); the others follow F23, inferred.
    _field(19, "n3", "acquirer country", "受理机构国家代码", pad_before=True),
    _field(20, "n3", "account country", "主账号国家代码", pad_before=True),
    _field(21, "n3", "forwarder country", "发送机构国家代码", pad_before=True),
    _field(22, "n3", "entry mode", "服务点输入方式码"),  # seen
    _field(23, "n3", "card sequence number", "卡序列号", pad_before=True),  # seen
    _field(24, "n3", "network identifier (NII)", "网络国际标识符", pad_before=True),
    _field(25, "n2", "condition code", "服务点条件码"),  # seen
    _field(26, "n2", "PIN capture code", "服务点PIN获取码"),  # seen
    _field(27, "n2", "authorisation code length", "授权码长度"),
    # Fees are a sign letter and eight digits in ISO 8583:1987, one byte each.
    _field(28, "ans9", "transaction fee", "交易费"),
    _field(29, "ans9", "settlement fee", "清算费"),
    _field(30, "ans9", "transaction processing fee", "交易处理费"),
    _field(31, "ans9", "settlement processing fee", "清算处理费"),
    _field(32, "n..11", "acquiring institution", "受理方标识码"),  # seen
    _field(33, "n..11", "forwarding institution", "发送机构标识码"),
    _field(34, "n..28", "extended account number", "扩展主账号", privacy=_ID),
    _field(35, "z..37", "track 2", "二磁道数据", privacy=_SECRET),
    _field(36, "z...104", "track 3", "三磁道数据", privacy=_SECRET),
    _field(37, "ans12", "retrieval reference number", "检索参考号"),  # seen
    _field(38, "ans6", "authorisation code", "授权标识应答码"),  # seen
    _field(39, "an2", "response code", "应答码"),  # seen
    _field(40, "ans3", "service restriction", "服务限制码"),
    _field(41, "an8", "terminal", "受卡机终端标识码"),  # seen
    _field(42, "an15", "merchant", "受卡方标识码"),  # seen
    _field(43, "ans40", "merchant name", "商户名称"),  # seen
    _field(44, "ans..25", "issuer and acquirer codes", "附加响应数据"),  # seen
    _field(45, "ans..76", "track 1", "一磁道数据", privacy=_SECRET),
    _field(46, "ans...999", "terminal extension data", "终端附加数据"),  # seen
    _field(47, "ans...999", "marketing data", "营销信息"),
    # Totals in settlements, details in batch uploads, and the agreement number of partners that debit contracts.
    # Packed digits after the UnionPay table (four programs agree).
    _field(48, "n...322", "private data or contract reference", "附加数据-私有", privacy=_ID),
    _field(49, "an3", "currency", "交易货币代码"),  # seen
    _field(50, "an3", "settlement currency", "清算货币代码"),
    _field(51, "an3", "cardholder billing currency", "持卡人账户货币代码"),
    _field(52, "b8", "PIN block", "个人标识码数据", privacy=_SECRET),  # seen
    _field(53, "n16", "security control", "安全控制信息"),  # seen
    # 20 in the UnionPay table, 120 in ISO 8583; hosts with several balances use more than 20.
    _field(54, "ans...120", "balances", "余额"),
    _field(55, "b...999", "chip data, BER-TLV", "IC卡数据域", privacy=_SECRET),  # seen; 255 in the UnionPay table
    _field(56, "ans...999", "result text", "附加信息"),  # seen
    _field(57, "ans...999", "additional transaction data", "附加交易信息"),
    _field(58, "ans...999", "purse transaction data", "电子钱包交易信息", privacy=_SECRET),
    _field(59, "ans...999", "terminal or host extension", "自定义域59"),  # seen; 600 in the UnionPay table
    # The table gives 17 for F60, 29 for F61, 512 for F62 and 163 for F63; hosts exceed them, so the limit is only
    # the one of the length bytes or, where packed digits follow a known layout, three times the table's.
    _field(60, "n...51", "type, batch, network code, flags", "自定义域60"),  # seen
    _field(61, "n...87", "original batch, STAN, date", "原始信息域"),
    _field(62, "b...999", "keys or terminal data", "自定义域62", privacy=_SECRET),  # seen
    _field(63, "ans...999", "operator, organisation, host text", "自定义域63"),  # seen
    _field(64, "b8", "message authentication code", "报文鉴别码", privacy=_SECRET),  # seen
)

CUPS_POS_BCD = Dialect("cups-pos-bcd", MappingProxyType(dict(_CUPS_POS_FIELDS)))
"""UnionPay POS: packed digits, raw bitmap of 64, GBK text."""
