"""Emulated PTS-2 pump controller: real HTTP and WebSocket, several pumps, and faults on command.

It is a server at `/jsonPTS` (Digest or Basic login), and where it is told a server it dials out: by WebSocket, on which
it is asked and uploads, or by HTTP, uploads alone. An upload is sent again, under a new id, until it hears OK; with a
secret key uploads are signed, and a reply that is not signed counts for nothing.

Commands on the control socket: what people do at the pumps (`lift`, `flow`, `hang_up`, `by_hand`), what goes wrong
(`power`, `jump`, `mute`, `lose`, `late`, `refuse`, `cut`, `alert`), what there is to see (`state`, `book`, `requests`,
`wait`). `mute` carries requests out and says nothing. Nothing in its bytes says that it is no controller.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import secrets
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import httpx2
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from hardware.emulators.control import (
    WAIT_MS_DEFAULT,
    Command,
    ControlServer,
    Handler,
    parse_address,
    utcnow_of_machine,
)
from hardware.emulators.program import argument, run, say_ready
from hardware.emulators.pts_box import PtsBox, Refusal
from hardware.emulators.pts_pump import RATE_ML_S, Meter, Pump
from protocols.errors import RemoteProtocolError
from protocols.http_login import Login, basic_header, digest_answer, digest_challenge, is_basic
from protocols.pump.jsonpts import codec
from protocols.pump.jsonpts.codec import Confirmation, Content, Failure, Message
from protocols.pump.jsonpts.messages import AlertState, Push
from protocols.pump.jsonpts.signature import HEADER as SIGNATURE_HEADER
from protocols.pump.jsonpts.signature import is_signed, sign

PTS_ID = "003A003A3435510938393730"
REALM = "PTS-2"
RETRY_S = 1.0
"""Time between attempts to upload or to dial; a real controller has its own, which the documents do not tell."""
ANSWER_TIMEOUT_S = 2.0
UPLOAD_ID_MAX = 65_535
BEIJING = timedelta(hours=8)

Dial = Literal["none", "websocket", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One controller."""

    listen: tuple[str, int]
    control: tuple[str, int]
    pts_id: str = PTS_ID
    pumps: int = 4
    nozzles: int = 2
    price_milli: int = 7850
    rate_ml_s: float = RATE_ML_S
    login: Login = field(default_factory=lambda: Login("admin", "admin"))
    basic: bool = False
    """DIP switch 2: Basic in place of Digest."""
    server: str = ""
    """`http://host:port` of the gateway."""
    dial: Dial = "none"
    secret: str = ""
    status_every_s: float = 0.0
    """Period of UploadStatus; 0: none."""


