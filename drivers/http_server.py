"""The one HTTP server of the gateway, inside its event loop; the one module that knows uvicorn.

Theory of operation. Whoever needs a path gives a route (`drivers.http_routes`) before `run`; an API gives a router of
FastAPI. `run` owns listener and connections until it is cancelled; then streams are told to end, connections get a
moment, and what is left is cut.

A guard sees each request whole, headers and body, before the handler does. What it refuses, and what is slow, too
large, no HTTP or too much at once, gets a status, and a line in the log for each source and minute.

uvicorn bounds neither the time nor the bytes of a request's head, nor how long a peer may leave answers unread, nor how
many requests lie waiting in one read. So connections keep count themselves (`_Counted`), and `_watch` ends those that
are overdue, by the clock it is given. Nothing of a peer grows without a bound of `HttpLimits`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request as HandshakeRequest

from drivers.clock import Clock
from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome
from drivers.http_routes import Arrival, Reply, Route, SocketRoute
from drivers.restraint import Budget, LogBySource

log = logging.getLogger(__name__)

BACKLOG: Final = 64
"""Connections that the system holds before they are accepted."""

CHUNK_OVERHEAD: Final = 8
"""Bytes on the wire for one of a body, at most: a chunk of one byte takes six."""

FRAGMENTS_MAX: Final = 256
"""Fragments of one WebSocket message: empty ones cost the peer nothing and us memory."""

READ_BYTES_MAX: Final = 16 * 1024
SOCKET_READ_BYTES_MAX: Final = 2 * 1024
"""Bytes taken per read: a peer that sends the smallest chunks, or frames of six bytes, then holds the loop for some
milliseconds. In asyncio's quarter of a megabyte are forty thousand of them, which is a second."""

LOOK_EVERY_S: Final = 0.5
"""Time between looks at all connections; an overdue one lives that much longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds on what peers may do."""

    connections_max: int = 128
    connections_of_source_max: int = 32
    """Below all of them, so that one source does not shut out the others."""
    head_bytes_max: int = 16 * 1024
    head_s: float = 5.0
    """Time for request line and headers, from the connection or its first byte."""
    body_bytes_max: int = 256 * 1024
    """Largest body and largest WebSocket message, where a route does not say otherwise."""
    body_s: float = 10.0
    """Time for the body: the largest takes two seconds over a modem line of a megabit."""
    frames_burst: int = 512
    frames_per_s: float = 100.0
    """Frames of a WebSocket at once and in the long run, pings among them: a controller that tells of every pump each
    second sends two."""
    unread_s: float = 10.0
    """Time that a peer may leave our bytes unread."""
    answer_s: float = 10.0
    """Time that a handler may take."""
    closing_s: float = 2.0
    """Time for a closed connection to end by itself."""
    stop_s: int = 3
    """Time for answers under way when the server stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Server's name in the log, address, certificate and limits."""

    device: str = "http"
    host: str = "127.0.0.1"
    """Loopback, until somebody configures another address."""
    port: int = 0
    """0: the system chooses one."""
    certificate: Path | None = None
    """Certificate with its chain, as PEM; None: without TLS."""
    key: Path | None = None
    """Key of the certificate; None: it stands in the same file."""
    limits: HttpLimits = field(default_factory=HttpLimits)


