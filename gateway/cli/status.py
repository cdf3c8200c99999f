"""`etcgw status`: what works at a running gateway, from the file it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import typer

from gateway.cli import labels
from gateway.cli.columns import Column, Columns, said, show_table
from gateway.cli.help import Commands
from gateway.cli.options import ConfigOption, JsonOption, age_text, at_site
from gateway.cli.running import health_at, not_running
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Screen
from gateway.texts.catalogue import Pair, Words
from gateway.texts.foreign import text_of

if TYPE_CHECKING:
    from gateway.views.health import Health, Part

app = Commands("status")


@app.command("status")
def status(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell whether the gateway runs and which parts of it do not work. Exit 3 when it does not run."""
    screen, site = at_site(context, config)
    health = health_at(site)
    facts = {**health.state, "running": health.running, "age_s": round(health.age_s, 3)}
    if not as_json:
        _show(screen, health)
    if not health.running:
        raise not_running(health, facts)
    if as_json:
        screen.json(facts)


def _show(screen: Screen, health: Health) -> None:
    say, state, age_s = screen.say, health.state, health.age_s
    pairs: list[tuple[str, str | Cell]] = [
        (say("check.site"), f"{state.get('site', '')} ({state.get('mode', '')})"),
        (
            say("status.gateway"),
            Cell(say("status.running"), GOOD) if health.running else Cell(say("status.not-running"), BAD),
        ),
        (say("status.process"), str(state.get("pid", ""))),
        (say("status.written"), say("status.ago", age_text=age_text(age_s))),
        (say("status.parts"), _parts_summary(screen, health)),
    ]
    lag = state.get("loop_lag_ms") or {}
    if lag.get("p99") is not None:
        pairs.append((say("status.loop-lag"), f"p50 {lag['p50']} ms, p99 {lag['p99']} ms, max {lag['max']} ms"))
    for name, backlog in sorted((state.get("outbox") or {}).items()):
        pairs.append((say("status.outbox", name=name), _backlog(screen, backlog, state["written_us"])))
    recovered = {k: v for k, v in (state.get("recovered_at_start") or {}).items() if v}
    if recovered:
        counts = (f"{count} {screen.word(text_of(name.replace('_', ' ')))}" for name, count in recovered.items())
        pairs.append((say("status.start"), ", ".join(counts)))
    restarts = {k: v for k, v in (state.get("restarts") or {}).items() if v}
    if restarts:
        pairs.append((say("status.restarts"), ", ".join(f"{k} {v}" for k, v in sorted(restarts.items()))))
    screen.pairs(pairs)
    if health.parts:
        screen.line()
        # Failing parts first: that is what somebody came for.
        show_table(screen, PART, sorted(health.parts, key=lambda part: (part.works is not False, part.name)))


def _parts_summary(screen: Screen, health: Health) -> Cell:
    total, failing = len(health.parts), health.faults
    if not health.running:
        found = screen.say("status.count-with-fault", failing=failing) if failing else ""
        return Cell(screen.say("status.none-works", total=total, found=found), BAD)
    if not failing:
        return Cell(screen.say("status.all-work", total=total), GOOD)
    return Cell(screen.say("status.do-not-work", failing=failing, total=total), BAD)


def _backlog(screen: Screen, backlog: Mapping[str, Any], written_us: int) -> str:
    waiting, oldest = backlog.get("waiting", 0), backlog.get("oldest_us")
    if not waiting:
        return screen.say("status.empty")
    age = "" if oldest is None else age_text((written_us - oldest) / 1e6)
    return screen.say("status.waiting-oldest", waiting=waiting, age=age)


def _state(screen: Screen, works: bool | None) -> Cell:
    if works is None:
        return Cell(screen.say("status.stopped"), DOUBTFUL)
    return Cell(screen.say("status.works"), GOOD) if works else Cell(screen.say("status.fault"), BAD)


def _known(screen: Screen, part: Part) -> str:
    reason = screen.word(Pair(part.en or "", part.zh or ""))
    cause = screen.word(text_of(part.cause or ""))
    return f"{reason}: {cause}" if reason and cause else reason or cause


def _step(screen: Screen, part: Part) -> str:
    return screen.word(Pair(part.next_step_en or "", part.next_step_zh or "")) if part.works is False else ""


PART: Final[Columns[Part]] = (
    Column("name", Words("label.part")),
    Column("works", labels.STATE, text=_state),
    Column("since_us", Words("label.since"), text=Screen.short, rank=1),
    said(Words("label.known"), _known, wrap_at=20),
    said(labels.NEXT_STEP, _step, wrap_at=14),
)
