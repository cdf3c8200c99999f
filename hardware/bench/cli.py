"""`etcbench`: emulators, demo and measurements. Nothing here is part of the product."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from typer.core import TyperGroup

from gateway import private_files
from gateway.cli.errors import ExitCode
from gateway.cli.options import HELP_NAMES, show_version
from hardware.bench import lab_cli
from hardware.bench.processes import ProgramFailed

T = TypeVar("T")

PROGRAM: Final = "etcbench"


class Bench(TyperGroup):
    """The root command: what stands in the way of a run is told in a line, with exit code 3."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - types of the library's own copy of Click
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # The library takes a reader that left.
        except (OSError, ProgramFailed) as error:
            typer.echo(f"{PROGRAM}: {error}", err=True)
            raise typer.Exit(ExitCode.UNAVAILABLE) from error


app = typer.Typer(
    name=PROGRAM,
    cls=Bench,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=HELP_NAMES,
)


app.add_typer(lab_cli.app)


@app.callback()
def program(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Bench of etc-gateway: emulated devices, the demo, measurements."""


class StormLane(StrEnum):
    """Lanes a storm can strike: one of each generation."""

    NETWORK = "lane-1"
    SERIAL = "lane-4"


Folder = Annotated[
    Path | None, typer.Option(help="Folder for ledger, logs and captures; a new one under var/ unless given.")
]


@app.command()
def demo(
    folder: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Save the summary as an SVG picture.")] = None,
) -> None:
    """Drive the emulated site through its scenario; status 1 on any wrong decision or fen."""
    _check_place(picture)
    from hardware.bench.live import watch

    run = _run(watch(_folder(folder), quiet=as_json))
    if picture is not None:
        from hardware.bench.show import SUMMARY_COLUMNS, save_picture, summary

        save_picture(summary(run, SUMMARY_COLUMNS), picture, title="make run", columns=SUMMARY_COLUMNS)
    if as_json:
        from hardware.bench.report import as_dict

        typer.echo(json.dumps(as_dict(run), ensure_ascii=False))
    raise typer.Exit(0 if run.good else 1)


@app.command()
def serve(
    folder: Folder = None,
    *,
    bank_yesterday: Annotated[
        bool, typer.Option("--bank-yesterday", help="Let the bank's clock be a day behind: its day can be cleared.")
    ] = False,
) -> None:
    """Keep the emulated site running, with the demo's vehicles coming, until Ctrl-C, SIGTERM or the terminal's end."""
    from hardware.bench.live import serve as keep_serving

    _run(keep_serving(_folder(folder), bank_days_behind=1 if bank_yesterday else 0))


@app.command("day-file")
def day_file(
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the emulated site, running or not; the newest under var/.")
    ] = None,
    day: Annotated[str, typer.Option(metavar="YYYYMMDD", help="Settlement day, or yesterday.")] = "yesterday",
    out: Annotated[Path | None, typer.Option(help="File to write; beside the site file unless given.")] = None,
) -> None:
    """Write the day file of the emulated bank, and tell the command that clears the day with it."""
    from hardware.bench.clearing_day import write

    typer.echo(write(_newest() if folder is None else folder, day, out))


@app.command()
def storm(
    lane: Annotated[StormLane, typer.Option(help="Network (lane-1) or serial (lane-4).")] = StormLane.NETWORK,
    kills: Annotated[int, typer.Option(help="Kills at each of the five places.", min=1)] = 5,
    *,
    freezes: Annotated[bool, typer.Option("--freezes", help="Freeze programs for up to 7 s, too.")] = False,
    floods: Annotated[bool, typer.Option("--floods", help="Let bank and antennas flood their links, too.")] = False,
    seconds: Annotated[int, typer.Option(help="Least duration, with --freezes or --floods.", min=1)] = 600,
    seed: Annotated[int, typer.Option(help="Of what happens when, with --freezes or --floods.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    folder: Folder = None,
) -> None:
    """Kill the running gateway at five places of a passage, under traffic, and compare every account.

    With --freezes or --floods: three lanes under traffic, and kills, freezes and floods at moments a seed decides.
    """
    if freezes or floods:
        from hardware.bench.chaos import run_chaos

        def say(text: str) -> None:
            typer.echo(text, err=True)

        survived = _run(run_chaos(_folder(folder), freezes=freezes, floods=floods, seconds=seconds, seed=seed, say=say))
        typer.echo(json.dumps(survived.as_dict(), ensure_ascii=False) if as_json else survived.text())
        raise typer.Exit(0 if survived.good else 1)

    from hardware.bench.scenario import FROM
    from hardware.bench.storm import run_storm

    result = _run(run_storm(_folder(folder), wanted=kills, lane=lane, entry=FROM if lane is StormLane.SERIAL else None))
    typer.echo(json.dumps(result.as_dict(), ensure_ascii=False) if as_json else result.text())
    for problem in result.problems:
        typer.echo(f"WRONG {problem}", err=True)
    raise typer.Exit(0 if result.good else 1)


@app.command()
def endure(
    passages: Annotated[int, typer.Option(help="Vehicles over all lanes.", min=1)] = 200,
    rate: Annotated[float, typer.Option(help="Chance that a frame is hurt.", min=0.0, max=1.0)] = 0.05,
    seed: Annotated[int, typer.Option(help="Of every random thing on the lines.")] = 1,
    folder: Folder = None,
) -> None:
    """Drive vehicles over serial lines that hurt frames, and prove that no fen went wrong."""
    from hardware.bench.endurance import endure as run

    result = _run(run(_folder(folder), passages=passages, rate=rate, seed=seed))
    typer.echo(result.text())
    raise typer.Exit(0 if result.good else 1)


@app.command()
def fuel(
    *,
    kills: Annotated[
        int | None, typer.Option(help="Kill the gateway so often at each step of a sale; 5 is usual.", min=1)
    ] = None,
    times: Annotated[
        bool, typer.Option("--measure", help="Measure the time from the nozzle's return to the decision.")
    ] = False,
    sales: Annotated[int, typer.Option(help="Sales, with --measure.", min=1)] = 200,
    sides: Annotated[
        int | None, typer.Option(help="Measure what so many sides cost one gateway; each sells once.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with one of the above.")] = False,
    folder: Folder = None,
) -> None:
    """Fill cars up at an emulated island, and compare every litre and fen; status 1 when one is wrong.

    With --kills, --measure or --sides: that instead. With --measure status 1, too, when the p99 is not below 2 s.
    """
    if (kills is not None) + times + (sides is not None) > 1:
        raise typer.BadParameter("one at a time", param_hint="--kills, --measure, --sides")
    if as_json and kills is None and sides is None and not times:
        raise typer.BadParameter("goes with --kills, --measure or --sides", param_hint="--json")
    if kills is not None:
        from hardware.bench.forecourt_kills import run_kills

        killed = _run(run_kills(_folder(folder), partial(typer.echo, err=True), wanted=kills))
        typer.echo(json.dumps(killed.as_dict(), ensure_ascii=False) if as_json else killed.text())
        raise typer.Exit(0 if killed.good else 1)
    if times or sides is not None:
        from hardware.bench import forecourt_stream as stream

        if sides is not None and sides > stream.SIDES_MAX:
            raise typer.BadParameter(f"at most {stream.SIDES_MAX}", param_hint="--sides")
        here = _folder(folder)
        found = _run(
            stream.measure_times(here, sales=sales) if sides is None else stream.measure_sides(here, sides=sides)
        )
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False)) if as_json else found.show()
        raise typer.Exit(0 if found.good else 1)
    from hardware.bench.forecourt import drive

    raise typer.Exit(0 if _run(drive(_folder(folder), typer.echo)) else 1)


@app.command()
def simulate(
    *,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="The first of them.")] = 1,
    passages: Annotated[int, typer.Option(help="Vehicles through the lanes, each seed.", min=0)] = 200,
    debits: Annotated[int, typer.Option(help="Debits at the engine, each seed.", min=0)] = 1000,
    fillings: Annotated[int, typer.Option(help="Turns at the pumps of an island, each seed.", min=0)] = 40,
    workers: Annotated[int, typer.Option(help="Processes side by side.", min=1)] = 1,
    bug: Annotated[str | None, typer.Option("--plant", help="Plant this known bug in the gateway's code.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write the whole trace of a single seed here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run the gateway in virtual time among faults, and watch every promise; status 1 when one is broken."""
    from hardware.bench.simulation.report import simulate as go

    wanted = range(seed, seed + seeds)
    sizes = {"lanes": passages, "engine": debits, "fuel": fillings}
    good = go(wanted, sizes, workers=workers, bug=bug, trace=trace, as_json=as_json)
    raise typer.Exit(0 if good else 1)


@app.command()
def load(
    lanes: Annotated[str, typer.Option(help="Numbers of lanes, one run each, such as 1,16,64.")] = "16",
    every: Annotated[float, typer.Option(help="Seconds between two vehicles of a lane.", min=0.5)] = 4.0,
    seconds: Annotated[float, typer.Option(help="Duration of the traffic of a run.", min=1.0)] = 20.0,
    bank_every: Annotated[int, typer.Option(help="Every so many vehicles the bank is asked; 0: never.", min=0)] = 4,
    *,
    find: Annotated[bool, typer.Option("--find", help="Find the rates at which our p99 passes 50 and 200 ms.")] = False,
    find_seconds: Annotated[float, typer.Option(help="Duration of one try of --find.", min=1.0)] = 6.0,
    find_steps: Annotated[
        int, typer.Option(help="Rates --find tries between one that holds a limit and one that does not.", min=1, max=8)
    ] = 3,
    null: Annotated[bool, typer.Option("--null", help="Load the null gateway alone.")] = False,
    seed: Annotated[int, typer.Option(help="Of the moments at which vehicles come, and of their cards.")] = 1,
    picture: Annotated[Path | None, typer.Option(help="Save our share over the lanes as an SVG picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    folder: Folder = None,
) -> None:
    """Play many lanes against the gateway and a null gateway; status 1 when a vehicle was not charged exactly once."""
    _check_place(picture)
    from hardware.bench.load.report import load as go
    from hardware.bench.load.site import LANES_MAX

    try:
        wanted = [int(number) for number in lanes.split(",")]
    except ValueError:
        wanted = []
    if not wanted or not all(1 <= number <= LANES_MAX for number in wanted):
        raise typer.BadParameter(
            f"{lanes!r} is no list of numbers from 1 to {LANES_MAX} such as 1,16,64", param_hint="--lanes"
        )
    more = {"every_s": every, "seconds": seconds, "bank_every": bank_every, "seed": seed}
    more |= {"find": find, "find_s": find_seconds, "find_steps": find_steps}
    runs = _run(go(_folder(folder), wanted, null_only=null, picture=picture, as_json=as_json, **more))
    raise typer.Exit(0 if runs else 1)


@app.command()
def newcomer(
    folder: Annotated[
        Path | None, typer.Option(help="Folder to make the roots in, some 2 GB; that of temporary files unless given.")
    ] = None,
    *,
    without_test: Annotated[bool, typer.Option("--without-test", help="Leave out make test.")] = False,
) -> None:
    """Play a newcomer in bare Debian 12 roots: make run and make test, as root and as an ordinary user.

    Status 1 when something went wrong, 3 when this machine cannot play it.
    """
    from hardware.bench.newcomer import Skipped, play

    try:
        faults = _run(play(folder, with_test=not without_test, tell=typer.echo))
    except Skipped as reason:
        typer.echo(f"{PROGRAM}: skipped / 跳过: {reason}", err=True)
        raise typer.Exit(ExitCode.UNAVAILABLE) from reason
    raise typer.Exit(1 if faults else 0)


@app.command()
def measure(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debits: Annotated[int, typer.Option(min=1, help="Debits after which memory is looked at.")] = 1_000_000,
) -> None:
    """Performance as ratios against references measured in the same run."""
    from hardware.bench.measure import measure_all

    measure_all(as_json=as_json, debits=debits)


@app.command()
def grow(
    debits: Annotated[int, typer.Option(min=1, help="Debits of the ledger.")] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    folder: Folder = None,
) -> None:
    """Fill a ledger with a month of debits, measure a start and commands on it; the site stays for etcgw."""
    from hardware.bench import large, show
    from hardware.bench.measure import table_of

    rows = large.measure(_folder(folder), debits)
    typer.echo(json.dumps(rows)) if as_json else show.console().print(table_of("large ledger", rows))


@app.command()
def cards(
    profiles: lab_cli.ProfileFiles,
    *,
    state: Annotated[Path | None, typer.Option("--state", help="Folder of state files: the cards outlive us.")] = None,
    card: Annotated[list[str] | None, typer.Option("--card", help="Only these cards.")] = None,
    readers: Annotated[
        int | None, typer.Option("--readers", min=1, max=8, help="Readers, of two slots each; as many as cards need.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Keep emulated cards in readers of a card service of our own until Ctrl-C; lines on standard input move them.

    Prints the line to export first, so that etcgw readers and others see them. A fault is planned with a line such as
    fault car pull-after debit; all of them are told in hardware/emulators/card_faults.py.
    """
    from hardware.bench.card_desk import serve as keep_cards
    from hardware.bench.pcsc_daemon import ServiceFailed, ServiceMissing
    from hardware.emulators.card_store import StateError

    wanted = lab_cli.profiles_of(profiles, card)
    try:
        _run(keep_cards(wanted, state=state, readers=readers, as_json=as_json))
    except StateError as error:
        raise typer.BadParameter(str(error), param_hint="--state") from error
    except (ServiceMissing, ServiceFailed) as error:
        typer.echo(f"{PROGRAM}: {error}", err=True)
        raise typer.Exit(ExitCode.UNAVAILABLE) from error


def _check_place(picture: Path | None) -> None:
    """Refuse a picture that could not be saved after a run."""
    if picture is not None and not picture.resolve().parent.is_dir():
        raise typer.BadParameter(f"{picture.parent} is no folder", param_hint="--picture")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Do `work`. SIGTERM and SIGHUP call it off as Ctrl-C does: it takes down what it has set up. Status 128 + n."""
    came: list[signal.Signals] = []

    async def until_signal() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def call_off(number: signal.Signals) -> None:
            came.append(number)
            if number is signal.SIGHUP:
                _talk_to_nobody()
            if task is not None:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
                loop.add_signal_handler(number, call_off, number)
        return await work

    try:
        return asyncio.run(until_signal())
    except asyncio.CancelledError:
        if not came:
            raise
        raise typer.Exit(128 + came[0]) from None


def _talk_to_nobody() -> None:
    """The terminal is gone: what is still said must not fail on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


KEPT: Final = 3
"""Folders of runs under var/ that stay; a run takes some ten megabytes."""


def _newest() -> Path:
    """Folder of the newest run under var/."""
    runs = _runs(Path("var"))
    if not runs:
        raise typer.BadParameter(
            "there is no site under var/: run etcbench serve, or name a folder", param_hint="--folder"
        )
    return runs[0]


def _runs(base: Path) -> list[Path]:
    """Folders of runs, as `_folder` names them, the newest first."""
    return sorted(base.glob("site-????????/"), key=lambda folder: folder.stat().st_mtime, reverse=True)


def _folder(given: Path | None) -> Path:
    """Folder of this run, in use until this process ends, whichever way."""
    if given is None:
        base = Path("var")
        base.mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="site-", dir=base))
        _use(folder)
        _forget_old_runs(base)
    else:
        folder = given
        folder.mkdir(parents=True, exist_ok=True)
        _use(folder)
    return folder.resolve()


def _use(folder: Path) -> None:
    """Hold the folder: others know by this that it is in use."""
    fcntl.flock(os.open(folder, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)


def _forget_old_runs(base: Path) -> None:
    """Remove folders of runs but the newest; one that a running bench works in stays."""
    for folder in _runs(base)[KEPT:]:
        held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            continue
        finally:
            os.close(held)


def main() -> None:
    """Entry point."""
    private_files.make_private()
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
