"""Commands and responses of ISO 7816-4, short form, and texts of status words.

Le on the wire is optional in the field: readers on T=0 leave it out and fetch the answer with GET RESPONSE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.fields import Label

DATA_BYTES_MAX: Final = 255
"""Lc is one byte: ETC cards know no extended length."""

LE_MAX: Final = 256
"""Largest answer length: as many bytes as there are; 00 on the wire."""

FOLLOW_UPS_MAX: Final = 8
"""Commands behind one that was answered with 61xx or 6Cxx: a file of 255 bytes in pieces of 32. A card that announces
more than that turns in a circle."""

SW_OK: Final = 0x9000
SW_WRONG_LENGTH: Final = 0x6700
SW_SECURITY: Final = 0x6982
SW_CONDITIONS: Final = 0x6985
SW_FILE_NOT_FOUND: Final = 0x6A82
SW_MAC: Final = 0x9302
SW_BALANCE: Final = 0x9401
SW_KEY_INDEX: Final = 0x9403
SW_NO_PROOF: Final = 0x9406
"""GET TRANSACTION PROVE knows nothing of this sequence: the purchase did not happen (agreed)."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command APDU."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = field(default=b"", repr=False)
    le: int | None = None
    """Answer length wanted, 1..256; None leaves Le out."""

    def encode(self) -> bytes:
        """Header, Lc with data when there is any, Le when given. Raises LocalProtocolError when a part is too big."""
        if len(self.data) > DATA_BYTES_MAX:
            raise LocalProtocolError(f"{len(self.data)} data bytes, at most {DATA_BYTES_MAX}", field="Lc", offset=4)
        if self.le is not None and not 1 <= self.le <= LE_MAX:
            raise LocalProtocolError(f"Le {self.le}, wanted 1 to {LE_MAX}", field="Le")
        try:
            head = bytes((self.cla, self.ins, self.p1, self.p2))
        except ValueError as error:
            raise LocalProtocolError("header byte outside 0..255", field="header", offset=0) from error
        body = bytes((len(self.data),)) + self.data if self.data else b""
        return head + body + (b"" if self.le is None else bytes((self.le % LE_MAX,)))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Any short command. Raises RemoteProtocolError when Lc does not fit the length."""
        if len(raw) < 4:
            raise RemoteProtocolError(f"{len(raw)} bytes are no command", field="header", offset=len(raw), data=raw)
        cla, ins, p1, p2 = raw[:4]
        if len(raw) == 4:
            return cls(cla, ins, p1, p2)
        if len(raw) == 5:
            return cls(cla, ins, p1, p2, le=raw[4] or LE_MAX)
        length, rest = raw[4], raw[5:]
        if length == 0 or len(rest) not in (length, length + 1):
            raise RemoteProtocolError(
                f"Lc {length} with {len(rest)} bytes behind it", field="Lc", offset=4, data=raw, clause="ISO 7816-4 §5"
            )
        le = None if len(rest) == length else rest[length] or LE_MAX
        return cls(cla, ins, p1, p2, rest[:length], le)

    def encode_t0(self) -> bytes:
        """Bytes for a card on T=0, whose fifth byte is Lc, or Le where there is no data, and is never left out."""
        raw = (replace(self, le=None) if self.data else self).encode()
        return raw if len(raw) > 4 else raw + b"\0"  # ISO 7816-3 §12.1


@dataclass(frozen=True, slots=True)
class Response:
    """One response APDU."""

    data: bytes = field(repr=False)
    sw: int

    @property
    def ok(self) -> bool:
        """True for 9000."""
        return self.sw == SW_OK

    def encode(self) -> bytes:
        """Data and status word."""
        return self.data + self.sw.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Any response. Raises RemoteProtocolError for less than a status word."""
        if len(raw) < 2:
            raise RemoteProtocolError(
                f"{len(raw)} bytes hold no status word",
                field="SW",
                offset=len(raw),
                data=raw,
                hint="the card left or was reset: connect again",
            )
        return cls(raw[:-2], int.from_bytes(raw[-2:], "big"))


