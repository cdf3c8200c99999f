"""`etcgw status`: what works at a running gateway, from the file it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timezone
from pathlib import Path
from typing import Any, Final

import typer

from gateway.cli import labels
from gateway.cli.exits import CliFault, ExitCode
from gateway.cli.options import ConfigOption, JsonOption, age_text, now_utc, screen_of, short, site_of, zone_of
from gateway.cli.rights import need_right
from gateway.cli.screen import BAD, DOUBTFUL, GOOD, Cell, Column, Language, Screen, Words

AGE_MAX_S: Final = 5.0
"""A gateway renews its file every second; five missed renewals mean that it hangs or is gone."""

_START: Final = Words("etcgw run --config SITE starts it", "用 etcgw run --config SITE 启动")


def status(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell whether the gateway runs and which parts of it do not work. Exit 3 when it does not run."""
    screen = screen_of(context)
    site = site_of(context, config)
    state = _read(site.storage.state)
    age_s = now_utc().timestamp() - state["written_us"] / 1e6
    # A file from the future is as good as none: the clock was set back, and nobody renewed the file since.
    running = bool(state["running"]) and abs(age_s) <= AGE_MAX_S
    if not running:
        state |= {"works": False, "parts": {name: _stopped(part) for name, part in state["parts"].items()}}
    if as_json:
        screen.json({**state, "running": running, "age_s": round(age_s, 3)})
    else:
        _show(screen, state, zone_of(site), running=running, age_s=age_s)
    if not running:
        cause = (
            Words("it was stopped", "已正常停止")
            if not state["running"]
            else Words("it was killed, or hangs", "已被强制终止或无响应")
        )
        raise CliFault(
            ExitCode.UNAVAILABLE,
            f"the gateway is not running; its last sign of life is {age_text(age_s)} old",
            cause,
            _START,
        )


def _stopped(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a gateway that does not run: what worked does nothing now, what was at fault may be so still."""
    return {**part, "works": None} if part["works"] else part


def _read(path: Path) -> dict[str, Any]:
    need_right(path)
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(state["written_us"], int) and isinstance(state["parts"], dict) and "running" in state
    except FileNotFoundError as error:
        raise CliFault(
            ExitCode.UNAVAILABLE,
            f"the gateway is not running: there is no {path}",
            Words("it has never run with this site file", "从未用该配置运行过"),
            _START,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(path) from error
    if not known:
        raise _foreign(path)
    return dict(state)


def _foreign(path: Path) -> CliFault:
    return CliFault(
        ExitCode.UNAVAILABLE,
        f"{path} is no state file of a gateway",
        Words("[storage] state names another program's file", "[storage] state 指向了其他程序的文件"),
        Words("correct [storage] state in the site file", "更正配置中的 [storage] state"),
    )


def _show(screen: Screen, state: Mapping[str, Any], zone: timezone, *, running: bool, age_s: float) -> None:
    say = screen.say
    parts: Mapping[str, Mapping[str, Any]] = state["parts"]
    failing = [name for name, part in parts.items() if part["works"] is False]
    pairs: list[tuple[str, str | Cell]] = [
        (say("Site", "站点"), f"{state.get('site', '')} ({state.get('mode', '')})"),
        (
            say("Gateway", "网关"),
            Cell(say("running", "运行中"), GOOD) if running else Cell(say("NOT RUNNING", "未运行"), BAD),
        ),
        (say("Process", "进程"), str(state.get("pid", ""))),
        (say("Written", "写入时间"), say(f"{age_text(age_s)} ago", f"{age_text(age_s)} 前")),
        (say("Parts", "部件"), _parts_summary(screen, len(parts), len(failing), running=running)),
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
    if parts:
        screen.line()
        _show_parts(screen, parts, zone)


def _parts_summary(screen: Screen, total: int, failing: int, *, running: bool) -> Cell:
    if not running:
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


def _show_parts(screen: Screen, parts: Mapping[str, Mapping[str, Any]], zone: timezone) -> None:
    """Failing parts first: that is what somebody came for."""
    say = screen.say
    columns = [
        Column(say("Part", "部件")),
        Column(say(*labels.STATE)),
        Column(say("Since", "自"), rank=1),
        Column(say("What is known", "情况"), wrap_at=20),
        Column(say(*labels.NEXT_STEP), wrap_at=14),
    ]
    rows: list[list[str | Cell]] = []
    for name, part in sorted(parts.items(), key=lambda item: (item[1]["works"] is not False, item[0])):
        reason, step = (
            (part.get("zh"), part.get("next_step_zh"))
            if screen.language is Language.ZH
            else (part.get("en"), part.get("next_step_en"))
        )
        cause = part.get("cause") or ""
        known = f"{reason}: {cause}" if reason and cause else reason or cause
        state = _state(screen, part["works"])
        failed = part["works"] is False
        rows.append([name, state, short(part.get("since_us"), zone), known, step or "" if failed else ""])
    screen.table(columns, rows)
