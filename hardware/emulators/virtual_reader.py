"""An emulated chip in a slot of a virtual card reader (vpcd): what a card service sees of it is what it sees of metal.

The reader's driver listens, the card calls. Both sides speak messages of a length (2 bytes) and content; one byte is
an order of the reader: power off, on, reset, or tell your answer to reset. A card that hangs up has been pulled.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

from hardware.emulators.chip import Inserted, Reaction

ATR: Final = bytes.fromhex("3B6800000073C84000009000")
"""Answer to reset of a card on T=0, as the pcsc tools print for many purse cards; its historical bytes mean nothing."""

CONNECT_TIMEOUT_S: Final = 5.0

_LENGTH_BYTES: Final = 2
_POWER_OFF, _POWER_ON, _RESET, _TELL_ATR = 0, 1, 2, 4

Answer = Callable[[bytes], bytes | None]
"""Answers a command; None: the card is gone."""


class VirtualCard:
    """Chip in one slot, from its insertion to its removal. Its work is done in a thread of its own."""

    def __init__(self, port: int, chip: Inserted, *, atr: bytes = ATR, answer: Answer | None = None) -> None:
        """`answer`: stands between reader and chip, so that commands can be lost, delayed or changed."""
        self._chip = chip
        self._atr = atr
        self._react = chip.react if answer is None else lambda command: Reaction(answer(command))
        self._leaving = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), CONNECT_TIMEOUT_S)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._serve, name=f"card in slot {port}", daemon=True)
        self._thread.start()

    @property
    def inside(self) -> bool:
        """True until the card is pulled, or the reader hangs up."""
        return self._thread.is_alive()

    def remove(self) -> None:
        """Pull the card; from any thread, and more than once."""
        self._leaving.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing alone may not
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        with self._socket:
            try:
                while self._serve_one(self._receive(int.from_bytes(self._receive(_LENGTH_BYTES), "big"))):
                    pass
            except (EOFError, OSError):
                return  # the reader hung up

    def _serve_one(self, message: bytes) -> bool:
        """Do what one message says; False once the card is gone."""
        if len(message) == 1:
            if message[0] == _TELL_ATR:
                self._send(self._atr)
            elif message[0] in (_POWER_OFF, _POWER_ON, _RESET):
                self._chip.reset()
            return True
        reaction = self._react(message)
        if reaction.answer is None or self._leaving.wait(reaction.after_s):
            return False
        if reaction.answer:  # The reader must never be sent nothing: it waits for what comes, and this is silence.
            self._send(reaction.answer)
        return True

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            # Each time anew: else the kernel keeps its acknowledgement for 40 ms, and the reader waits for it.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            part = self._socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _send(self, data: bytes) -> None:
        self._socket.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
