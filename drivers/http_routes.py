"""Paths of an HTTP server, by those who need them: handlers, guards, and what comes and goes. It knows no library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Arrival:
    """Request as it came. Names of headers are in small letters; the body of a WebSocket's is empty."""

    source: str
    """Address of the peer."""
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer to a request."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """Guard that lets everybody in; others override it. It must not block."""

    def refusal(self, arrival: Arrival) -> Reply | None:
        """Answer to a request that must not reach the handler; None: it may."""
        return None


class Peer(Protocol):
    """Other end of a WebSocket."""

    def messages(self) -> AsyncIterator[bytes]:
        """Messages, until the peer leaves or the server stops."""
        ...

    async def send(self, message: bytes) -> None:
        """Send a message of UTF-8 as text. Raises LinkLost."""
        ...

    async def close(self) -> None:
        """Close the WebSocket. May be called twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Handler of POST requests to one path."""

    path: str
    handler: Callable[[Arrival], Awaitable[Reply]]
    guard: Guard = field(default_factory=Guard)
    body_bytes_max: int | None = None
    """None: that of the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketRoute:
    """Handler of WebSockets at one path; a WebSocket ends when its handler returns."""

    path: str
    handler: Callable[[Arrival, Peer], Awaitable[None]]
    guard: Guard = field(default_factory=Guard)
