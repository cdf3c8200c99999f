"""Assembly of a PTS-2 controller: the gateway calls it, or it calls the gateway."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.http_client import HttpClientConfig, LoginKind
from drivers.pts import PtsConfig
from drivers.pts_door import DialIn, PtsDoor
from drivers.pts_sides import PtsSides
from gateway import secret_files
from gateway.points.assemble import Common
from gateway.points.fuel.pump_links import CalledController, PumpController
from gateway.points.fuel.settings import SideSettings
from gateway.points.fuel.uploads import Uploads
from protocols.http_login import Login
from protocols.pump.types import Decimals, SideId


def make(
    point: str,
    device: str,
    link: PumpController,
    sides: Mapping[SideId, SideSettings],
    *,
    decimals: Decimals,
    common: Common,
) -> PtsSides:
    """Make the driver of a controller, and let it in where it calls. Raises `SecretError`."""
    config = PtsConfig(
        device=device,
        pts_id=link.pts_id,
        pumps=tuple(sides),
        decimals=decimals,
        http=_http(device, link) if isinstance(link, CalledController) else None,
    )
    uploads = Uploads(point, sides, common.writer, common.engine.new_id)
    driver = common.surroundings.device(
        device,
        lambda: PtsSides(
            config,
            clock=common.surroundings.clock,
            on_sale=uploads.take,
            on_condition=lambda works, cause: common.tell(device, works, cause, None if works else "pump_unavailable"),
        ),
    )
    calls = link.calls
    if calls is not None:
        known = DialIn(
            controller=driver.controller,
            secret=None if calls.secret is None else secret_files.text_of(f"{device}: secret", calls.secret),
            login=None if calls.login is None else secret_files.login_of(f"{device}: login", calls.login),
            sources=frozenset(calls.sources),
        )
        common.doors.at(PtsDoor).admit(known)
    return driver


def _http(device: str, link: CalledController) -> HttpClientConfig:
    login: Login | None = None if link.login is None else secret_files.login_of(f"{device}: login", link.login)
    return HttpClientConfig(
        device=device,
        address=link.address,
        login=login,
        login_kind=LoginKind(link.login_kind),
        certificate=link.certificate,
    )
