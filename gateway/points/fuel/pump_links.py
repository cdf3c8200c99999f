"""Sections of the site file for what connects a fuel island with its pumps: a line, or a controller, called or calling.

Each way is a section of its own; `AnyPumpLink` chooses by `dialect`, and among controllers by `address`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag

from drivers.addresses import parse_link_address
from gateway import secret_files
from gateway.documents import Name, Problem, Section, known_are, with_port
from gateway.points.config import SecretFile
from gateway.points.etc.config import LinkText
from gateway.texts.catalogue import Words
from protocols.pump.names import DIALECT_NAMES

JSONPTS: Final = "jsonpts"
"""Dialect of controllers; the others are those of lines."""

PUMPS_MAX: Final = 120
"""Pumps of one controller."""


def _ip(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(Words("fuel.no-ip-address")) from None


IpText = Annotated[str, AfterValidator(_ip)]
HttpAddress = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}$"), AfterValidator(with_port)]


S = TypeVar("S", bound=Section)


class PumpLink(Section):
    """pumps = [{ ... }] of a fuel island, whatever the way to the pumps"""

    tag: ClassVar[str]
    """Name of the way, for `AnyPumpLink`."""
    own: ClassVar[str]
    """Kind of what no other link may name, for claims."""
    places: ClassVar[range] = range(256)
    """Numbers that a side can have on it."""

    name: Name
    """name by which sides refer to the line or controller"""
    volume_decimals: int = Field(2, ge=0, le=3)
    """digits after the point of volumes on the display: they are not on the line"""
    amount_decimals: int = Field(2, ge=0, le=2)
    """digits after the point of amounts on the display"""
    price_decimals: int = Field(2, ge=0, le=3)
    """digits after the point of unit prices on the display"""
    totaliser_litres: int = Field(100_000_000, ge=1000)
    """litres at which a totaliser begins again at zero"""

    def problems(self) -> Iterator[Problem]:
        """Problems of this link alone; keys count from it."""
        return iter(())

    def claimed(self) -> tuple[str, Hashable, str]:
        """Give what it has for itself alone: key, name of it, and value as the file has it."""
        raise NotImplementedError

    @property
    def sources(self) -> Sequence[str]:
        """Addresses from which it calls the gateway; none where it does not."""
        return ()

    def secrets(self) -> Iterator[SecretFile]:
        """Secret files that it names; keys count from it."""
        return iter(())

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        del folder
        return self


class PumpLine(PumpLink):
    """pumps = [{ ... }] of a fuel island: one line with the pumps on it"""

    tag = "pump-line"
    own = "pump line"

    address: LinkText
    """host:port of a serial server or pump, or "serial:/dev/serial/by-id/...?baud=9600&parity=O" """
    dialect: str = "dart"
    """what the pumps speak: "dart", "two-wire" or "lanfeng"; "jsonpts" for a controller"""

    def problems(self) -> Iterator[Problem]:
        """Problems of a dialect that this version does not have."""
        if self.dialect not in DIALECT_NAMES:
            known = known_are(sorted({*DIALECT_NAMES, JSONPTS}))
            yield Problem("dialect", repr(self.dialect), Words("points.not-known"), known)

    def claimed(self) -> tuple[str, Hashable, str]:
        """Claim its address, whatever is set of the port."""
        address = parse_link_address(self.address)
        return "address", getattr(address, "path", str(address)), repr(self.address)


class Calls(Section):
    """calls = { ... } of a pump controller: what it reports by itself, and how it proves that it is the one"""

    sources: list[IpText] = Field(min_length=1)
    """addresses that it may come from: its number alone proves nothing"""
    login: Path | None = None
    """file with the login of its uploads, user:password, readable by the gateway's user alone; left out: none"""
    secret: Path | None = None
    """file with the key by which its uploads are signed, the same; left out: they are not"""

    def secrets(self) -> Iterator[SecretFile]:
        """Secret files; keys count from here."""
        if self.login is not None:
            yield SecretFile("login", self.login, secret_files.login_of)
        if self.secret is not None:
            yield SecretFile("secret", self.secret, secret_files.text_of)

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        return _placed(self, folder, "login", "secret")


class PumpController(PumpLink):
    """pumps = [{ ... }] of a fuel island: one PTS-2 controller with the pumps on it"""

    own = "pump controller"
    places = range(1, PUMPS_MAX + 1)

    dialect: Literal["jsonpts"]
    """"jsonpts": a PTS-2 controller"""
    pts_id: str = Field(pattern=r"^[0-9A-Fa-f]{24}$")
    """number of the controller, 24 hex digits, as its own page shows it"""

    def claimed(self) -> tuple[str, Hashable, str]:
        """Claim its number."""
        return "pts_id", self.pts_id.upper(), repr(self.pts_id)

    calls: Calls | None = None
    """uploads that it sends besides, over HTTP; left out: none are taken"""

    @property
    def sources(self) -> Sequence[str]:
        """Addresses from which it may call."""
        return () if self.calls is None else self.calls.sources

    def secrets(self) -> Iterator[SecretFile]:
        """Secret files, also those for its calls."""
        for secret in () if self.calls is None else self.calls.secrets():
            yield SecretFile(f"calls.{secret.key}", secret.path, secret.read)

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        return self.model_copy(update={"calls": self.calls and self.calls.placed(folder)})


class CalledController(PumpController):
    """pumps = [{ ... }] of a fuel island: a PTS-2 controller that the gateway calls"""

    tag = "called-controller"

    address: HttpAddress
    """http://host:port or https://host:port of the controller; left out: it calls the gateway"""
    login: Path | None = None
    """file with the gateway's login there, user:password, readable by the gateway's user alone"""
    login_kind: Literal["digest", "basic"] = "digest"
    """way of the login: "digest", or "basic" where the controller's switch 2 is on"""
    certificate: Path | None = None
    """certificate that it must show, PEM, where it signed its own; left out: one of the system's authorities"""

    def secrets(self) -> Iterator[SecretFile]:
        """Secret files, also its login."""
        if self.login is not None:
            yield SecretFile("login", self.login, secret_files.login_of)
        yield from super().secrets()

    def placed(self, folder: Path) -> Self:
        """Give the same with paths counted from a folder."""
        return _placed(super().placed(folder), folder, "login", "certificate")


class CallingController(PumpController):
    """pumps = [{ ... }] of a fuel island: a PTS-2 controller that calls the gateway, by WebSocket"""

    tag = "calling-controller"

    calls: Calls
    """how a controller proves itself that calls the gateway; give `address` instead for one that the gateway calls"""


def _placed(section: S, folder: Path, *keys: str) -> S:
    """Give a section with the paths under these keys counted from a folder."""
    paths = {key: getattr(section, key) for key in keys}
    return section.model_copy(update={key: path and folder / path for key, path in paths.items()})


def _way(link: object) -> str:
    """Tag of the section that a link of the file is to be read as."""
    if isinstance(link, PumpLink):
        return link.tag
    if not isinstance(link, Mapping) or link.get("dialect") != JSONPTS:
        return PumpLine.tag
    return CalledController.tag if "address" in link else CallingController.tag


AnyPumpLink = Annotated[
    Annotated[PumpLine, Tag(PumpLine.tag)]
    | Annotated[CalledController, Tag(CalledController.tag)]
    | Annotated[CallingController, Tag(CallingController.tag)],
    Discriminator(_way),
]
"""Any way to the pumps."""
