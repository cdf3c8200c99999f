"""Base of emulated cards, PSAMs and ESAMs: taking a command apart, dispatching it, answering it.

A chip is a table from class and instruction to a handler. A handler returns the answer's data or raises `Refused` with
a status word. Whatever bytes come in, an answer goes out: a chip does not crash.

What survives power loss stands in one frozen value, `stored`, and a command replaces it as a whole or not at all. So a
chip can be kept elsewhere (`keep`) and put back (`restore`): the kept value is durable before the answer leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from protocols.card import apdu
from protocols.card.apdu import LE_MAX, Command, Response
from protocols.card.commands import MAC_BYTES, protected_header
from protocols.crypto import Algorithm, external_auth, line_mac
from protocols.errors import RemoteProtocolError

RandomSource = Callable[[int], bytes]
"""Gives that many random bytes. Injected, so that a bench run and a vector replay are repeatable."""

SW_DATA_WAITING: Final = 0x6100
SW_TRIES: Final = 0x63C0
SW_WRONG_LE: Final = 0x6C00
SW_NO_CHALLENGE: Final = 0x6984
SW_BLOCKED: Final = 0x6983
SW_NO_CURRENT_FILE: Final = 0x6986
SW_LINE_MAC: Final = 0x6988
SW_WRONG_P1P2: Final = 0x6A86
SW_NO_REFERENCE: Final = 0x6A88
SW_OFFSET: Final = 0x6B00
SW_INS: Final = 0x6D00
SW_CLA: Final = 0x6E00

TRIES_MAX: Final = 3
"""Wrong PINs or external authentications in a row before the chip locks that method."""

GET_CHALLENGE: Final = (0x00, 0x84)
GET_RESPONSE: Final = (0x00, 0xC0)


class Refused(Exception):
    """Refusal by the chip, with this status word."""

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a chip's table."""

    handler: Callable[[Command], bytes]
    answer_bytes: int | None = None
    """Length of a good answer where it is fixed. Another Le is refused before anything happens."""
    data_bytes: int | None = None
    """Length of the command's data where it is fixed."""


InstructionTable = Mapping[tuple[int, int], Instruction]