class ServerSocket:
    """`drivers.http_routes.Peer` that opened a WebSocket."""

    def __init__(self, socket: WebSocket, device: str) -> None:
        self._socket = socket
        self._device = device

    async def messages(self) -> AsyncIterator[bytes]:
        """Messages, until the peer leaves or the server stops."""
        while True:
            try:
                message = await self._socket.receive()
            except WebSocketDisconnect:
                return
            if message["type"] != "websocket.receive":
                return
            await asyncio.sleep(0)  # others get their turn: thousands of messages may wait already
            text = message.get("text")
            yield text.encode() if text is not None else message["bytes"]

    async def send(self, message: bytes) -> None:
        """Send a message of UTF-8 as text. Raises LinkLost."""
        try:
            await self._socket.send_text(message.decode())
        except (WebSocketDisconnect, RuntimeError) as error:  # RuntimeError: closed by us already
            raise LinkLost("WebSocket is closed", device=self._device, outcome=RequestOutcome.NOT_SENT) from error

    async def close(self) -> None:
        """Close the WebSocket. May be called twice."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close()


class HttpServer:
    """HTTP server, see the module."""

    def __init__(
        self,
        config: HttpConfig,
        *,
        clock: Clock,
        on_condition: Callable[[bool, str], None] = lambda _up, _cause: None,
        before_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_stop` tells open streams to end; it is called first when the server stops."""
        self._config = config
        self._clock = clock
        self._on_condition = on_condition
        self._before_stop = before_stop
        self._app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self._body_bytes_max: dict[str, int] = {}
        self._refusals = LogBySource(log, config.device)
        self.port: int | None = None
        """Port in use while it listens."""

    # --- what it serves -------------------------------------------------------------------------------------------

    def add(self, *routes: Route | SocketRoute) -> None:
        """Serve these paths from the next `run` on."""
        for route in routes:
            if isinstance(route, SocketRoute):
                self._app.router.add_websocket_route(route.path, self._socket_endpoint(route))
                continue
            self._app.router.add_route(route.path, self._endpoint(route), methods=["POST"])
            if route.body_bytes_max is not None:
                self._body_bytes_max[route.path] = route.body_bytes_max

    def include(self, router: APIRouter) -> None:
        """Serve the paths of a router from the next `run` on."""
        self._app.include_router(router)

    @property
    def refused(self) -> int:
        """Requests and connections refused since start."""
        return self._refusals.count

    def _endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            arrival = _arrival(request.scope, await request.body())
            reply = route.guard.refusal(arrival)
            if reply is None:
                try:
                    async with asyncio.timeout(self._config.limits.answer_s):
                        reply = await route.handler(arrival)
                except TimeoutError:
                    reply = Reply(503, b"no answer in time", "text/plain")
            return Response(reply.body, reply.status, dict(reply.headers), reply.content_type)

        return endpoint

    def _socket_endpoint(self, route: SocketRoute) -> Callable[[WebSocket], Awaitable[None]]:
        async def endpoint(socket: WebSocket) -> None:
            arrival = _arrival(socket.scope, b"")
            refusal = route.guard.refusal(arrival)
            if refusal is not None:
                await socket.send_denial_response(Response(refusal.body, refusal.status, dict(refusal.headers)))
                return
            await socket.accept()
            await route.handler(arrival, ServerSocket(socket, self._config.device))

        return endpoint

    # --- running --------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Serve until cancelled. Raises DeviceUnavailable when address or certificate cannot be used."""
        config = self._uvicorn_config(self._tls())
        listener = self._listen()
        self.port = listener.getsockname()[1]
        server = _quiet_server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name=f"{self._config.device} server")
        try:
            self._on_condition(True, f"listening on {self._config.host}:{self.port}")
            await self._watch(server, serving)
            raise DeviceUnavailable("the server ended by itself", device=self._config.device)
        finally:
            self.port = None
            self._on_condition(False, "stopped")
            await self._stop(server, serving)
            listener.close()

    def _listen(self) -> socket.socket:
        host, port = self._config.host, self._config.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise DeviceUnavailable(
                f"cannot listen on {host}:{port}: {error}", device=self._config.device, hint="is the port taken?"
            ) from error
        listener.setblocking(False)
        return listener

    def _tls(self) -> ssl.SSLContext | None:
        certificate = self._config.certificate
        if certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(certificate, self._config.key)
        except OSError as error:  # ssl.SSLError is one
            raise DeviceUnavailable(
                f"cannot use certificate {certificate}: {error}",
                device=self._config.device,
                hint="do certificate and key belong together?",
            ) from error
        return context

    def _uvicorn_config(self, tls: ssl.SSLContext | None) -> uvicorn.Config:
        body_bytes_max = max(self._config.limits.body_bytes_max, *self._body_bytes_max.values(), 0)
        door = _Door(self._config.limits, body_bytes_max, self._clock, self._refuse)
        return uvicorn.Config(
            _Front(self._app, self._config.limits.body_bytes_max, self._body_bytes_max, self._refuse),
            http=type("HttpConnection", (_HttpConnection,), {"door": door}),
            ws=type("SocketConnection", (_SocketConnection,), {"door": door}),
            ws_max_size=self._config.limits.body_bytes_max,
            ws_per_message_deflate=False,  # a bomb of a kilobyte would be a megabyte
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a source is what the socket says
            timeout_graceful_shutdown=self._config.limits.stop_s,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )

    def _refuse(self, source: str, problem: str) -> None:
        self._refusals.say(self._clock.monotonic(), source, f"refused, {problem}")

    async def _watch(self, server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
        """End overdue connections until the server ends."""
        while not serving.done():
            await self._clock.sleep(LOOK_EVERY_S)
            now = self._clock.monotonic()
            for connection in _connections(server):
                connection.look(now)

    async def _stop(self, server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
        self._before_stop()
        server.should_exit = True
        await asyncio.wait({serving}, timeout=self._config.limits.stop_s + 2.0)
        serving.cancel()
        handlers = set(server.server_state.tasks)
        for task in handlers:
            task.cancel()
        for connection in _connections(server):
            connection.transport.abort()
        results = await asyncio.gather(serving, *handlers, return_exceptions=True)
        if isinstance(results[0], Exception):
            log.error("%s: the server failed", self._config.device, exc_info=results[0])


def _quiet_server(config: uvicorn.Config) -> uvicorn.Server:
    """Server that leaves signals to the gateway and lines about peers to us; faults of handlers it still logs."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server


def _connections(server: uvicorn.Server) -> list[_Counted]:
    return [known for known in server.server_state.connections if isinstance(known, _Counted)]


def _arrival(scope: Scope, body: bytes) -> Arrival:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Arrival(_source(scope), scope["path"], headers, body)


def _source(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


# --- requests and answers -------------------------------------------------------------------------------------------


class _Front:
    """Application around the application: bounds bodies, and tells of every answer that is a refusal."""

    def __init__(
        self, app: ASGIApp, body_bytes_max: int, by_path: Mapping[str, int], refuse: Callable[[str, str], None]
    ) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._by_path = by_path
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, receive, send, self._most(scope), self._refuse)
        if exchange.announces_too_much():
            await exchange.too_large()
            return
        # A peer that leaves in the middle is nobody's fault.
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, exchange.receive, exchange.send)

    def _most(self, scope: Scope) -> int:
        return self._by_path.get(scope["path"], self._body_bytes_max)


class _Exchange:
    """One request and its answer, or one WebSocket."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, most: int, refuse: Callable[[str, str], None]
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._left = most
        self._refuse = refuse
        self._over = False
        self._accepted = False

    def announces_too_much(self) -> bool:
        """True when the head says that the body is larger than may be."""
        lengths = [value for name, value in self._scope["headers"] if name == b"content-length"]
        return self._scope["type"] == "http" and bool(lengths) and int(lengths[0]) > self._left

    async def too_large(self) -> None:
        """Answer 413 in place of the application."""
        await self.send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await self.send({"type": "http.response.body"})
        self._over = True

    async def receive(self) -> Message:
        """Event for the application; a body that grows too large ends for it as if the peer had left."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0 and not self._over:
                await self.too_large()
        # Nobody hears what the application says from here on.
        self._over = self._over or message["type"] == "http.disconnect"
        return {"type": "http.disconnect"} if self._over else message

    async def send(self, message: Message) -> None:
        """Event of the application, which is dropped once we have answered ourselves."""
        if self._over:
            return
        status = self._refusal(message)
        if status:
            self._refuse(_source(self._scope), f"{status} for {self._scope['path'][:80]!r}")
        await self._send(message)

    def _refusal(self, message: Message) -> int:
        """Status of an answer that refuses, or 0. A WebSocket closed before it was accepted is answered 403."""
        if message["type"] == "websocket.accept":
            self._accepted = True
        if message["type"] == "websocket.close":
            return 0 if self._accepted else 403
        status = int(message.get("status", 0))
        return status if status >= 400 else 0


# --- connections ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Door:
    """Bounds and clock of the connections of one server."""

    limits: HttpLimits
    body_bytes_max: int
    """Largest body of any route."""
    clock: Clock
    refuse: Callable[[str, str], None]

    def problem_with(self, source: str, connections: Iterable[Any]) -> str | None:
        """Reason to take no further connection of `source`; it stands among `connections` already."""
        others = [known for known in connections if not known.transport.is_closing()]
        if len(others) > self.limits.connections_max:
            return f"more than {self.limits.connections_max} connections"
        if sum(known.source == source for known in others) > self.limits.connections_of_source_max:
            return f"more than {self.limits.connections_of_source_max} connections of one source"
        return None


class _Stage(Enum):
    """Stage of a connection, each with its time and bytes."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"


class _Counted:
    """Connection that keeps count of time and bytes."""

    door: ClassVar[_Door]
    transport: asyncio.Transport
    client: tuple[str, int] | None
    unread = 0
    """Bytes of ours that the peer had not read when we looked last."""
    moved_at: float | None = None
    """Time at which there were fewer of them than before (monotonic seconds)."""
    turned_away = False
    """True once it was told to go: what it still sends is passed over, so that it can read why."""
    closing_since: float | None = None

    @property
    def source(self) -> str:
        """Address of the peer."""
        return self.client[0] if self.client else "unknown"

    def look(self, now: float) -> None:
        """End the connection if it is overdue."""
        limits = self.door.limits
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread < self.unread or self.moved_at is None:
            self.moved_at = now
        self.unread = unread
        if now - self.moved_at >= limits.unread_s:
            self.door.refuse(self.source, f"answer left unread for {limits.unread_s:.0f} s")
            self.transport.abort()
        elif unread == 0 and (self.turned_away or self.transport.is_closing()):
            self.closing_since = now if self.closing_since is None else self.closing_since
            if now - self.closing_since >= limits.closing_s:
                self.transport.abort()


class _HttpConnection(_Counted, HttpToolsProtocol):
    """HTTP connection whose head and body are bounded."""

    stage = _Stage.HEAD
    since = 0.0
    raw_bytes = 0
    """Bytes that came in this stage."""
    head_bytes = 0
    """Bytes of headers of this request, of those behind the body too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = READ_BYTES_MAX  # type: ignore[attr-defined]
        self._enter(_Stage.HEAD)
        problem = self.door.problem_with(self.source, self.connections)
        if problem is not None:
            self._turn_away(503, problem)
            self.transport.close()  # at once: it is one too many

    def data_received(self, data: bytes) -> None:
        if self.turned_away:
            return
        if self.stage is _Stage.IDLE:
            self._enter(_Stage.HEAD)
        self.raw_bytes += len(data)
        super().data_received(data)
        limits = self.door.limits
        if self.turned_away:
            return
        if self.stage is _Stage.HEAD and self.raw_bytes > limits.head_bytes_max:
            self._turn_away(431, f"head above {limits.head_bytes_max} bytes")
        elif self.stage is _Stage.BODY and self.raw_bytes > CHUNK_OVERHEAD * self.door.body_bytes_max:
            self._turn_away(413, "chunks above all measure")

    def on_message_begin(self) -> None:
        if self._answering():
            # Nobody needs it, and one read may bring ten thousand requests.
            raise ValueError("a request before the answer to the last")
        super().on_message_begin()
        self.head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > self.door.limits.head_bytes_max:
            raise ValueError("head too large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._enter(_Stage.BODY)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # An answer may come before the body is whole.
        self._enter(_Stage.ANSWER if self._answering() else _Stage.IDLE)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.stage is not _Stage.BODY:  # the rest of a body is passed over, within its bounds
            self._enter(_Stage.IDLE)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser or one of our bounds did not take."""
        self._turn_away(400, "no HTTP request that is served here")

    def look(self, now: float) -> None:
        super().look(now)
        limits = self.door.limits
        most = {_Stage.HEAD: limits.head_s, _Stage.BODY: limits.body_s}.get(self.stage)
        if most is not None and now - self.since >= most and not self.turned_away:
            self._turn_away(408, f"{self.stage.value} not whole after {most:.0f} s")

    def _answering(self) -> bool:
        """True while a request is not answered."""
        cycle = self._current()
        return cycle is not None and not cycle.response_complete

    def _current(self) -> RequestResponseCycle | None:
        return self.cycle  # None until the first request, whatever its type says

    def _enter(self, stage: _Stage) -> None:
        self.stage, self.since, self.raw_bytes = stage, self.door.clock.monotonic(), 0

    def _turn_away(self, status: int, problem: str) -> None:
        """Answer with a status where none is out yet, end our side, and leave the peer a moment to read it."""
        if self.turned_away or self.transport.is_closing():
            return
        self.door.refuse(self.source, f"{status}, {problem}")
        cycle = self._current()
        if cycle is None or not cycle.response_started:
            head = f"HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode())
        self.turned_away = True
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


class _SocketConnection(_Counted, WebSocketsSansIOProtocol):
    """WebSocket whose frames, fragments and unread answers are bounded."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.max_size = SOCKET_READ_BYTES_MAX  # type: ignore[attr-defined]
        self.budget = Budget(self.door.limits.frames_burst, self.door.limits.frames_per_s)

    def handle_events(self) -> None:
        now = self.door.clock.monotonic()
        if self.transport.is_closing():
            return
        if not all(self.budget.spend(now) for _ in self.conn.events):
            self.door.refuse(self.source, f"more than {self.door.limits.frames_per_s:.0f} frames a second")
            self.transport.abort()
            return
        super().handle_events()

    def pause_writing(self) -> None:
        """Read nothing either while the peer does not read: every ping would be answered into memory."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as declared by the library
        await super().send(message)
        # A refusal in place of a handshake ends it, too: the library would complain that there was none.
        self.handshake_complete = self.handshake_complete or (self.initial_response is not None and self.close_sent)

    def handle_connect(self, event: HandshakeRequest) -> None:
        super().handle_connect(event)
        if self.response.status_code != 101:
            self.door.refuse(self.source, f"{self.response.status_code}, no handshake of a WebSocket")

    def handle_parser_exception(self) -> None:
        self.door.refuse(self.source, "frames that break the rules or bounds of a WebSocket")
        super().handle_parser_exception()

    def handle_cont(self, event: Frame) -> None:
        if self.transport.is_closing():
            return
        if len(self.frames) >= FRAGMENTS_MAX:
            self.door.refuse(self.source, f"message in more than {FRAGMENTS_MAX} fragments")
            self.transport.abort()
            return
        super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.door.refuse(self.source, "text that is no UTF-8")
            self.transport.abort()
            return
        super().send_receive_event_to_app()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