class PtsController:
    """Controller with its network."""

    def __init__(self, config: Config) -> None:
        self._config = config
        pumps = [
            Pump(number, [Meter(config.price_milli) for _ in range(config.nozzles)], config.rate_ml_s)
            for number in range(1, config.pumps + 1)
        ]
        self.box = PtsBox(config.pts_id, pumps, now=lambda: asyncio.get_running_loop().time(), at=_local_time)
        self._to_upload = asyncio.Event()
        self.box.on_upload = self._to_upload.set
        self._upload_ids = itertools.cycle(range(1, UPLOAD_ID_MAX + 1))
        self._nonce = secrets.token_hex(16)
        self._mute = False
        self.to_lose: set[str] = set()
        """Types of requests that are carried out and not answered."""
        self._late_s = 0.0
        self._socket: ClientConnection | None = None
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._control = ControlServer(self._handlers())
        self._tasks: list[asyncio.Task[None]] = []
        self._server: uvicorn.Server | None = None
        self.uploaded = 0
        """Uploads that were confirmed."""

    async def start(self) -> tuple[int, int]:
        """Listen and dial; the ports of server and control."""
        host, port = self._config.listen
        listener = socket.create_server((host, port))
        listener.setblocking(False)
        control_port = await self._control.start(*self._config.control)
        self._server = _server(self._serve)
        works = [self._server.serve(sockets=[listener])]
        if self._config.dial == "websocket":
            works += [self._keep_dialling(), self._keep_uploading()]
        elif self._config.dial == "http":
            works.append(self._keep_uploading())
        self._tasks = [asyncio.create_task(work) for work in works]
        return int(listener.getsockname()[1]), control_port

    async def close(self) -> None:
        """Let go of everything."""
        await self._control.close()
        if self._server is not None:
            self._server.should_exit = True
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- it is asked ----------------------------------------------------------------------------------------------

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False) and len(body) <= codec.REQUEST_BYTES_MAX
        headers = {name.decode(): value.decode("latin-1") for name, value in scope.get("headers", [])}
        status, answer, more_headers = await self._answered(scope, headers, body)
        if answer is None:
            await asyncio.Event().wait()  # until the peer or the server ends it
            return
        plain = [(b"content-type", codec.CONTENT_TYPE.encode()), (b"content-length", str(len(answer)).encode())]
        plain += [(b"connection", b"close"), *more_headers]
        await send({"type": "http.response.start", "status": status, "headers": plain})
        await send({"type": "http.response.body", "body": answer})

    async def _answered(
        self, scope: dict[str, Any], headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes | None, list[tuple[bytes, bytes]]]:
        if scope["path"] != codec.PATH or scope["method"] != "POST":
            return 404, b"", []
        challenge = self._challenge(scope, headers.get("authorization", ""))
        if challenge is not None:
            return 401, b"", [(b"www-authenticate", challenge.encode())]
        if len(body) > codec.REQUEST_BYTES_MAX:
            refused = Failure(0, None, 5, "JSON_REQUEST_IS_TOO_LONG")
            return 200, codec.encode(Message((), refused=refused)), []
        return 200, await self._answer(body, pts_id=None), []

    def _challenge(self, scope: dict[str, Any], given: str) -> str | None:
        """Challenge to a request whose login is not right; None: it is."""
        if self._config.basic:
            return None if is_basic(given, self._config.login) else f'Basic realm="{REALM}"'
        answer = digest_answer(given)
        if answer is None or not answer.proves(self._config.login, scope["method"]) or answer.uri != scope["path"]:
            return digest_challenge(REALM, self._nonce)
        return None if answer.nonce == self._nonce else digest_challenge(REALM, self._nonce, stale=True)

    async def _answer(self, body: bytes, pts_id: str | None) -> bytes | None:
        """Answer to a body, late where that is wanted; None when it is mute."""
        lost = False
        try:
            asked = codec.decode(body)
        except RemoteProtocolError:
            answer = Message((), pts_id, Failure(0, None, 2, "INVALID_JSON_REQUEST"))
        else:
            types = (packet.data.type_on_wire for packet in asked.packets if isinstance(packet, Content))
            lost = not self.to_lose.isdisjoint(types)
            answer = Message(self.box.answer(asked, self._config.login.user).packets, pts_id)
        if self._mute or lost:
            return None
        await asyncio.sleep(self._late_s)
        return codec.encode(answer)

    # --- it dials -------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        return {
            codec.ID_HEADER: self._config.pts_id,
            "X-Pts-Firmware-Version-DateTime": "2024-11-12T08:05:41",
            "X-Pts-Configuration-Identifier": "1234abcd",
        }

    async def _keep_dialling(self) -> None:
        where = self._config.server.replace("http", "ws", 1) + codec.WEBSOCKET_PATH
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                async with connect(
                    where, additional_headers=self._headers(), compression=None, open_timeout=ANSWER_TIMEOUT_S
                ) as peer:
                    self._socket = peer
                    await self._serve_socket(peer)
            self._socket = None
            await asyncio.sleep(RETRY_S)

    async def _serve_socket(self, peer: ClientConnection) -> None:
        async for body in peer:
            raw = body.encode() if isinstance(body, str) else body
            if self._confirmed(raw):
                continue
            answer = await self._answer(raw, pts_id=self._config.pts_id)
            if answer is not None:
                await peer.send(answer.decode())

    def _confirmed(self, raw: bytes) -> bool:
        """True when the body answers an upload."""
        try:
            packets = codec.decode(raw).packets
        except RemoteProtocolError:
            return False
        for packet in packets:
            waiting = self._waiting.get(packet.id)
            if isinstance(packet, Confirmation | Failure) and waiting is not None and not waiting.done():
                waiting.set_result(isinstance(packet, Confirmation))
                return True
        return False

    async def _keep_uploading(self) -> None:
        while True:
            every_s = self._config.status_every_s or None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await self._to_upload.wait()
            if not self.box.uploads:
                self._to_upload.clear()
                if every_s is not None:
                    await self._upload(self.box.status())
            elif await self._upload(self.box.uploads[0]):
                self.box.uploads.popleft()
                self.uploaded += 1
            else:
                await asyncio.sleep(RETRY_S)

    async def _upload(self, push: Push) -> bool:
        """True when the server confirmed it."""
        number = next(self._upload_ids)
        body = codec.encode(Message((Content(number, push),), self._config.pts_id))
        if self._mute:
            return False
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                if self._config.dial == "websocket":
                    return await self._upload_on_socket(number, body)
                return await self._upload_by_http(number, body)
        except (OSError, TimeoutError, httpx2.HTTPError, WebSocketException):
            return False

    async def _upload_on_socket(self, number: int, body: bytes) -> bool:
        if self._socket is None:
            return False
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        try:
            await self._socket.send(body.decode())
            return await waiting
        finally:
            del self._waiting[number]

    async def _upload_by_http(self, number: int, body: bytes) -> bool:
        secret = self._config.secret
        headers = self._headers() | {"Content-Type": codec.CONTENT_TYPE, "Connection": "close"}
        headers["Authorization"] = basic_header(self._config.login)
        if secret:
            headers[SIGNATURE_HEADER] = sign(body, secret)
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            reply = await client.post(self._config.server + codec.PATH, content=body, headers=headers)
        if reply.status_code not in (200, 201):
            return False
        if secret and not is_signed(reply.content, reply.headers.get(SIGNATURE_HEADER, ""), secret):
            return False
        try:
            packets = codec.decode(reply.content).packets
        except RemoteProtocolError:
            return False
        return any(isinstance(packet, Confirmation) and packet.id == number for packet in packets)

    # --- control commands -----------------------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Handler]:
        return {
            "lift": self._lift,
            "flow": self._set_flow,
            "hang_up": self._hang_up,
            "by_hand": self._by_hand,
            "power": self._power,
            "jump": self._jump,
            "mute": self._set_mute,
            "lose": self._lose,
            "late": self._set_late,
            "refuse": self._refuse,
            "cut": self._cut,
            "new_nonce": self._new_nonce,
            "alert": self._alert,
            "state": self._state,
            "book": self._book,
            "requests": self._requests,
            "wait": self._wait,
        }

    async def _lift(self, command: Command) -> Command:
        """`{"pump", "nozzle"}`: somebody takes a nozzle."""
        self.box.lift(self._pump(command).number, int(command.get("nozzle", 1)))
        return {}

    async def _set_flow(self, command: Command) -> Command:
        """`{"pump", "ml_per_s"}`: the lever, pressed or let go (0)."""
        self.box.set_flow(self._pump(command).number, float(command["ml_per_s"]))
        return {}

    async def _hang_up(self, command: Command) -> Command:
        """`{"pump"}`: the nozzle is put back."""
        self.box.hang_up(self._pump(command).number)
        return {}

    async def _by_hand(self, command: Command) -> Command:
        """`{"pump", "nozzle", "volume_ml"}`: a sale at the pump itself, by no order."""
        self.box.sell_by_hand(self._pump(command).number, int(command.get("nozzle", 1)), int(command["volume_ml"]))
        return {}

    async def _power(self, command: Command) -> Command:
        """`{"pump", "on"}`: mains of a pump."""
        self.box.power(self._pump(command).number, command["on"] is True)
        return {}

    async def _jump(self, command: Command) -> Command:
        """`{"pump", "nozzle", "volume_ml"}`: a totaliser counts what nobody bought."""
        meter = self._pump(command).meters[int(command.get("nozzle", 1)) - 1]
        meter.total_ml += int(command["volume_ml"])
        return {"total_ml": meter.total_ml}

    async def _set_mute(self, command: Command) -> Command:
        """`{"on"}`: requests are carried out and not answered, nothing is uploaded."""
        self._mute = command["on"] is True
        return {}

    async def _lose(self, command: Command) -> Command:
        """`{"types"}`: requests of these types, and no others, are carried out and not answered."""
        self.to_lose = set(map(str, command["types"]))
        return {}

    async def _set_late(self, command: Command) -> Command:
        """`{"ms"}`: time by which each answer is late."""
        self._late_s = int(command["ms"]) / 1000
        return {}

    async def _refuse(self, command: Command) -> Command:
        """`{"type", "code", "count"}`: the next requests of a type are refused."""
        self.box.refusals[str(command["type"])] = Refusal(int(command["code"]), int(command.get("count", 1)))
        return {}

    async def _cut(self, _command: Command) -> Command:
        """`{}`: the WebSocket breaks, without a word."""
        if self._socket is not None:
            self._socket.transport.abort()
        return {}

    async def _new_nonce(self, _command: Command) -> Command:
        """`{}`: what clients know of Digest is old."""
        self._nonce = secrets.token_hex(16)
        return {}

    async def _alert(self, command: Command) -> Command:
        """`{"device", "number", "code"}`: an alert."""
        number, code = int(command.get("number", 0)), int(command["code"])
        self.box.alert(str(command["device"]), number, code, AlertState.DETECTED)
        return {}

    async def _requests(self, _command: Command) -> Command:
        """`{}`: types of the requests that came, without polls."""
        return {"requests": list(self.box.requests)}

    async def _book(self, _command: Command) -> Command:
        """`{}`: the sales that are closed."""
        return {
            "sales": [
                {
                    "pump": number,
                    "nozzle": sale.nozzle,
                    "transaction": sale.transaction,
                    "volume_ml": sale.volume_ml,
                    "amount_minor": sale.amount_minor,
                    "by_hand": sale.by_hand,
                }
                for number, sale in self.box.finished
            ]
        }

    async def _state(self, _command: Command) -> Command:
        """`{}`: the pumps and their uploads."""
        self.box.flow()
        return {
            "pumps": {str(pump.number): _shown(pump) for pump in self.box.pumps.values()},
            "uploads_waiting": len(self.box.uploads),
            "uploaded": self.uploaded,
            "dialled": self._socket is not None,
        }

    async def _wait(self, command: Command) -> Command:
        """`{"pump", "state"}`, `{"volume_ml"}` with it, or `{"uploaded"}`: until it is so."""
        async with asyncio.timeout(int(command.get("timeout_ms", WAIT_MS_DEFAULT)) / 1000):
            while not self._is_so(command):  # noqa: ASYNC110 - fuel flows when it is looked at
                await asyncio.sleep(LOOK_EVERY_S)
        return await self._state({})

    def _is_so(self, command: Command) -> bool:
        if "uploaded" in command:
            return self.uploaded >= int(command["uploaded"])
        self.box.flow()
        shown = _shown(self._pump(command))
        enough = int(shown["volume_ml"]) >= int(command.get("volume_ml", 0))
        return enough and shown["state"] == command["state"]

    def _pump(self, command: Command) -> Pump:
        pump = self.box.pumps.get(int(command["pump"]))
        if pump is None:
            raise ValueError(f"pump {command['pump']} is not one of {', '.join(map(str, self.box.pumps))}")
        return pump


