"""How each field of a message travels: dialects are data, the codec is one.

A field has a kind (what its characters are), a length (fixed, or led by one or two packed length bytes), the side
on which an odd digit count is padded, and how secret it is. Sources and their weight:

- fields marked *seen* occur in real messages of tests/vectors/iso8583.jsonl;
- the other UnionPay POS fields follow the 银联 POS 终端规范 field table as several independent terminal programs
  carry it (two or more agree);
- fields that specification leaves unused follow ISO 8583:1987 packed in the same manner; they are inferred and
  must be checked against the partner's own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from protocols.bank.responses import CUPS_POS, ResponseTable


class Kind(Enum):
    """What the characters of a field are. Lengths count characters of the kind, never packed bytes."""

    DIGITS = "n"
    """Decimal digits, two to a byte."""
    TRACK = "z"
    """Hexadecimal nibbles, two to a byte; D separates. Text keeps the nibbles as 0-9 A-F."""
    PRINTABLE = "an"
    """Printable ASCII, one to a byte. Anything else is an error: decisions hang on these fields."""
    TEXT = "ans"
    """GBK text, counted in bytes. Content that is not clean text stays bytes."""
    BINARY = "b"
    """Raw bytes."""


class Length(Enum):
    """Where the length of a field comes from."""

    FIXED = 0
    LL = 1
    """One byte, two packed digits."""
    LLL = 2
    """Two bytes, four packed digits of which the first is zero."""


class Pad(Enum):
    """Where the spare nibble of an odd number of digits goes."""

    AFTER = "after"
    BEFORE = "before"


class Sensitivity(Enum):
    """How much of a field people and logs may see."""

    OPEN = "open"
    IDENTIFIER = "identifier"
    """Points at a person or an account: first six and last four characters at most."""
    SECRET = "secret"  # noqa: S105 - a class of fields, not a password
    """Track data, PIN blocks, keys, chip data, cryptograms: never shown, only its length."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of one dialect. `size` is the exact length of a fixed field and the largest of a variable one."""

    number: int
    kind: Kind
    length: Length
    size: int
    english: str
    chinese: str
    sensitivity: Sensitivity = Sensitivity.OPEN
    pad: Pad = Pad.AFTER

    @property
    def packed(self) -> bool:
        """Two characters to a byte."""
        return self.kind is Kind.DIGITS or self.kind is Kind.TRACK


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of packing messages: name, the field table, and what its answer codes mean."""

    name: str
    fields: Mapping[int, FieldSpec]
    responses: ResponseTable = CUPS_POS


_N, _Z, _AN, _ANS, _B = Kind.DIGITS, Kind.TRACK, Kind.PRINTABLE, Kind.TEXT, Kind.BINARY
_FIX, _LL, _LLL = Length.FIXED, Length.LL, Length.LLL
_ID, _SECRET = Sensitivity.IDENTIFIER, Sensitivity.SECRET

_CUPS_POS_FIELDS = (
    FieldSpec(2, _N, _LL, 19, "account number", "主账号", _ID),  # seen
    FieldSpec(3, _N, _FIX, 6, "processing code", "交易处理码"),  # seen
    FieldSpec(4, _N, _FIX, 12, "amount, fen", "交易金额"),  # seen
    FieldSpec(5, _N, _FIX, 12, "settlement amount", "清算金额"),
    FieldSpec(6, _N, _FIX, 12, "cardholder billing amount", "持卡人扣账金额"),
    FieldSpec(7, _N, _FIX, 10, "transmission time MMDDhhmmss", "交易传输时间"),
    FieldSpec(8, _N, _FIX, 8, "cardholder billing fee", "持卡人扣账手续费"),
    FieldSpec(9, _N, _FIX, 8, "settlement rate", "清算汇率"),
    FieldSpec(10, _N, _FIX, 8, "cardholder billing rate", "持卡人扣账汇率"),
    FieldSpec(11, _N, _FIX, 6, "trace number (STAN)", "受卡方系统跟踪号"),  # seen
    FieldSpec(12, _N, _FIX, 6, "local time hhmmss", "受卡方所在地时间"),  # seen
    FieldSpec(13, _N, _FIX, 4, "local date MMDD", "受卡方所在地日期"),  # seen
    FieldSpec(14, _N, _FIX, 4, "card expiry YYMM", "卡有效期", _SECRET),  # seen
    FieldSpec(15, _N, _FIX, 4, "settlement date MMDD", "清算日期"),  # seen
    FieldSpec(16, _N, _FIX, 4, "conversion date MMDD", "兑换日期"),
    FieldSpec(17, _N, _FIX, 4, "capture date MMDD", "截取日期"),
    FieldSpec(18, _N, _FIX, 4, "merchant category", "商户类型"),
    # n3 in two bytes. Only F22 and F23 are documented (F22 left, F23 right); the others follow F23, inferred.
    FieldSpec(19, _N, _FIX, 3, "acquirer country", "受理机构国家代码", pad=Pad.BEFORE),
    FieldSpec(20, _N, _FIX, 3, "account country", "主账号国家代码", pad=Pad.BEFORE),
    FieldSpec(21, _N, _FIX, 3, "forwarder country", "发送机构国家代码", pad=Pad.BEFORE),
    FieldSpec(22, _N, _FIX, 3, "entry mode", "服务点输入方式码"),  # seen
    FieldSpec(23, _N, _FIX, 3, "card sequence number", "卡序列号", pad=Pad.BEFORE),  # seen
    FieldSpec(24, _N, _FIX, 3, "network identifier (NII)", "网络国际标识符", pad=Pad.BEFORE),
    FieldSpec(25, _N, _FIX, 2, "condition code", "服务点条件码"),  # seen
    FieldSpec(26, _N, _FIX, 2, "PIN capture code", "服务点PIN获取码"),  # seen
    FieldSpec(27, _N, _FIX, 2, "authorisation code length", "授权码长度"),
    # Fees are a sign letter and eight digits in ISO 8583:1987, one byte each.
    FieldSpec(28, _ANS, _FIX, 9, "transaction fee", "交易费"),
    FieldSpec(29, _ANS, _FIX, 9, "settlement fee", "清算费"),
    FieldSpec(30, _ANS, _FIX, 9, "transaction processing fee", "交易处理费"),
    FieldSpec(31, _ANS, _FIX, 9, "settlement processing fee", "清算处理费"),
    FieldSpec(32, _N, _LL, 11, "acquiring institution", "受理方标识码"),  # seen
    FieldSpec(33, _N, _LL, 11, "forwarding institution", "发送机构标识码"),
    FieldSpec(34, _N, _LL, 28, "extended account number", "扩展主账号", _ID),
    FieldSpec(35, _Z, _LL, 37, "track 2", "二磁道数据", _SECRET),
    FieldSpec(36, _Z, _LLL, 104, "track 3", "三磁道数据", _SECRET),
    FieldSpec(37, _ANS, _FIX, 12, "retrieval reference number", "检索参考号"),  # seen
    FieldSpec(38, _ANS, _FIX, 6, "authorisation code", "授权标识应答码"),  # seen
    FieldSpec(39, _AN, _FIX, 2, "response code", "应答码"),  # seen
    FieldSpec(40, _ANS, _FIX, 3, "service restriction", "服务限制码"),
    FieldSpec(41, _AN, _FIX, 8, "terminal", "受卡机终端标识码"),  # seen
    FieldSpec(42, _AN, _FIX, 15, "merchant", "受卡方标识码"),  # seen
    FieldSpec(43, _ANS, _FIX, 40, "merchant name", "商户名称"),  # seen
    FieldSpec(44, _ANS, _LL, 25, "issuer and acquirer codes", "附加响应数据"),  # seen
    FieldSpec(45, _ANS, _LL, 76, "track 1", "一磁道数据", _SECRET),
    FieldSpec(46, _ANS, _LLL, 999, "terminal extension data", "终端附加数据"),  # seen
    FieldSpec(47, _ANS, _LLL, 999, "marketing data", "营销信息"),
    # Totals in settlements, details in batch uploads, and the agreement number of partners that debit contracts.
    # Packed digits after the UnionPay table (four programs agree).
    FieldSpec(48, _N, _LLL, 322, "private data or contract reference", "附加数据-私有", _ID),
    FieldSpec(49, _AN, _FIX, 3, "currency", "交易货币代码"),  # seen
    FieldSpec(50, _AN, _FIX, 3, "settlement currency", "清算货币代码"),
    FieldSpec(51, _AN, _FIX, 3, "cardholder billing currency", "持卡人账户货币代码"),
    FieldSpec(52, _B, _FIX, 8, "PIN block", "个人标识码数据", _SECRET),  # seen
    FieldSpec(53, _N, _FIX, 16, "security control", "安全控制信息"),  # seen
    # 20 in the UnionPay table, 120 in ISO 8583; hosts with several balances use more than 20.
    FieldSpec(54, _ANS, _LLL, 120, "balances", "余额"),
    FieldSpec(55, _B, _LLL, 999, "chip data, BER-TLV", "IC卡数据域", _SECRET),  # seen; 255 in the UnionPay table
    FieldSpec(56, _ANS, _LLL, 999, "result text", "附加信息"),  # seen
    FieldSpec(57, _ANS, _LLL, 999, "additional transaction data", "附加交易信息"),
    FieldSpec(58, _ANS, _LLL, 999, "purse transaction data", "电子钱包交易信息", _SECRET),
    FieldSpec(59, _ANS, _LLL, 999, "terminal or host extension", "自定义域59"),  # seen; 600 in the UnionPay table
    # The table gives 17 for F60, 29 for F61, 512 for F62 and 163 for F63; hosts exceed them, so the limit is only
    # the one of the length bytes or, where packed digits follow a known layout, three times the table's.
    FieldSpec(60, _N, _LLL, 51, "type, batch, network code, flags", "自定义域60"),  # seen
    FieldSpec(61, _N, _LLL, 87, "original batch, STAN, date", "原始信息域"),
    FieldSpec(62, _B, _LLL, 999, "keys or terminal data", "自定义域62", _SECRET),  # seen
    FieldSpec(63, _ANS, _LLL, 999, "operator, organisation, host text", "自定义域63"),  # seen
    FieldSpec(64, _B, _FIX, 8, "message authentication code", "报文鉴别码", _SECRET),  # seen
)

CUPS_POS_BCD = Dialect("cups-pos-bcd", MappingProxyType({spec.number: spec for spec in _CUPS_POS_FIELDS}))
"""UnionPay POS: packed digits, raw bitmap of 64, GBK text."""
