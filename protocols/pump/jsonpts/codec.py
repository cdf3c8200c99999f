"""Bodies of jsonPTS to packets and back.

`decode` raises for a body that is no message at all. One packet that cannot be read does not spoil the others: it comes
as `Unreadable`, with the error that says why. A key given twice with different values is refused: two readers would
read two amounts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NoReturn

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.jsonpts.errors import ErrorCode, error_meant
from protocols.pump.jsonpts.messages import FROM_WIRE, KINDS, Data

PROTOCOL: Final = "jsonPTS"
CONTENT_TYPE: Final = "application/json; charset=utf-8"
PATH: Final = "/jsonPTS"
"""Path of the controller's own server."""
WEBSOCKET_PATH: Final = "/ptsWebSocket"
"""Path at which a controller asks for a WebSocket unless told another."""
ID_HEADER: Final = "X-Pts-Id"

ID_MAX: Final = 2_147_483_647

REQUEST_BYTES_MAX: Final = 16 * 1024
TOKENS_MAX: Final = 600
"""Largest request that the controller takes ("HTTP layer", "JSON message structure")."""

BODY_BYTES_MAX: Final = 256 * 1024
"""Largest body read. A configuration with 120 pumps, 20 tanks and 30 users is under 100 KiB; a sale 500 bytes."""

OK: Final = "OK"


@dataclass(frozen=True, slots=True)
class Content:
    """Packet with data that is declared: a request, an answer or a push."""

    id: int
    data: Data


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Packet that says OK to the one with this id. `type` may be left out by a server."""

    id: int
    type: str | None
    get_status: bool = False
    """Asks the controller for UploadStatus at once."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Packet that says no to the one with this id."""

    id: int
    type: str | None
    code: int | None
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def meaning(self) -> ErrorCode | None:
        """Entry of the error table; None for an error that it does not know."""
        return error_meant(self.code, self.text)


@dataclass(frozen=True, slots=True)
class Undeclared:
    """Packet of a type that this module does not declare."""

    id: int
    type: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Packet that breaks the rules of its type."""

    id: int
    type: str
    error: RemoteProtocolError


Packet = Content | Confirmation | Failure | Undeclared | Unreadable


@dataclass(frozen=True, slots=True)
class Message:
    """Body of a request or reply. `pts_id` stands in what a controller sends to a server."""

    packets: tuple[Packet, ...]
    pts_id: str | None = None
    refused: Failure | None = None
    """Error of the body as a whole, with id 0; there may be no packets then."""


# --- reading --------------------------------------------------------------------------------------------------------


def decode(body: bytes) -> Message:
    """Packets of a body. Raises RemoteProtocolError."""
    content = _json(body)
    if not isinstance(content, dict):
        raise _bad("the body is no JSON object", "body", body)
    if content.get("Protocol") != PROTOCOL:
        raise _bad(f"Protocol is {str(content.get('Protocol'))[:40]!r}, not {PROTOCOL!r}", "Protocol", body)
    pts_id = content.get("PtsId")
    if pts_id is not None and not (isinstance(pts_id, str) and 0 < len(pts_id) <= 24):
        raise _bad("PtsId is no text of 1 to 24 characters", "PtsId", body)
    refused = _failure(0, None, content) if _is_error(content) else None
    packets = content.get("Packets", [] if refused else None)
    if not isinstance(packets, list):
        raise _bad("Packets is no array", "Packets", body)
    return Message(tuple(_packet(index, packet) for index, packet in enumerate(packets)), pts_id, refused)


def _json(body: bytes) -> Any:  # noqa: ANN401 - JSON values
    if len(body) > BODY_BYTES_MAX:
        raise _bad(f"{len(body)} bytes, {BODY_BYTES_MAX} are read", "body", body)
    try:
        return json.loads(
            body, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_object_without_contradiction
        )
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise _bad(f"not JSON: {error}", "body", body, getattr(error, "pos", None)) from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _object_without_contradiction(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            raise ValueError(f"key {key!r} stands twice with different values")
    return found


def _bad(problem: str, name: str, body: bytes, offset: int | None = None) -> RemoteProtocolError:
    return RemoteProtocolError(
        problem,
        field=name,
        offset=offset,
        data=body,
        clause="jsonPTS R129, JSON message structure",
        hint="does a PTS-2 controller send this?",
    )


def _packet(index: int, packet: object) -> Packet:
    place = f"Packets[{index}]"
    if not isinstance(packet, dict):
        raise _bad("no JSON object", place, b"")
    number = _id(place, packet.get("Id"))
    kind = packet.get("Type")
    if _is_error(packet):
        return _failure(number, kind, packet)
    if packet.get("Message") == OK:
        return Confirmation(number, kind if isinstance(kind, str) else None, packet.get("GetStatus") is True)
    if not isinstance(kind, str):
        raise _bad("Type is no text", f"{place}.Type", b"")
    declared = KINDS.get(kind)
    if declared is None:
        return Undeclared(number, kind[:64])
    try:
        return Content(number, declared.model_validate(packet.get("Data", {}), context=FROM_WIRE))
    except RemoteProtocolError as error:
        return Unreadable(number, kind, error)


def _is_error(content: Mapping[str, Any]) -> bool:
    """True for an object that says no. Examples write both the truth value and, in `Id`, text for a number."""
    return content.get("Error") in (True, "true")


def _id(place: str, value: object) -> int:
    """Number of a packet; section 113 writes it as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= ID_MAX:
        raise _bad(f"Id {str(value)[:40]!r} is not 1 to {ID_MAX}", f"{place}.Id", b"")
    return value


