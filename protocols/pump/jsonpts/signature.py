"""Signature of a body in the header `X-Data-Signature`: base64 of HMAC-SHA256 under the secret key, over its bytes.

Both sides sign what they send once a key is set ("Communication to a remote server using HTTP requests"); only
UploadConfiguration never carries one (section 207, note 3).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

HEADER: Final = "X-Data-Signature"

SECRET_CHARACTERS_MAX: Final = 20
"""Longest key that the controller takes (section 36)."""


def sign(body: bytes, secret: str) -> str:
    """Signature of exactly these bytes."""
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode("ascii")


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """True when the signature is ours; compared in constant time."""
    return hmac.compare_digest(sign(body, secret).encode(), signature.strip().encode())
