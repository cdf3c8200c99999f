"""Cuts the byte stream of a bank link into messages: two bytes of length, big-endian, not counting themselves.

Push what was read with `Framer.feed`, pull with `Framer.next_frame` until it gives None. Length zero is a keep-alive:
it is handed over as an empty frame and the owner of the link sends the same back.
"""

from __future__ import annotations

from protocols.errors import LocalProtocolError, RemoteProtocolError

LENGTH_BYTES = 2
FRAME_BYTES_MAX = 8 * 1024
"""Largest message taken. POS messages stay below 2 KiB; a larger length is line noise or another protocol."""

BUFFER_BYTES_MAX = 128 * 1024
"""Largest unread backlog: one read of the largest size a link uses plus a frame begun before it."""

KEEP_ALIVE = bytes(LENGTH_BYTES)
"""A frame of length zero."""


def frame(message: bytes) -> bytes:
    """Put the length in front of an encoded message."""
    if len(message) > FRAME_BYTES_MAX:
        raise LocalProtocolError(f"message of {len(message)} bytes, at most {FRAME_BYTES_MAX} fit", field="length")
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


class Framer:
    """Incremental reader of one connection. After an error the stream has no meaning any more: close it."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._consumed = 0
        self._broken: RemoteProtocolError | None = None

    @property
    def pending(self) -> int:
        """Bytes received and not handed over. Not zero when a connection ends: its last message was cut short."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes as they came. Raises LocalProtocolError when frames are not pulled between reads."""
        if len(self._buffer) + len(data) > BUFFER_BYTES_MAX:
            raise LocalProtocolError(f"more than {BUFFER_BYTES_MAX} unread bytes", hint="pull frames after every feed")
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """Give the next message without its length, b"" for a keep-alive, or None when more bytes are needed."""
        if self._broken is not None:
            raise self._broken
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > self._frame_bytes_max:
            self._broken = RemoteProtocolError(
                f"length {length}, at most {self._frame_bytes_max} allowed",
                field="length",
                offset=self._consumed,
                data=bytes(self._buffer),
                hint="the peer speaks another framing, or bytes were lost; close the connection",
            )
            raise self._broken
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        message = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        self._consumed += end
        return message
