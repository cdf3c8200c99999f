"""`etcgw init`: a place to begin, a site of one toll lane that passes `check-config` and starts.

Five questions at a terminal, each with an option that answers it; without a terminal what is not given is the default.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.help import Commands
from gateway.cli.options import JsonOption, now_utc, screen_of
from gateway.cli.screen import Screen
from gateway.cli.usage import BadValue
from gateway.texts.catalogue import Pair, Words
from gateway.texts.foreign import text_of_error

app = Commands("init")

SITE_FILE: Final = "site.toml"
EMPTY_LIST: Final = "empty-1"
"""Version of the status list that stops nobody, which a new site begins with."""

EMPTY_SINCE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Age of that list: it is stale from the first day, and `etcgw status` says so until a true one is built."""

SITE_NAME_CHARS_MAX: Final = 80
"""Longest name that the site file takes."""

CHINA: Final = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class _Question:
    """Question about the new site."""

    key: str
    asked: Words
    default: str
    check: Callable[[str], str]
    """Gives the answer as the site file has it; raises ValueError with what is wrong."""

    def answer(self, screen: Screen, given: str | None, *, ask: bool) -> str:
        """The answer given, asked for, or the default."""
        if given is not None:
            return self._checked(given)
        if not ask:
            return self._checked(self.default)
        asked: str = typer.prompt(screen.word(self.asked), self.default, err=True, value_proc=self._checked)
        return asked

    def _checked(self, text: str) -> str:
        try:
            return self.check(text.strip())
        except ValueError as error:
            raise BadValue(text_of_error(error), f"'--{self.key}'") from error


def _station(text: str) -> str:
    if len(text) != 8 or not text.isascii() or not text.isalnum() or not _is_hex(text):
        raise ValueError(Words("init.no-station", value=repr(text)))
    return text.upper()


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in text)


def _region(text: str) -> str:
    """GBK bytes of a region, or these bytes in hex, as the site file has them."""
    if len(text) == 8 and _is_hex(text):
        return text.upper()
    try:
        found = text.encode("gbk")
    except UnicodeEncodeError:
        found = b""
    if len(text) != 2 or len(found) != 4:
        raise ValueError(Words("init.no-region", value=repr(text)))
    return found.hex().upper()


def _antenna(text: str) -> str:
    from drivers.addresses import parse_link_address

    parse_link_address(text)
    return text