def follow_up(command: Command, response: Response) -> Command | None:
    """Command that fetches what a card has ready (61xx), or the same one with the Le it wants (6Cxx); None for neither.

    A card that asks for the Le it was given gets nothing further. Callers count to `FOLLOW_UPS_MAX`.
    """
    wanted = response.sw & 0xFF or LE_MAX
    match response.sw >> 8:
        case 0x61:
            return Command(0x00, 0xC0, 0x00, 0x00, le=wanted)  # GET RESPONSE, ISO 7816-4 §7.6.1
        case 0x6C if wanted != command.le:
            return replace(command, le=wanted)
        case _:
            return None


STATUS_WORDS: Final[Mapping[int, Label]] = MappingProxyType(
    {
        SW_OK: Label("成功", "ok"),
        0x6200: Label("警告:状态未变", "warning, nothing changed"),
        0x6281: Label("返回数据可能有误", "returned data may be corrupted"),
        0x6282: Label("文件长度小于Le", "end of file before Le bytes"),
        0x6283: Label("文件无效", "file invalidated"),
        0x6300: Label("认证失败", "authentication failed"),
        0x6400: Label("状态标志未变", "state not changed"),
        0x6581: Label("写EEPROM失败", "memory failure"),
        SW_WRONG_LENGTH: Label("长度错误", "wrong length"),
        0x6882: Label("不支持安全报文", "secure messaging not supported"),
        0x6900: Label("不能处理", "command not allowed"),
        0x6901: Label("命令不接受(无效状态)", "state does not allow this command"),
        0x6981: Label("命令与文件结构不相容", "command does not fit this kind of file"),
        SW_SECURITY: Label("不满足安全状态", "security status not satisfied"),
        0x6983: Label("认证方法锁定", "authentication method blocked"),
        0x6984: Label("随机数无效", "no challenge, or an old one"),
        SW_CONDITIONS: Label("使用条件不满足", "conditions of use not satisfied"),
        0x6986: Label("没有选择当前文件", "no current file"),
        0x6987: Label("安全报文数据项丢失", "secure messaging object missing"),
        0x6988: Label("安全报文数据项不正确", "secure messaging object wrong"),
        0x6A80: Label("数据域参数不正确", "wrong data"),
        0x6A81: Label("功能不支持或应用锁定", "function not supported, or card blocked"),
        SW_FILE_NOT_FOUND: Label("未找到文件", "file not found"),
        0x6A83: Label("未找到记录", "record not found"),
        0x6A84: Label("文件空间不足", "not enough space"),
        0x6A86: Label("P1P2不正确", "wrong P1 P2"),
        0x6A88: Label("未找到引用数据", "reference not found"),
        0x6B00: Label("偏移量错误", "offset outside the file"),
        0x6D00: Label("INS不支持", "instruction not supported"),
        0x6E00: Label("CLA不支持", "class not supported"),
        0x6F00: Label("数据无效", "no diagnosis"),
        0x9301: Label("资金不足", "funds or limit problem"),  # inferred
        SW_MAC: Label("MAC无效", "MAC wrong"),
        0x9303: Label("应用永久锁定", "application locked for ever"),
        SW_BALANCE: Label("交易金额不足", "balance too low"),
        0x9402: Label("交易计数器达到最大值", "transaction counter at its limit"),
        SW_KEY_INDEX: Label("密钥索引不支持", "key index not supported"),
        SW_NO_PROOF: Label("所需MAC或TAC不可用", "MAC or TAC not available"),
        0x9407: Label("复合应用不支持", "composite purchase not allowed"),
    }
)


def status_text(sw: int) -> Label:
    """Text of a status word, in both languages; the families 61xx, 63Cx and 6Cxx with their number."""
    known = STATUS_WORDS.get(sw)
    if known is not None:
        return known
    low = sw & 0xFF
    if sw >> 8 == 0x61:
        return Label(f"还有{low}字节可取", f"{low} bytes waiting for GET RESPONSE")
    if sw >> 8 == 0x6C:
        return Label(f"Le应为{low}", f"repeat with Le {low}")
    if sw >> 4 == 0x63C:
        return Label(f"认证失败,还可尝试{low & 0xF}次", f"authentication failed, {low & 0xF} tries left")
    return Label(f"未知状态字{sw:04X}", f"unknown status word {sw:04X}")


