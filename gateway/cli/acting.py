"""Acts of a command: done by the running gateway, or where none runs by the command, on the gateway's ledger."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.errors import CliFault, ExitCode, refusal
from gateway.cli.running import START
from gateway.cli.store import change_ledger
from gateway.texts.catalogue import Pair, Words
from gateway.texts.foreign import text_of

if TYPE_CHECKING:
    from gateway.acts.acts import Act
    from gateway.config import SiteFile

ANSWERED_WITHIN_S: Final = 15.0
"""A gateway whose disk is busy stores an act within seconds."""


def act_on(site: SiteFile, act: Act, *, only_running: bool = False) -> dict[str, Any]:
    """Have an act done in the name of the account that runs this command; returns its facts. Raises `CliFault`.

    `only_running`: for what only a running gateway can follow; where none runs, it is not done.
    """
    from gateway.acts.actor import of_this_process
    from gateway.acts.acts import Refused
    from gateway.acts.doing import change_of, terms_of

    asked = _ask(site, act)
    if asked is None and only_running:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "gateway_not_running",
            Words("acting.no-gateway"),
            Words("acting.nobody-would-follow"),
            START,
        )
    if asked is None:
        try:
            change = change_of(act, of_this_process(), terms_of(site), site.people.groups)
            return dict(change_ledger(site, change))
        except Refused as refused:
            raise refusal(refused.code, refused.what) from refused
    if "refused" in asked:
        what = str(asked.get("what", ""))
        raise refusal(str(asked["refused"]), Pair(what, str(asked.get("what_zh", what))))
    failed = asked.get("failed")
    if "done" not in asked:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "gateway_failed",
            Words("acting.not-done", failed=text_of(str(failed)) if failed else Words("acting.says-nothing")),
            None,
            Words("acting.etcgw-status-config-site-tells"),
        )
    return dict(asked["done"])


def _ask(site: SiteFile, act: Act) -> dict[str, Any] | None:
    """Answer of the running gateway; None where none runs."""
    from gateway.acts.desk import reachable

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as desk:
        desk.settimeout(ANSWERED_WITHIN_S)
        try:
            with reachable(site.people.socket) as short:
                desk.connect(short)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise _closed(site) from error
        try:
            desk.sendall(act.model_dump_json().encode() + b"\n")
            with desk.makefile("rb") as answers:
                answer = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise CliFault(
                ExitCode.UNKNOWN,
                "no_answer",
                Words("acting.not-answered", error=type(error).__name__),
                Words("acting.may-have-been-done-or"),
                Words("acting.look-about-before-you-ask"),
            ) from error
    return answer if isinstance(answer, dict) else {}


def _closed(site: SiteFile) -> CliFault:
    return CliFault(
        ExitCode.UNAVAILABLE,
        "not_permitted",
        Words("acting.socket-closed", socket=site.people.socket),
        Words("acting.no-group-has-role-here"),
        Words("acting.people-site-file-names-socket"),
    )
