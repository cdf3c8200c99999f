"""A serial port as a byte link. The only module that imports pyserial.

pyserial opens, locks and configures the port; after that the event loop watches its descriptor and the bytes go by
plain non-blocking reads and writes. Nothing is remembered of a port that went away: every open starts from the path
again, so a path that stays the same when the adapter comes back (`/dev/serial/by-id/...`) is found under whatever
number the system gave it meanwhile.

A pulled adapter shows in several ways: end of file on a descriptor said to be readable, EIO, ENXIO, or a termios error
while it is closed. All of them are one thing here: the link is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import termios
from collections.abc import Callable

import serial

from drivers.addresses import Parity, SerialSettings
from drivers.errors import DeviceUnavailable, LinkLost, RequestOutcome

WRITE_BYTES_MAX = 64 * 1024
"""Bytes the port has not taken yet. A port takes them at its baud rate: this much is most of a minute at 9600, so a
writer with a full backlog has a port that stands still."""
DRAIN_TIMEOUT_S = 1.0
"""Wait of `close` for bytes still in the port: a minute's worth is never there, and a port that stands still never
empties. What is left then is thrown away, or closing would hold the event loop up for as long as the driver likes."""
DRAIN_LOOK_S = 0.01
"""Pause between two looks whether the port has sent everything; nothing tells us."""

HINT_GONE = "plug the adapter back in; it is opened again by its name"
HINT_MISSING = "check that the adapter is plugged in, and name it by its path in /dev/serial/by-id"
HINT_FORMAT = "choose a speed and format that the adapter knows"

_REFUSALS = {
    errno.ENOENT: ("there is no such port", HINT_MISSING),
    errno.ENODEV: ("there is no device behind this port", HINT_MISSING),
    errno.ENXIO: ("there is no device behind this port", HINT_MISSING),
    errno.EIO: ("the port does not answer", HINT_MISSING),
    errno.EACCES: ("no permission to open it", "add the service's user to the group that owns it, usually dialout"),
    errno.EPERM: ("no permission to open it", "add the service's user to the group that owns it, usually dialout"),
    errno.EAGAIN: (
        "another program holds the port",
        "find it with `fuser -v` and stop it: ModemManager, brltty, a terminal, or a second gateway",
    ),
    errno.EBUSY: (
        "another program holds the port",
        "find it with `fuser -v` and stop it: ModemManager, brltty, a terminal, or a second gateway",
    ),
}
"""Meaning and cure of a failed open, by error number. A lock that somebody else has is EAGAIN."""


class SerialLink:
    """One open serial port; keeps the contract of `drivers.link.Link`. One reader at a time."""

    def __init__(self, port: serial.Serial, *, device: str) -> None:
        """`port` is open, exclusive and non-blocking; see `open`."""
        self._port = port
        self._name = str(port.name)
        self._descriptor = port.fileno()
        self._device = device
        self._loop = asyncio.get_running_loop()
        self._to_write = bytearray()
        self._changed: set[asyncio.Future[None]] = set()
        self._lost: OSError | None = None
        self._closed = False

    @classmethod
    def open(cls, path: str, settings: SerialSettings, *, device: str) -> SerialLink:
        """Open and lock `path`. Raises DeviceUnavailable; needs a running event loop."""
        try:
            port = serial.Serial(
                port=path,
                baudrate=settings.baud,
                bytesize=settings.bits,
                parity=settings.parity.value,
                stopbits=settings.stop_bits,
                timeout=0,
                write_timeout=0,
                # With this set, a read without data is EAGAIN, and a read of nothing means that the port is gone.
                inter_byte_timeout=0,
                exclusive=True,
            )
        except (OSError, termios.error, ValueError) as error:  # SerialException is an OSError
            problem, hint = _refusal(error, settings)
            raise DeviceUnavailable(f"cannot open {path}: {problem}", device=device, hint=hint) from error
        try:
            taken = _taken(port.fileno(), settings)
        except (OSError, termios.error) as error:
            port.close()
            raise DeviceUnavailable(f"{path} went away: {error}", device=device, hint=HINT_GONE) from error
        if not taken:
            port.close()
            raise DeviceUnavailable(
                f"cannot open {path}: it cannot be set to {settings}", device=device, hint=HINT_FORMAT
            )
        return cls(port, device=device)

    async def read(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`; b"" once this end was closed. Raises LinkLost when the port has gone."""
        while not self._closed:
            self._check()
            try:
                data = os.read(self._descriptor, max_bytes)
            except BlockingIOError:
                await self._wait(self._loop.add_reader, self._loop.remove_reader)
            except OSError as error:
                self._lose(error)
            else:
                if data:
                    return data
                self._lose(OSError(errno.EIO, "the port is readable and gives nothing"))
        return b""

    async def write(self, data: bytes) -> None:
        """Take all of `data`, then wait until the system has it. Raises LinkLost."""
        if self._closed:
            raise LinkLost("the port is closed", device=self._device, outcome=RequestOutcome.NOT_SENT)
        self._check(RequestOutcome.NOT_SENT)
        if len(self._to_write) + len(data) > WRITE_BYTES_MAX:
            raise LinkLost(
                f"{self._name} takes no more bytes, {len(self._to_write)} wait",
                device=self._device,
                outcome=RequestOutcome.NOT_SENT,
                hint="check the cable and that no flow control is set",
            )
        if self._to_write:
            self._to_write += data  # behind what waits already: order is kept
        else:
            self._to_write += data
            self._push()
        while self._to_write and not self._closed:
            self._check()
            await self._wait(None, None)
        if self._to_write:
            raise LinkLost("the port was closed before everything was written", device=self._device)
        self._check()

    async def close(self) -> None:
        """Let what was written leave, for a moment at most, then let go of the port."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        self._wake()
        try:
            await self._drained()
        finally:
            self._loop.remove_writer(self._descriptor)
            self._to_write.clear()
            self._wake()
            # Whatever the port says while it goes (termios.error is no OSError): it is gone afterwards.
            with contextlib.suppress(OSError, termios.error):
                termios.tcflush(self._descriptor, termios.TCOFLUSH)
            with contextlib.suppress(OSError, termios.error):
                self._port.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        """Give the port what it takes now; the loop goes on with the rest, waited for or not."""
        try:
            while self._to_write:
                del self._to_write[: os.write(self._descriptor, self._to_write)]
        except BlockingIOError:
            self._loop.add_writer(self._descriptor, self._push)
            return
        except OSError as error:
            self._lose(error)
            return
        self._loop.remove_writer(self._descriptor)
        self._wake()

    async def _wait(
        self,
        add: Callable[[int, Callable[[], None]], object] | None,
        remove: Callable[[int], object] | None,
    ) -> None:
        """Wait until something has changed, with `add` until the descriptor is ready for it."""
        changed = self._loop.create_future()
        self._changed.add(changed)
        if add is not None:
            add(self._descriptor, lambda: None if changed.done() else changed.set_result(None))
        try:
            await changed
        finally:
            self._changed.discard(changed)
            # Once closed or lost, the number may belong to another file already.
            if remove is not None and not self._closed and self._lost is None:
                remove(self._descriptor)

    async def _drained(self) -> None:
        """Wait, not for ever, until nothing is left here or in the port."""
        until = self._loop.time() + DRAIN_TIMEOUT_S
        while self._lost is None and self._loop.time() < until:
            try:
                if not self._to_write and not self._port.out_waiting:
                    return
            except (OSError, termios.error) as error:
                self._lose(OSError(errno.EIO, str(error)))
                return
            await asyncio.sleep(DRAIN_LOOK_S)

    def _lose(self, error: OSError) -> None:
        """Give up a port that has gone. Its descriptor must not be watched any longer: it would be ready for ever."""
        if self._lost is None:
            self._lost = error
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
        self._wake()

    def _check(self, outcome: RequestOutcome = RequestOutcome.UNKNOWN) -> None:
        if self._lost is not None:
            raise LinkLost(
                f"{self._name} has gone: {self._lost.strerror or self._lost}",
                device=self._device,
                outcome=outcome,
                hint=HINT_GONE,
            ) from self._lost

    def _wake(self) -> None:
        for changed in self._changed:
            if not changed.done():
                changed.set_result(None)


def _taken(descriptor: int, settings: SerialSettings) -> bool:
    """True when the port is as it was asked to be: a driver that lacks a format may leave it out without an error."""
    _, _, control, _, speed_in, speed_out, _ = termios.tcgetattr(descriptor)
    parity = {Parity.NONE: 0, Parity.EVEN: termios.PARENB, Parity.ODD: termios.PARENB | termios.PARODD}
    wanted = parity[settings.parity]
    wanted |= termios.CS7 if settings.bits == 7 else termios.CS8
    wanted |= termios.CSTOPB if settings.stop_bits == 2 else 0
    checked = termios.CSIZE | termios.CSTOPB | termios.PARENB | (termios.PARODD if wanted & termios.PARENB else 0)
    # A speed without a constant of its own was set another way, and cannot be read back from here.
    speed = getattr(termios, f"B{settings.baud}", None)
    return control & checked == wanted and speed in (None, speed_in) and speed in (None, speed_out)


def _refusal(error: OSError | termios.error | ValueError, settings: SerialSettings) -> tuple[str, str]:
    """Problem and hint of a failed open."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _REFUSALS:
        return _REFUSALS[number]
    if number is None:
        # Found while configuring. termios and pyserial only give a text with the number in it.
        if f"({errno.ENOTTY}," in str(error):
            return "this is no serial port", HINT_MISSING
        return f"it cannot be set to {settings}: {error}", HINT_FORMAT
    return str(error), HINT_MISSING
