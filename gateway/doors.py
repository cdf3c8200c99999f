"""Doors of the gateway: what comes in over HTTP, at one server for all its parts.

A part that is called from outside (a pump controller that dials in, a camera, a bank's call-back) has a kind of door:
its paths, with guards and handlers. One door of a kind serves all charge points of a site, since the machines that come
know one path and tell themselves apart by what they say; who may come in is added to it. Where nothing needs a door no
server is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar, cast

from drivers.errors import DeviceError
from drivers.http_routes import Route, SocketRoute
from gateway.documents import HostPort, Section
from gateway.health import Tell
from gateway.model.clock import Clock

PART: Final = "http"
"""Name of the server among the parts of a gateway."""

RETRY_S: Final = 5.0
"""Pause before an address that could not be used is tried again."""


class HttpSection(Section):
    """[http]: where the gateway listens for machines that come to it; without any nothing is opened"""

    listen: HostPort = "127.0.0.1:8430"
    """address and port of the gateway's own server; an address that others reach needs a certificate"""
    certificate: Path | None = None
    """file with its certificate and those that signed it, PEM; left out: without TLS"""
    key: Path | None = None
    """file with the key of the certificate, PEM, readable by the gateway's user alone"""
    without_tls: bool = False
    """true to listen without TLS on an address that others reach: only in a network of the site's own"""

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        certificate = None if self.certificate is None else folder / self.certificate
        key = None if self.key is None else folder / self.key
        return self.model_copy(update={"certificate": certificate, "key": key})


class Door(Protocol):
    """Paths of one kind of caller."""

    def routes(self) -> tuple[Route | SocketRoute, ...]:
        """Routes that the server is to serve."""
        ...


class HttpServer(Protocol):
    """Server of the doors."""

    def add(self, *routes: Route | SocketRoute) -> None:
        """Serve these paths from the next `run` on."""
        ...

    async def run(self) -> object:
        """Serve until cancelled. Raises DeviceError when the address cannot be used."""
        ...


MakeServer = Callable[[Callable[[bool, str], None]], HttpServer]

D = TypeVar("D", bound=Door)


class Doors:
    """All doors of a site, and the server that they stand at."""

    def __init__(self, make_server: MakeServer, clock: Clock, tell: Tell) -> None:
        """`make_server` is called with the first door, and given what hears whether the server listens."""
        self._make_server = make_server
        self._clock = clock
        self._tell = tell
        self._server: HttpServer | None = None
        self._doors: dict[Callable[..., Door], Door] = {}

    def at(self, kind: Callable[..., D]) -> D:
        """Give the one door of a kind; it is made when it is first asked for, with the clock."""
        if kind not in self._doors:
            if self._server is None:
                self._tell(PART, False, "not started yet", "http_unavailable")
                self._server = self._make_server(self._condition)
            self._doors[kind] = kind(clock=self._clock)
            self._server.add(*self._doors[kind].routes())
        return cast("D", self._doors[kind])

    def tasks(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """Task of the server, by its name; none where nobody needs it."""
        return {} if self._server is None else {PART: lambda: self._keep(self._server)}

    async def _keep(self, server: HttpServer | None) -> None:
        """Keep the server listening, for ever."""
        while server is not None:
            try:
                await server.run()
            except DeviceError as error:
                self._condition(False, str(error))
            await self._clock.sleep(RETRY_S)

    def _condition(self, works: bool, cause: str) -> None:
        self._tell(PART, works, cause, None if works else "http_unavailable")