_READ_SHORTER: Final = Label("请按卡片给出的长度重读", "read again with the length that the card names")
_SELECT_FIRST: Final = Label("请先选择正确的目录或文件", "select the right directory or file first")
_NOT_THIS_CARD: Final = Label(
    "请确认是否为ETC卡及其应用,不要重复发送", "see whether this is an ETC card and application; do not repeat it"
)
_AUTHENTICATE: Final = Label(
    "请先完成认证(PIN、外部认证或PSAM授权)", "authenticate first: PIN, external authentication, or the PSAM's centre"
)
_NEW_CHALLENGE: Final = Label("请重新取随机数后立即重发", "get a new challenge, and send the command right after it")
_CHECK_MAC: Final = Label(
    "请核对密钥、分散因子、金额和时间是否一致,不要重复尝试",
    "compare keys, factors, amount and time; do not try again blindly",
)
_ISSUER: Final = Label("请持卡人到发行方网点处理", "send the holder to the card's issuer")
_WORN_OUT: Final = Label(
    "卡片可能已损坏:擦拭后重试一次,仍失败请换卡", "clean the contacts and try once; then change the card"
)
_OUR_MISTAKE: Final = Label("命令有误:请记录报文并报告", "the command is wrong: keep the trace and report it")
_NOTHING: Final = Label("无需处理", "nothing")

STATUS_CURES: Final[Mapping[int, Label]] = MappingProxyType(
    {
        SW_OK: _NOTHING,
        0x6200: Label("请重读核对", "read again and compare"),
        0x6281: Label("请重读;数据不一致时不要使用", "read again, and use nothing that differs"),
        0x6282: _READ_SHORTER,
        0x6283: _ISSUER,
        0x6300: _CHECK_MAC,
        0x6400: _WORN_OUT,
        0x6581: _WORN_OUT,
        SW_WRONG_LENGTH: _READ_SHORTER,
        0x6882: _NOT_THIS_CARD,
        0x6900: _SELECT_FIRST,
        0x6901: Label("请从消费初始化重新开始", "begin again with the initialisation"),
        0x6981: _SELECT_FIRST,
        SW_SECURITY: _AUTHENTICATE,
        0x6983: _ISSUER,
        0x6984: _NEW_CHALLENGE,
        SW_CONDITIONS: Label("请从选择应用和初始化重新开始", "begin again with selection and initialisation"),
        0x6986: _SELECT_FIRST,
        0x6987: _CHECK_MAC,
        0x6988: _CHECK_MAC,
        0x6A80: _OUR_MISTAKE,
        0x6A81: Label("应用可能已被锁定:请到发行方解锁", "the application may be blocked: only its issuer unblocks it"),
        SW_FILE_NOT_FOUND: _NOT_THIS_CARD,
        0x6A83: Label("该记录从未写入", "the record was never written: nothing"),
        0x6A84: _OUR_MISTAKE,
        0x6A86: _OUR_MISTAKE,
        0x6A88: Label(
            "没有此密钥:请选用正确的密钥索引或PSAM配置", "no such key: use another key index or PSAM profile"
        ),
        0x6B00: _READ_SHORTER,
        0x6D00: _NOT_THIS_CARD,
        0x6E00: _NOT_THIS_CARD,
        0x6F00: _WORN_OUT,
        0x9301: Label("请持卡人充值或改用其他方式", "top the card up, or take another payment"),
        SW_MAC: _CHECK_MAC,
        0x9303: _ISSUER,
        SW_BALANCE: Label("请持卡人充值或改用其他方式", "top the card up, or take another payment"),
        0x9402: Label("计数器已满:请更换", "its counter is full: change it"),
        SW_KEY_INDEX: Label(
            "请按卡片版本选用3DES或SM4密钥索引", "use the key index of the card's version: 3DES or SM4"
        ),
        SW_NO_PROOF: Label("该笔消费未发生,可重新交易", "that purchase did not happen: a new one may be made"),
        0x9407: Label("此卡不能复合消费:请人工处理", "this card makes no composite purchase: send it to the attendant"),
    }
)
"""Cure of each status word (the words are agreed, the cures ours)."""


def status_cure(sw: int) -> Label:
    """Cure of a status word; for one that nobody lists, to keep its trace."""
    known = STATUS_CURES.get(sw)
    if known is not None:
        return known
    if sw >> 8 in (0x61, 0x6C):
        return _READ_SHORTER if sw >> 8 == 0x6C else Label("请用GET RESPONSE取数据", "fetch them with GET RESPONSE")
    if sw >> 4 == 0x63C:
        return _ISSUER if sw & 0xF == 0 else _CHECK_MAC
    return _OUR_MISTAKE
