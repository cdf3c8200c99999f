"""Addresses of devices as a site file gives them. Apart from the links, so that reading a site file opens none."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath

PORT_MAX = 0xFFFF
SERIAL_OPTIONS = ("baud", "bits", "parity", "stop")
"""Options that may follow the `?` of a serial address."""
BAUD_MIN, BAUD_MAX = 300, 4_000_000
"""The slowest line any known device has, and what the fastest USB adapters can do."""


class Parity(Enum):
    """Parity bit; the value is its letter in the usual short form, as in 8N1."""

    NONE = "N"
    EVEN = "E"
    ODD = "O"


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """Settings of a port. Raises ValueError for a value no port has."""

    baud: int = 115_200
    bits: int = 8
    parity: Parity = Parity.NONE
    stop_bits: int = 1

    def __post_init__(self) -> None:
        if not BAUD_MIN <= self.baud <= BAUD_MAX:
            raise ValueError(f"baud {self.baud} is not between {BAUD_MIN} and {BAUD_MAX}")
        if self.bits not in (7, 8):
            raise ValueError(f"bits {self.bits} is neither 7 nor 8")
        if self.stop_bits not in (1, 2):
            raise ValueError(f"stop {self.stop_bits} is neither 1 nor 2")

    def __str__(self) -> str:
        return f"{self.baud} {self.bits}{self.parity.value}{self.stop_bits}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialAddress:
    """A serial port by its path, and how it is set."""

    path: str
    settings: SerialSettings = field(default_factory=SerialSettings)

    def __str__(self) -> str:
        return f"serial:{self.path} {self.settings}"


LinkAddress = TcpAddress | SerialAddress


USUAL = SerialSettings()
"""Settings of a port where neither the site file nor the device says others."""


def parse_link_address(text: str, usual: SerialSettings = USUAL) -> LinkAddress:
    """Address of a device's line as a site file gives it. Raises ValueError saying what is wrong with `text`.

    `HOST:PORT`, the same after `tcp://`, or `serial:/dev/...` with any of `?baud=115200&bits=8&parity=N&stop=1`.
    `usual`: settings of the device's kind, where the text does not say others.
    """
    if text.startswith("serial:"):
        return _serial_address(text, usual)
    return _tcp_address(text)


def _tcp_address(text: str) -> TcpAddress:
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme != "tcp":
        raise ValueError(f"{text!r}: {scheme}:// is not known; write HOST:PORT, tcp://HOST:PORT or serial:/dev/...")
    host, separator, port = rest.rpartition(":")
    if not separator:
        raise ValueError(f"{text!r}: the port is missing; write HOST:PORT, or serial:/dev/... for a serial port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: {host!r} has a colon; write an IPv6 address in brackets, as in [::1]:9000")
    if not host or host.startswith("/"):
        raise ValueError(f"{text!r}: {host!r} is no host name; write HOST:PORT, or serial:/dev/... for a serial port")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{text!r}: port {port!r} is no number from 1 to {PORT_MAX}")
    return TcpAddress(host, int(port))


def _serial_address(text: str, usual: SerialSettings) -> SerialAddress:
    path, _, options = text.removeprefix("serial:").partition("?")
    if not PurePosixPath(path).is_absolute() or path.startswith("//"):
        raise ValueError(f"{text!r}: {path!r} is no absolute path; write serial:/dev/serial/by-id/... or /dev/ttyS0")
    given: dict[str, str] = {}
    for option in options.split("&") if options else ():
        key, separator, value = option.partition("=")
        if key not in SERIAL_OPTIONS:
            raise ValueError(f"{text!r}: option {key!r} is not known; known are {', '.join(SERIAL_OPTIONS)}")
        if not separator or not value:
            raise ValueError(f"{text!r}: option {key} has no value")
        if key in given:
            raise ValueError(f"{text!r}: option {key} stands there twice")
        given[key] = value
    try:
        settings = SerialSettings(
            baud=_whole("baud", given.get("baud"), usual.baud),
            bits=_whole("bits", given.get("bits"), usual.bits),
            parity=_parity(given.get("parity"), usual.parity),
            stop_bits=_whole("stop", given.get("stop"), usual.stop_bits),
        )
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from error
    return SerialAddress(path, settings)


def _whole(name: str, text: str | None, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{name} {text!r} is no whole number")
    return int(text)


def _parity(text: str | None, usual: Parity) -> Parity:
    if text is None:
        return usual
    try:
        return Parity(text)
    except ValueError as error:
        raise ValueError(f"parity {text!r} is none of {', '.join(parity.value for parity in Parity)}") from error