LOOK_EVERY_S = 0.02
"""Time between looks of a command that waits."""


def _shown(pump: Pump) -> dict[str, Any]:
    sale = pump.sale
    return {
        "online": pump.online,
        "nozzle_up": pump.nozzle_up,
        "user": pump.user,
        "state": "idle" if sale is None else sale.state.value,
        "transaction": 0 if sale is None else sale.transaction,
        "volume_ml": 0 if sale is None else sale.volume_ml,
        "amount_minor": 0 if sale is None else sale.amount_minor,
        "totals_ml": [meter.total_ml for meter in pump.meters],
        "prices_milli": [meter.price_milli for meter in pump.meters],
    }


def _local_time() -> datetime:
    """Clock of the controller: Beijing time without an offset."""
    return (utcnow_of_machine() + BEIJING).replace(tzinfo=None, microsecond=0)


def _server(app: Any) -> uvicorn.Server:  # noqa: ANN401 - of ASGI
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server


async def serve(config: Config) -> None:
    """Run one controller until cancelled."""
    controller = PtsController(config)
    port, control_port = await controller.start()
    try:
        say_ready(f"{config.listen[0]}:{port}", (config.control[0], control_port))
        await asyncio.Event().wait()
    finally:
        await controller.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the controller."""
    parser = argparse.ArgumentParser(prog="pts", description="Emulated PTS-2 pump controller.")
    parser.add_argument("--listen", type=argument(parse_address), required=True, metavar="HOST:PORT")
    parser.add_argument("--control", type=argument(parse_address), required=True, metavar="HOST:PORT")
    parser.add_argument("--pts-id", default=PTS_ID, help="number of the controller, 24 hex digits")
    parser.add_argument("--pumps", type=int, default=4)
    parser.add_argument("--nozzles", type=int, default=2, help="nozzles of each pump")
    parser.add_argument("--price-milli", type=int, default=7850, help="thousandths for a litre")
    parser.add_argument("--rate-ml-s", type=float, default=RATE_ML_S, help="flow, millilitres a second")
    parser.add_argument("--basic", action="store_true", help="Basic login in place of Digest")
    parser.add_argument("--server", default="", help="http://HOST:PORT of the gateway, to dial out")
    parser.add_argument("--dial", choices=("none", "websocket", "http"), default="none")
    parser.add_argument("--secret", default="", help="key of the signatures of uploads by HTTP")
    parser.add_argument("--status-every-s", type=float, default=0.0, help="period of status uploads; 0: none")
    return run("pts", serve(Config(**vars(parser.parse_args(argv)))))


if __name__ == "__main__":
    sys.exit(main())
