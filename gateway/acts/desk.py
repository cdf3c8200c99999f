"""Desk of the running gateway: people's acts over a local socket, each told by the kernel whose it is.

One act a connection: a line of JSON there, a line of JSON back. The request is an act of `gateway.acts.acts` with its
name in `act`; the answer has `done` (facts), or `refused` (the code of a reason) with `what`, or `failed` (in words:
nothing is known to be stored). Nothing that comes in is believed but the account, which the kernel says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from asyncio import Future
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.acts import actor as actors
from gateway.acts.actor import Actor, Role
from gateway.acts.acts import ACT, Facts, Refused, Terms
from gateway.acts.doing import change_of
from gateway.ledger.batches import StorageUnavailable
from gateway.ledger.transaction import Change
from gateway.texts.catalogue import Language

LINE_BYTES_MAX: Final = 16 * 1024
"""Bytes of an act; the longest has two reasons of 200 characters."""

ASKED_WITHIN_S: Final = 5.0
"""Seconds from connecting to the end of the line."""

AT_ONCE_MAX: Final = 8
"""Connections served at once; the next ones wait in the socket's own queue."""

OWNER_ONLY, ANYBODY = 0o600, 0o666

log = logging.getLogger(__name__)

Submit = Callable[[Change[Facts]], Future[Facts]]


class Desk:
    """Server of people's acts; it runs until it is cancelled."""

    def __init__(self, path: Path, groups: Mapping[Role, Iterable[str]], submit: Submit, terms: Terms) -> None:
        self._path = path
        self._groups = groups
        self._submit = submit
        self._terms = terms
        self._seats = asyncio.Semaphore(AT_ONCE_MAX)

    async def run(self) -> None:
        """Open the socket, serve every connection, and take the socket away again."""
        with listen(self._path, ANYBODY if any(self._groups.values()) else OWNER_ONLY) as listening:
            try:
                async with await asyncio.start_unix_server(self._serve, sock=listening, limit=LINE_BYTES_MAX) as server:
                    await server.serve_forever()
            finally:
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._seats:
                answer = await self._answer(reader, actors.of_peer(writer.get_extra_info("socket")))
                writer.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
                with contextlib.suppress(OSError):  # who asked has gone; what was done stands in the ledger
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, actor: Actor) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ASKED_WITHIN_S):
                line = await reader.readuntil(b"\n")
            act = ACT.validate_json(line)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            return {"failed": f"no act was given: {type(error).__name__}"}
        except ValidationError as error:
            first = error.errors()[0]
            return {"failed": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}
        try:
            facts = await self._submit(change_of(act, actor, self._terms, self._groups))
        except Refused as refused:
            log.info("%s by %s refused: %s", act.act, actor.name, refused.code)
            told = {"what": refused.what.told(Language.EN), "what_zh": refused.what.told(Language.ZH)}
            return {"refused": refused.code, **told}
        except StorageUnavailable as error:
            return {"failed": str(error)}
        except Exception as error:
            log.exception("%s by %s", act.act, actor.name)
            return {"failed": f"{type(error).__name__}: {error}"}
        log.info("%s by %s", act.act, actor.name)
        return {"done": facts}


def listen(path: Path, mode: int) -> socket.socket:
    """A listening socket at `path`; what an earlier process left there is taken away. Raises OSError."""
    if path.is_socket():
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(path) as short:
            listening.bind(short)
        path.chmod(mode)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a socket's path that is short enough: the kernel takes 107 bytes, and folders can be deep."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
