"""Client of one HTTP device; the one module that knows httpx2.

Every failure is a `DeviceError` with what is known about the request. Nothing is repeated here, no redirection is
followed, no proxy of the environment is used, and an answer larger than is read ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Self

import httpx2

from drivers.errors import DeviceError, DeviceRefused, DeviceTimeout, DeviceUnavailable, LinkLost
from protocols.http_login import Login

ANSWER_BYTES_MAX = 256 * 1024
"""Largest answer read: a controller with 120 pumps tells all of them in 100 KiB."""

# The library has a line for every request. Ours are told by who makes them, when they fail.
logging.getLogger("httpx2").setLevel(logging.WARNING)

CONNECT_SHARE = 0.75
"""Share of the time in which the connection must stand: below 1, so that a dead host is known as one."""


class LoginKind(Enum):
    """Way of a login."""

    BASIC = "basic"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpClientConfig:
    """One device."""

    device: str
    address: str
    """`http://host:port` or `https://host:port`."""
    login: Login | None = None
    login_kind: LoginKind = LoginKind.DIGEST
    certificate: Path | None = None
    """Certificate that the device must show, where it signed its own; none: one of the system's authorities."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of the device, with a status of 200 to 299. Names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Client of one device, one request at a time. Used as an asynchronous context."""

    def __init__(self, config: HttpClientConfig) -> None:
        self._config = config
        self._turn = asyncio.Lock()
        self._client = httpx2.AsyncClient(
            base_url=config.address,
            auth=_auth(config),
            verify=_trust(config),
            trust_env=False,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
            headers={"Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def post(self, path: str, body: bytes, *, content_type: str, timeout_s: float) -> Answer:
        """Send a body and return the answer. `timeout_s` covers the wait for a turn, too. Raises DeviceError."""
        device = self._config.device
        sent = False
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                sent = True
                return await self._post(path, body, content_type, CONNECT_SHARE * timeout_s)
        except TimeoutError as error:
            if not sent:
                raise DeviceUnavailable(f"no turn within {timeout_s} s", device=device) from error
            raise DeviceTimeout(f"no answer within {timeout_s} s", device=device) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol) as error:
            raise DeviceUnavailable(
                f"no connection to {self._config.address}: {error}", device=device, hint="check address and network"
            ) from error
        except httpx2.HTTPError as error:
            raise LinkLost(f"{type(error).__name__} {error}".rstrip(), device=device) from error

    async def _post(self, path: str, body: bytes, content_type: str, connect_s: float) -> Answer:
        headers, timeout = {"Content-Type": content_type}, httpx2.Timeout(None, connect=connect_s)
        request = self._client.stream("POST", path, content=body, headers=headers, timeout=timeout)
        async with request as response:
            refusal = self._refusal(response.status_code)
            if refusal is not None:
                raise refusal
            answer = bytearray()
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > ANSWER_BYTES_MAX:
                    raise LinkLost(f"answer above {ANSWER_BYTES_MAX} bytes", device=self._config.device)
            return Answer(response.status_code, dict(response.headers), bytes(answer))

    def _refusal(self, status: int) -> DeviceError | None:
        device = self._config.device
        if 200 <= status < 300:
            return None
        if status == 401:
            return DeviceRefused("401, login not taken", device=device, hint="check user, password and kind of login")
        if status == 403:
            return DeviceRefused("403, no right", device=device, hint="give the user this right at the device")
        if status >= 500 and status != 503:
            return LinkLost(f"answered with status {status}", device=device)
        return DeviceRefused(f"answered with status {status}", device=device)


def _auth(config: HttpClientConfig) -> httpx2.Auth | None:
    if config.login is None:
        return None
    kind = httpx2.BasicAuth if config.login_kind is LoginKind.BASIC else httpx2.DigestAuth
    return kind(config.login.user, config.login.password)


def _trust(config: HttpClientConfig) -> ssl.SSLContext | bool:
    if config.certificate is None:
        return config.address.startswith("https")  # without TLS no authority need be loaded
    context = ssl.create_default_context(cafile=str(config.certificate))
    context.check_hostname = False  # one certificate is trusted, whatever name it was made for
    return context
