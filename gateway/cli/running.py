"""Running gateway, as the file tells that it keeps: whether there is one, and how to say that there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import age_text, now_utc
from gateway.cli.rights import need_right
from gateway.texts.catalogue import Words

if TYPE_CHECKING:
    from gateway.config import SiteFile
    from gateway.views.health import Health

START: Final = Words("status.etcgw-run-config-site-starts")


def health_at(site: SiteFile) -> Health:
    """Health of a site's gateway, running or not. Raises `CliFault` where none has ever run."""
    from gateway.model.clock import to_us
    from gateway.views.health import ForeignState, health_of

    path = site.storage.state
    need_right(path)
    try:
        return health_of(path, to_us(now_utc()))
    except FileNotFoundError as error:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "gateway_not_running",
            Words("status.not-running-no-file", path=path),
            Words("status.has-never-run-this-site"),
            START,
        ) from error
    except ForeignState as error:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "state_file_foreign",
            Words("status.no-state-file", path=path),
            Words("status.storage-state-names-another-programs"),
            Words("status.correct-storage-state-site-file"),
        ) from error


def not_running(health: Health, facts: Mapping[str, Any]) -> CliFault:
    """Fault of a gateway that does not run; `facts` are what its file says all the same."""
    return CliFault(
        ExitCode.UNAVAILABLE,
        "gateway_not_running",
        Words("status.not-running-since", age=age_text(health.age_s)),
        Words("status.was-stopped") if health.stopped else Words("status.killed-or-hangs"),
        START,
        facts=facts,
    )