def _failure(number: int, kind: object, packet: Mapping[str, Any]) -> Failure:
    code, data = packet.get("Code"), packet.get("Data")
    return Failure(
        number,
        kind if isinstance(kind, str) else None,
        code if isinstance(code, int) else None,
        str(packet.get("Message", ""))[:100],
        data if isinstance(data, dict) else {},
    )


# --- writing --------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Body of a message, in the order of keys that the controller wants: `Id` first, `Data` last (section 209)."""
    return json.dumps(_body(message), ensure_ascii=False, separators=(",", ":"), default=_number).encode()


def encode_request(message: Message) -> bytes:
    """Body for a controller. Raises LocalProtocolError for one that is larger than it takes."""
    body, tokens = encode(message), _tokens(_body(message))
    for size, most, unit in ((len(body), REQUEST_BYTES_MAX, "bytes"), (tokens, TOKENS_MAX, "JSON tokens")):
        if size > most:
            raise LocalProtocolError(
                f"{size} {unit}, the controller takes {most}", field="Packets", hint="send fewer packets in a message"
            )
    return body


def _body(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"Protocol": PROTOCOL}
    if message.pts_id is not None:
        body["PtsId"] = message.pts_id
    if message.refused is not None:
        body |= {"Error": True, "Code": message.refused.code, "Message": message.refused.text}
    return body | {"Packets": [_packet_on_wire(packet) for packet in message.packets]}


def _packet_on_wire(packet: Packet) -> dict[str, Any]:
    match packet:
        case Content(number, data):
            content = data.on_wire()
            return {"Id": number, "Type": data.type_on_wire} | ({"Data": content} if content else {})
        case Confirmation(number, kind, get_status):
            asked = {"GetStatus": True} if get_status else {}
            return {"Id": number} | ({} if kind is None else {"Type": kind}) | {"Message": OK} | asked
        case Failure(number, kind, code, text, data):
            said = {"Error": True, "Code": code, "Message": text} | ({"Data": dict(data)} if data else {})
            return {"Id": number} | ({} if kind is None else {"Type": kind}) | said
        case _:
            raise LocalProtocolError(f"{type(packet).__name__} packets are only read", field="Packets")


def _number(value: object) -> float:
    """Number on the wire of a Decimal: its fifteen digits come out of a double as they went in."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return float(value)


def _tokens(value: object) -> int:
    """JSON tokens of a value: each object, array, key and plain value is one."""
    if isinstance(value, Mapping):
        return 1 + sum(1 + _tokens(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return 1 + sum(map(_tokens, value))
    return 1