Keep = Callable[[Any], None]
"""Keeps what a chip has stored; returns when it is durable, and raises OSError when it could not be."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """Reaction of a chip to a command, as its reader sees it."""

    answer: bytes | None
    """None: the card is gone. Empty: it falls silent."""
    after_s: float = 0.0
    """Seconds until then."""


class Inserted(Protocol):
    """Content of a slot: a chip, or one that something happens to."""

    def react(self, command: bytes) -> Reaction:
        """Take a command, and say what the reader sees."""
        ...

    def reset(self) -> None:
        """Power off and on."""
        ...


class Chip:
    """A chip with ISO 7816 commands. Subclasses give the table and forget their own state in `reset`.

    `t0`: when a command carries data and has an answer, say 61xx and wait for GET RESPONSE, as chips on T=0 do.
    """

    def __init__(self, *, random: RandomSource, t0: bool = False) -> None:
        self._random = random
        self._t0 = t0
        self._stored: Any = None
        self._keep: Keep | None = None
        self._challenge: bytes | None = None
        self._waiting = b""
        self._table: InstructionTable = {
            GET_CHALLENGE: Instruction(self._get_challenge),
            GET_RESPONSE: Instruction(self._get_response),
            **self._instructions(),
        }

    def process(self, command: bytes) -> bytes:
        """One command APDU in, one response APDU out: data and status word. Never raises for what came in.

        Raises OSError when what changed could not be kept: then nothing has changed.
        """
        before = self._stored
        answer = self._process(command)
        if self._keep is not None and self._stored is not before:
            try:
                self._keep(self._stored)
            except OSError:
                self._stored = before
                raise
        return answer

    def react(self, command: bytes) -> Reaction:
        """Answer of the chip, at once."""
        return Reaction(self.process(command))

    @property
    def stored(self) -> Any:  # noqa: ANN401 - each kind of chip has its own
        """State that survives power loss, as one frozen value; None for a chip that has none."""
        return self._stored

    def restore(self, stored: Any) -> None:  # noqa: ANN401 - as above
        """Put back what was stored."""
        if type(stored) is not type(self._stored):
            raise TypeError(f"{type(stored).__name__} is not what a {type(self).__name__} stores")
        self._stored = stored

    def keep(self, keep: Keep) -> None:
        """Have `keep` called with what is stored after each change, before the answer to the command that made it."""
        self._keep = keep

    def _process(self, command: bytes) -> bytes:
        try:
            decoded = Command.decode(command)
        except RemoteProtocolError:
            return Response(b"", apdu.SW_WRONG_LENGTH).encode()
        try:
            data = self._dispatch(decoded)
        except Refused as refused:
            return Response(b"", refused.sw).encode()
        finally:
            kind = (decoded.cla, decoded.ins)
            if kind not in (GET_CHALLENGE, GET_RESPONSE):
                self._challenge = None  # good for the very next command only
        if self._t0 and data and decoded.data:
            self._waiting = data
            return Response(b"", SW_DATA_WAITING | len(data)).encode()
        return Response(data, apdu.SW_OK).encode()

    def reset(self) -> None:
        """Power off and on: everything volatile is gone."""
        self._challenge = None
        self._waiting = b""

    def _instructions(self) -> InstructionTable:
        raise NotImplementedError

    def _dispatch(self, command: Command) -> bytes:
        kind = (command.cla, command.ins)
        instruction = self._table.get(kind)
        if instruction is None:
            # The class is judged first; an instruction known under another class only is refused for its class.
            known_class = any(cla == command.cla for cla, _ in self._table)
            known_ins = any(ins == command.ins for _, ins in self._table)
            raise Refused(SW_CLA if not known_class or known_ins else SW_INS)
        if kind != GET_RESPONSE:
            self._waiting = b""
        if instruction.data_bytes is not None and len(command.data) != instruction.data_bytes:
            raise Refused(apdu.SW_WRONG_LENGTH)
        if instruction.answer_bytes is not None and command.le not in (None, LE_MAX, instruction.answer_bytes):
            raise Refused(SW_WRONG_LE | instruction.answer_bytes)
        return instruction.handler(command)

    def _get_challenge(self, command: Command) -> bytes:
        if command.p1 or command.p2:
            raise Refused(SW_WRONG_P1P2)
        if command.le not in (4, 8, 16):
            raise Refused(apdu.SW_WRONG_LENGTH)
        self._challenge = self._random(command.le)
        return self._challenge

    def _get_response(self, command: Command) -> bytes:
        if not self._waiting:
            raise Refused(apdu.SW_CONDITIONS)
        if command.le not in (LE_MAX, len(self._waiting)):
            raise Refused(SW_WRONG_LE | len(self._waiting))
        data, self._waiting = self._waiting, b""
        return data

    def _protected_data(self, command: Command, leaf: bytes, algorithm: Algorithm) -> bytes:
        """Data of a line-protected command whose MAC is right; refuses it otherwise."""
        if len(command.data) < MAC_BYTES:
            raise Refused(apdu.SW_WRONG_LENGTH)
        data, mac = command.data[:-MAC_BYTES], command.data[-MAC_BYTES:]
        challenge = self._challenge
        if challenge is None or len(challenge) not in ((4,) if algorithm is Algorithm.DES3 else (4, 16)):
            raise Refused(SW_NO_CHALLENGE)
        bare = Command(command.cla, command.ins, command.p1, command.p2, data)
        if line_mac(leaf, challenge, protected_header(bare), data, algorithm) != mac:
            raise Refused(SW_LINE_MAC)
        return data

    def _external_auth_ok(self, command: Command, leaf: bytes, algorithm: Algorithm) -> bool:
        """True when the 8 bytes answer the challenge; refuses when there was none."""
        challenge = self._challenge
        if challenge is None or len(challenge) not in (4, 8):
            raise Refused(SW_NO_CHALLENGE)
        return external_auth(leaf, challenge, algorithm) == command.data


def read_part(content: bytes, offset: int, le: int | None) -> bytes:
    """READ BINARY of a file's bytes.

    A whole-file read with too long an Le gets the right one (6Cxx); a read that begins later and runs out of the file
    gets 6B00. Cards differ here; this is how the computed sessions have it (inferred).
    """
    if le is None:
        raise Refused(apdu.SW_WRONG_LENGTH)
    rest = len(content) - offset
    if rest <= 0:
        raise Refused(SW_OFFSET)
    if le == LE_MAX:
        return content[offset:][:LE_MAX]
    if le > rest:
        raise Refused(SW_WRONG_LE | rest if offset == 0 else SW_OFFSET)
    return content[offset : offset + le]


def write_part(content: bytes, offset: int, data: bytes) -> bytes:
    """The file's bytes after UPDATE BINARY. Never longer than before."""
    if not data:
        raise Refused(apdu.SW_WRONG_LENGTH)
    if offset + len(data) > len(content):
        raise Refused(SW_OFFSET)
    return content[:offset] + data + content[offset + len(data) :]


def file_address(command: Command) -> tuple[int | None, int]:
    """Short file id (None: the selected file) and offset of READ or UPDATE BINARY."""
    if command.p1 & 0x80:
        return command.p1 & 0x1F, command.p2
    return None, command.p1 << 8 | command.p2
