"""Errors in bytes and sequences: ours (local) or the peer's (remote)."""

from __future__ import annotations

PREFIX_BYTES_MAX = 16
"""Bytes of the offending data an error shows; more would flood a log with one bad frame."""


class ProtocolError(Exception):
    """Base of every codec and session error. Never raised itself.

    `field` and `offset` (bytes from the start of what was parsed) say where, `hint` what to do next,
    `clause` which document or table the rule comes from.
    """

    def __init__(
        self,
        problem: str,
        *,
        field: str | None = None,
        offset: int | None = None,
        data: bytes = b"",
        hint: str | None = None,
        clause: str | None = None,
    ) -> None:
        self.problem = problem
        self.field = field
        self.offset = offset
        self.data = data[:PREFIX_BYTES_MAX]
        self.hint = hint
        self.clause = clause
        super().__init__(self._text())

    def _text(self) -> str:
        parts = [self.problem]
        if self.field is not None:
            parts.append(f"field {self.field}")
        if self.offset is not None:
            parts.append(f"offset {self.offset}")
        if self.data:
            parts.append(f"data {self.data.hex()}")
        if self.clause is not None:
            parts.append(f"see {self.clause}")
        if self.hint is not None:
            parts.append(self.hint)
        return "; ".join(parts)


class LocalProtocolError(ProtocolError):
    """Request of ours that the protocol does not allow, to the codec or the session: a bug on our side."""


class RemoteProtocolError(ProtocolError):
    """Peer's bytes, message or sequence that break the protocol."""