def _board(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from gateway.documents import HostPort

    try:
        return TypeAdapter[str](HostPort).validate_python(text)
    except ValidationError as error:
        raise ValueError(Words("init.no-address", value=repr(text))) from error


def _fare(text: str) -> str:
    from gateway.model.money import FEN_MAX, format_fen, parse_yuan

    try:
        fen = parse_yuan(text)
    except ValueError as error:
        raise ValueError(Words("init.no-amount", value=repr(text))) from error
    if not 0 < fen <= FEN_MAX:
        raise ValueError(Words("init.no-fare", value=repr(text), most=format_fen(FEN_MAX)))
    return str(int(fen))


STATION: Final = _Question("station", Words("init.network-station-8-hex-digits"), "99010101", _station)
REGION: Final = _Question("region", Words("init.region-cards-two-characters"), "测试", _region)
ANTENNA: Final = _Question(
    "antenna",
    Words("init.antenna-host-port-or-serial"),
    "127.0.0.1:9001",
    _antenna,
)
BOARD: Final = _Question(
    "board",
    Words("init.relay-board-host-port-modbus"),
    "127.0.0.1:9002",
    _board,
)
FARE: Final = _Question("fare", Words("init.fare-car-class-1-yuan"), "10.00", _fare)


def at_terminal() -> bool:
    """True when somebody can be asked."""
    return sys.stdin.isatty()


@app.command("init")
def init(
    context: typer.Context,
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    station: Annotated[str | None, typer.Option("--station", metavar="HEX")] = None,
    region: Annotated[str | None, typer.Option("--region")] = None,
    antenna: Annotated[str | None, typer.Option("--antenna", metavar="ADDRESS")] = None,
    board: Annotated[str | None, typer.Option("--board", metavar="HOST:PORT")] = None,
    fare: Annotated[str | None, typer.Option("--fare", metavar="YUAN")] = None,
    name: Annotated[str | None, typer.Option("--name")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a commented site of one open toll lane, which passes check-config and starts. Overwrites nothing.

    Asks at a terminal for what no option says; elsewhere takes the defaults, which are those of the bench.
    """
    screen, ask = screen_of(context), at_terminal()
    if name is not None and not (0 < len(name) <= SITE_NAME_CHARS_MAX and name.isprintable()):
        raise BadValue(Words("usage.site-name-length", most=SITE_NAME_CHARS_MAX), "'--name'")
    given = ((STATION, station), (REGION, region), (ANTENNA, antenna), (BOARD, board), (FARE, fare))
    values = {question.key: question.answer(screen, said, ask=ask) for question, said in given}
    station, now = values["station"], now_utc().astimezone(CHINA)
    values |= {
        "name": _quoted(name or screen.say("init.new-site")),
        "gantry": f"{station[:2]}{station[4:]}",
        "antenna": _quoted(values["antenna"]),
        "dialect": "legacy-serial-bj" if values["antenna"].startswith("serial:") else "pcrsu-v3",
        "version": f"{station[:2] if station[:2].isdigit() else '99'}{now:%Y%m%d}001",
        "valid_from": f"{now:%Y-%m-%d}T00:00:00+08:00",
    }
    texts = {
        folder / SITE_FILE: _told(screen, SITE).format_map(values),
        folder / "tariffs" / f"{values['version']}.toml": _told(screen, TARIFF).format_map(values),
    }
    _make(folder, texts)
    written = [*texts, folder / "chain.key", folder / "lists"]
    config = shlex.quote(str(folder / SITE_FILE))
    steps = [f"etcgw {command} --config {config}" for command in ("check-config", "ledger create", "run", "status")]
    if as_json:
        screen.json({"site": str(folder / SITE_FILE), "written": list(map(str, written)), "next": steps})
        return
    for path in written:
        screen.line(str(path))
    screen.note(screen.say("init.next"))
    for step in steps:
        screen.note(f"  {step}")
    screen.note(screen.say("init.before-vehicles-come-fares-tariffs"))


def _make(folder: Path, texts: dict[Path, str]) -> None:
    """Make key, list and files; nothing where one of them is there already. Raises `CliFault`."""
    from gateway import private_files
    from gateway.ledger import chain_key_files
    from gateway.payers import status_list_build

    for path in (folder / SITE_FILE, folder / "chain.key", folder / "tariffs", folder / "lists"):
        if path.exists():
            raise CliFault(
                ExitCode.REFUSED,
                "site_exists",
                Words("init.there-already", path=path),
                Words("init.there-site-this-folder-nothing"),
                Words("init.name-new-folder"),
            )
    try:
        for path in texts:
            path.parent.mkdir(parents=True, exist_ok=True, mode=private_files.FOLDER_MODE)
        (folder / "lists").mkdir()
        chain_key_files.make(folder / "chain.key")
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as nobody:
            nobody.write("kind,key,list_type,sign\n")
            nobody.flush()
            status_list_build.build(
                Path(nobody.name),
                folder / "lists",
                version=EMPTY_LIST,
                created_at=EMPTY_SINCE,
                effective_at=EMPTY_SINCE,
            )
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "folder_unwritable",
            f"{error.filename or folder}: {error.strerror}",
            Words("init.folder-cannot-made-or-written"),
            Words("init.name-folder-we-may-write"),
        ) from error


SITE: Final = """\
# A site of one open toll lane. Every key: etcgw check-config --parameters ¦ 一条开放式收费车道的站点。全部参数: etcgw check-config --parameters
# Relative paths count from this file's folder. ¦ 相对路径以本文件所在目录为准。
mode = "production"

[site]
name = {name}
# Who earns the tolls: the name of its account in the ledger. ¦ 通行费归属方,即账本中的账户名。
merchant = "road"

[storage]
# Made by etcgw ledger create. ¦ 由 etcgw ledger create 创建。
ledger = "ledger.db"
state = "state.json"
# The key of the ledger's chains, this site's own: keep a copy away from this machine. ¦ 账本链密钥,本站点专用: 请在本机之外另存一份。
chain_key = "chain.key"

[lists]
# Cards, tags and plates to be stopped; etcgw lists build publishes a list. ¦ 须拦截的卡、OBU 和车牌;用 etcgw lists build 发布名单。
directory = "lists"

[tariffs]
# A file a tariff version: correct the fares before vehicles come. ¦ 每个费率版本一个文件: 通车之前请核对费率。
directory = "tariffs"

# A section for each region whose cards are taken: its two characters in GBK, as hex. ¦ 每个受理地区一节: 地区两个汉字的 GBK 编码(十六进制)。
[[issuers]]
region = "{region}"
name = "issuer-1"

[[relay_boards]]
name = "board-1"
address = "{board}"

[[charge_points]]
name = "lane-1"
# One fare a class; toll-exit charges by the entry on the card, toll-entry writes it. ¦ 按车型收一个价; toll-exit 按卡内入口收费,toll-entry 写入口。
kind = "toll-open"
station = "{station}"
lane_no = 1
# The lane's own code, 3 bytes in hex. ¦ 车道编码,3 字节十六进制。
gantry = "{gantry}"
# The dialect is one of etcgw rsu dialects. ¦ 协议见 etcgw rsu dialects。
antenna = {{ address = {antenna}, dialect = "{dialect}" }}
# Coils of the board; closed_limit = N names the input that is on while the arm is down. ¦ 继电器板线圈号; closed_limit = N 为落杆到位输入号。
outputs = {{ board = "board-1", barrier = 0, green = 1, red = 2 }}
"""  # noqa: E501 - a comment and its translation stand in one line
"""Site file; a comment has its English text before the bar, its Chinese one behind it."""

TARIFF: Final = """\
# Fares in fen by vehicle class: cars and buses 1 to 4, trucks 11 to 16. ¦ 各车型通行费(分): 客车 1 至 4,货车 11 至 16。
version = "{version}"
valid_from = {valid_from}

# The largest fare that can be true; nobody is charged more. ¦ 金额上限,超过者不予扣款。
[ceiling_fen]
1 = {fare}

[class_table.{station}]
1 = {fare}
"""


def _told(screen: Screen, text: str) -> str:
    """A file's text with its comments in the language chosen."""
    return re.sub(
        "^# (.*) ¦ (.*)$", lambda found: f"# {screen.word(Pair(found[1], found[2]))}", text, flags=re.MULTILINE
    )


def _quoted(text: str) -> str:
    """A text as TOML has it; what JSON escapes, TOML reads alike."""
    return json.dumps(text, ensure_ascii=False)
