"""Login data in headers of HTTP: Basic (RFC 7617) and Digest (RFC 7616, in the form every client has).

That is MD5, with `qop=auth` or none. Pure: a server makes its nonces and keeps them, a client its counters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

_PAIR = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True)
class Login:
    """Name and password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r}, ***)"


def basic_header(login: Login) -> str:
    """Value of `Authorization`."""
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode("ascii")


def is_basic(header: str, login: Login) -> bool:
    """True when the value of `Authorization` is this login; compared in constant time."""
    scheme, _, data = header.strip().partition(" ")
    given = f"{scheme.capitalize()} {data.strip()}"
    return hmac.compare_digest(given.encode(), basic_header(login).encode())


def digest_challenge(realm: str, nonce: str, *, stale: bool = False) -> str:
    """Value of `WWW-Authenticate`; `stale`: the login was right and only its nonce is old."""
    return f'Digest realm="{realm}", qop="auth", algorithm=MD5, nonce="{nonce}"' + (", stale=true" if stale else "")


@dataclass(frozen=True, slots=True)
class DigestAnswer:
    """Answer of a client to a challenge."""

    user: str
    realm: str
    nonce: str
    uri: str
    response: str
    qop: str
    count: str
    client_nonce: str

    def proves(self, login: Login, method: str) -> bool:
        """True when who made it knows the password; whether nonce and path are right is the server's to look at."""
        proof = _md5(f"{login.user}:{self.realm}:{login.password}")
        asked = _md5(f"{method}:{self.uri}")
        between = f"{self.count}:{self.client_nonce}:{self.qop}:" if self.qop else ""
        expected = _md5(f"{proof}:{self.nonce}:{between}{asked}")
        same_user = hmac.compare_digest(self.user.encode(), login.user.encode())
        return hmac.compare_digest(self.response.encode(), expected.encode()) and same_user


def digest_answer(header: str) -> DigestAnswer | None:
    """Answer in the value of `Authorization`, None when there is none that can be read."""
    scheme, _, data = header.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    found = {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(data)}
    if not {"username", "realm", "nonce", "uri", "response"} <= set(found):
        return None
    return DigestAnswer(
        found["username"],
        found["realm"],
        found["nonce"],
        found["uri"],
        found["response"],
        found.get("qop", ""),
        found.get("nc", ""),
        found.get("cnonce", ""),
    )


def _md5(text: str) -> str:
    # The standard's, and what the field speaks: it hides a password from a listener and no more.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
