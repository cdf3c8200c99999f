"""Door for PTS-2 controllers that dial in: their WebSockets and uploads at the gateway's HTTP server.

One path serves all controllers; each is told by its number in `X-Pts-Id`. The number is no secret. An upload proves its
sender by a signature over its body or by a login, whichever the controller is set up for. A WebSocket carries neither
in the specification's own example, so give the addresses that a controller may come from as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from drivers.clock import Clock
from drivers.errors import DeviceTimeout, LinkLost
from drivers.http_routes import Arrival, Guard, Peer, Reply, Route, SocketRoute
from drivers.pts import PtsController
from drivers.restraint import LogBySource
from protocols.errors import RemoteProtocolError
from protocols.http_login import Login, is_basic
from protocols.pump.jsonpts import codec
from protocols.pump.jsonpts.codec import Failure, Message, Undeclared
from protocols.pump.jsonpts.errors import INVALID_REQUEST
from protocols.pump.jsonpts.messages import Push
from protocols.pump.jsonpts.signature import HEADER as SIGNATURE_HEADER
from protocols.pump.jsonpts.signature import is_signed, sign

log = logging.getLogger(__name__)

NEVER_SIGNED = "UploadConfiguration"
"""Push without a signature, whatever is set (section 207, note 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialIn:
    """One controller that may come in, and how it proves itself."""

    controller: PtsController
    secret: str | None = None
    """Key of the signatures of its uploads."""
    login: Login | None = None
    """Login of its uploads. A WebSocket shows none in the specification's example, so none is asked of it."""
    sources: frozenset[str] = field(default_factory=frozenset)
    """Addresses that it may come from; none: any."""


class PtsDoor(Guard):
    """Door of several controllers, see the module."""

    def __init__(self, *, clock: Clock) -> None:
        self._known: dict[str, DialIn] = {}
        self._complaints = LogBySource(log, "pump controllers")
        self._clock = clock

    def admit(self, known: DialIn) -> None:
        """Let a controller in from now on."""
        self._known[known.controller.config.pts_id.upper()] = known

    def routes(
        self, upload_paths: Iterable[str] = (codec.PATH,), websocket_path: str = codec.WEBSOCKET_PATH
    ) -> tuple[Route | SocketRoute, ...]:
        """Routes for the server; a controller can be set to another path for each kind of upload."""
        uploads = tuple(Route(path=path, handler=self._upload, guard=_Uploads(self._known)) for path in upload_paths)
        return (*uploads, SocketRoute(path=websocket_path, handler=self._serve, guard=_Sockets(self._known)))

    # --- uploads --------------------------------------------------------------------------------------------------

    async def _upload(self, arrival: Arrival) -> Reply:
        known = _known(self._known, arrival)
        try:
            message = codec.decode(arrival.body)
            _check_sender(message, known)
        except RemoteProtocolError as error:
            self._complain(arrival, str(error))
            refused = Failure(0, None, INVALID_REQUEST, "INVALID_JSON_REQUEST")
            return _reply(known, Message((), refused=refused))
        return _reply(known, await known.controller.pushed(message))

    # --- WebSockets -----------------------------------------------------------------------------------------------

    async def _serve(self, arrival: Arrival, peer: Peer) -> None:
        known = _known(self._known, arrival)
        dialled = _Dialled(peer, known.controller.config.device)
        known.controller.dialled_in(dialled.exchange)
        try:
            async for body in peer.messages():
                try:
                    message = codec.decode(body)
                    _check_sender(message, known)
                except RemoteProtocolError as error:
                    self._complain(arrival, str(error))
                    continue
                pushes = dialled.answered(message)
                if pushes is not None:
                    await peer.send(codec.encode(await known.controller.pushed(pushes)))
        except LinkLost:
            return  # it left while it was answered, and sends that again
        finally:
            known.controller.hung_up(dialled.exchange)
            dialled.end()

    def _complain(self, arrival: Arrival, text: str) -> None:
        self._complaints.say(self._clock.monotonic(), arrival.source, text)


class _Dialled:
    """Requests and answers on one WebSocket."""

    def __init__(self, peer: Peer, device: str) -> None:
        self._peer = peer
        self._device = device
        self._waiting: tuple[frozenset[int], asyncio.Future[Message]] | None = None
        self.exchange = self._exchange
        """One object for the life of the connection, by which it is known."""

    async def _exchange(self, body: bytes, ids: frozenset[int], timeout_s: float) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting = (ids, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self._peer.send(body)
                return await answer
        except TimeoutError as error:
            raise DeviceTimeout(f"no answer within {timeout_s:.1f} s", device=self._device) from error
        finally:
            self._waiting = None

    def answered(self, message: Message) -> Message | None:
        """Hand over a message that answers the question under way; give back one with pushes, None for neither.

        An answer that comes late, when nobody waits, is passed over: its command was told to be unknown.
        """
        if any(_is_push(packet) for packet in message.packets):
            return message
        if self._waiting is not None:
            ids, answer = self._waiting
            if (message.refused is not None or ids & {packet.id for packet in message.packets}) and not answer.done():
                answer.set_result(message)
        return None

    def end(self) -> None:
        """Tell who waits that no answer will come."""
        if self._waiting is not None and not self._waiting[1].done():
            self._waiting[1].set_exception(LinkLost("the controller hung up", device=self._device))


def _is_push(packet: codec.Packet) -> bool:
    match packet:
        case codec.Content(_, data):
            return isinstance(data, Push)
        case Undeclared(_, kind) | codec.Unreadable(_, kind, _):
            return kind.startswith(("Upload", "Request"))
        case _:
            return False


# --- who may come in ------------------------------------------------------------------------------------------------


def _known(controllers: Mapping[str, DialIn], arrival: Arrival) -> DialIn:
    return controllers[arrival.headers.get(codec.ID_HEADER.lower(), "").upper()]


def _check_sender(message: Message, known: DialIn) -> None:
    """Refuse a body that names another controller than its header."""
    if message.pts_id is not None and message.pts_id.upper() != known.controller.config.pts_id.upper():
        raise RemoteProtocolError(f"{message.pts_id} in a message of another controller", field="PtsId")


def _reply(known: DialIn, message: Message) -> Reply:
    """Reply, signed where a key is set."""
    body = codec.encode(message)
    signed = {} if known.secret is None else {SIGNATURE_HEADER: sign(body, known.secret)}
    return Reply(200, body, codec.CONTENT_TYPE, signed)


class _Sockets(Guard):
    """Guard that lets known controllers in, from where they may come."""

    def __init__(self, controllers: Mapping[str, DialIn]) -> None:
        self._controllers = controllers

    def refusal(self, arrival: Arrival) -> Reply | None:
        """403 for a stranger."""
        try:
            known = _known(self._controllers, arrival)
        except KeyError:
            return Reply(403)
        return Reply(403) if known.sources and arrival.source not in known.sources else None


class _Uploads(_Sockets):
    """Guard that wants login and signature, too, where they are set."""

    def refusal(self, arrival: Arrival) -> Reply | None:
        """403 for a stranger or a body that is not signed, 401 for a login that is not right."""
        refused = super().refusal(arrival)
        if refused is not None:
            return refused
        known = _known(self._controllers, arrival)
        if known.login is not None and not is_basic(arrival.headers.get("authorization", ""), known.login):
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="pump controllers"'})
        if known.secret is None or is_signed(
            arrival.body, arrival.headers.get(SIGNATURE_HEADER.lower(), ""), known.secret
        ):
            return None
        return None if _need_not_be_signed(arrival.body) else Reply(403)


def _need_not_be_signed(body: bytes) -> bool:
    try:
        packets = codec.decode(body).packets
    except RemoteProtocolError:
        return False
    return bool(packets) and all(isinstance(packet, Undeclared) and packet.type == NEVER_SIGNED for packet in packets)
