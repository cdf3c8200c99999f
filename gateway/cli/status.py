"""`etcgw status`: what works at a running gateway, from the file it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from gateway.cli import labels
from gateway.cli.columns import Column, Columns, said, show_table
from gateway.cli.errors import CliFault, ExitCode
from gateway.cli.options import ConfigOption, JsonOption, age_text, at_site, now_utc
from gateway.cli.rights import need_right
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Screen, Words

if TYPE_CHECKING:
    from gateway.views.health import Health, Part

_START: Final = Words("etcgw run --config SITE starts it", "用 etcgw run --config SITE 启动")


def status(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell whether the gateway runs and which parts of it do not work. Exit 3 when it does not run."""
    screen, site = at_site(context, config)
    health = _health(site.storage.state)
    facts = {**health.state, "running": health.running, "age_s": round(health.age_s, 3)}
    if not as_json:
        _show(screen, health)
    if not health.running:
        cause = (
            Words("it was stopped", "已正常停止")
            if health.stopped
            else Words("it was killed, or hangs", "已被强制终止或无响应")
        )
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "gateway_not_running",
            f"the gateway is not running; its last sign of life is {age_text(health.age_s)} old",
            cause,
            _START,
            facts=facts,
        )
    if as_json:
        screen.json(facts)


def _health(path: Path) -> Health:
    from gateway.model.clock import to_us
    from gateway.views.health import ForeignState, health_of

    need_right(path)
    try:
        return health_of(path, to_us(now_utc()))
    except FileNotFoundError as error:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "gateway_not_running",
            f"the gateway is not running: there is no {path}",
            Words("it has never run with this site file", "从未用该配置运行过"),
            _START,
        ) from error
    except ForeignState as error:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            "state_file_foreign",
            f"{path} is no state file of a gateway",
            Words("[storage] state names another program's file", "[storage] state 指向了其他程序的文件"),
            Words("correct [storage] state in the site file", "更正配置中的 [storage] state"),
        ) from error


def _show(screen: Screen, health: Health) -> None:
    say, state, age_s = screen.say, health.state, health.age_s
    pairs: list[tuple[str, str | Cell]] = [
        (say("Site", "站点"), f"{state.get('site', '')} ({state.get('mode', '')})"),
        (
            say("Gateway", "网关"),
            Cell(say("running", "运行中"), GOOD) if health.running else Cell(say("NOT RUNNING", "未运行"), BAD),
        ),
        (say("Process", "进程"), str(state.get("pid", ""))),
        (say("Written", "写入时间"), say(f"{age_text(age_s)} ago", f"{age_text(age_s)} 前")),
        (say("Parts", "部件"), _parts_summary(screen, health)),
    ]
    lag = state.get("loop_lag_ms") or {}
    if lag.get("p99") is not None:
        pairs.append((say("Loop lag", "循环延迟"), f"p50 {lag['p50']} ms, p99 {lag['p99']} ms, max {lag['max']} ms"))
    for name, backlog in sorted((state.get("outbox") or {}).items()):
        pairs.append((say(f"Outbox {name}", f"待发 {name}"), _backlog(screen, backlog, state["written_us"])))
    recovered = {k: v for k, v in (state.get("recovered_at_start") or {}).items() if v}
    if recovered:
        pairs.append((say("At start", "启动时"), ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in recovered.items())))
    restarts = {k: v for k, v in (state.get("restarts") or {}).items() if v}
    if restarts:
        pairs.append((say("Restarts", "重启"), ", ".join(f"{k} {v}" for k, v in sorted(restarts.items()))))
    screen.pairs(pairs)
    if health.parts:
        screen.line()
        # Failing parts first: that is what somebody came for.
        show_table(screen, PART, sorted(health.parts, key=lambda part: (part.works is not False, part.name)))


def _parts_summary(screen: Screen, health: Health) -> Cell:
    total, failing = len(health.parts), health.faults
    if not health.running:
        found = screen.say(f", {failing} with a fault", f",其中 {failing} 个有故障") if failing else ""
        return Cell(screen.say(f"none of {total} works{found}", f"{total} 个均已停止{found}"), BAD)
    if not failing:
        return Cell(screen.say(f"all {total} work", f"{total} 个全部正常"), GOOD)
    return Cell(screen.say(f"{failing} of {total} do not work", f"{total} 个中 {failing} 个不正常"), BAD)


def _backlog(screen: Screen, backlog: Mapping[str, Any], written_us: int) -> str:
    waiting, oldest = backlog.get("waiting", 0), backlog.get("oldest_us")
    if not waiting:
        return screen.say("empty", "无")
    age = "" if oldest is None else age_text((written_us - oldest) / 1e6)
    return screen.say(f"{waiting} waiting, the oldest for {age}", f"{waiting} 条待发,最早 {age} 前")


def _state(screen: Screen, works: bool | None) -> Cell:
    if works is None:
        return Cell(screen.say("stopped", "已停止"), DOUBTFUL)
    return Cell(screen.say("works", "正常"), GOOD) if works else Cell(screen.say("FAULT", "故障"), BAD)


def _known(screen: Screen, part: Part) -> str:
    reason = screen.say(part.en or "", part.zh or "")
    return f"{reason}: {part.cause}" if reason and part.cause else reason or part.cause or ""


def _step(screen: Screen, part: Part) -> str:
    return screen.say(part.next_step_en or "", part.next_step_zh or "") if part.works is False else ""


PART: Final[Columns[Part]] = (
    Column("name", Words("Part", "部件")),
    Column("works", labels.STATE, text=_state),
    Column("since_us", Words("Since", "自"), text=Screen.short, rank=1),
    said(Words("What is known", "情况"), _known, wrap_at=20),
    said(labels.NEXT_STEP, _step, wrap_at=14),
)
