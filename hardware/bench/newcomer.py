"""Newcomer: one who has a bare Debian 12 with python3 and make, this project, and the two commands of its README.

Two roots are made of the machine's own Debian source. In one an ordinary user is refused for want of Python's venv
module, has an administrator type the cure that the refusal names, and sees the run on a narrow and on a wide terminal
and through a pipe; tests without cards, and with them after the cure for that. In the other root does it alone. Each
command runs in namespaces of its own (processes, mounts): the kernel ends and unmounts all of it with the command,
whichever way that ends.

The roots get from this machine what leads to its registries: sources and proxies of apt, options of pip, resolver.
"""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import pty
import re
import shutil
import signal
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.cells import cell_len

from gateway.cli import labels
from gateway.cli.screen import Screen
from gateway.model.money import format_fen
from gateway.model.plate import mask
from gateway.model.reasons import REASONS
from gateway.texts.catalogue import Language
from hardware.bench import show
from hardware.bench.scenario import VEHICLES

PROJECT: Final = Path(__file__).parents[2]

SUITE: Final = "bookworm"
"""Debian 12, as its archive calls it."""

SCREEN_LINES: Final = 40
NARROW, WIDE = 80, 132
"""Columns of terminals; where there is none the bench takes the wide one's."""

RUN_S: Final = 1800.0
"""Longest time for anything but the tests: many packages over a slow line."""

TEST_S: Final = 4 * 3600.0
"""Longest time for all the tests on a slow machine."""

PROGRAMS: Final = ("apt-get", "chroot", "debootstrap", "git", "setsid", "unshare")
"""Programs of Debian that this needs."""

WAYS_OUT: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Environment that leads to registries."""

PIP_OPTIONS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout", "default-timeout")
"""Options of pip that lead to a registry. The newcomer has none of the others, and no package on disk."""

FOLDER: Final = "etc-gateway"
RUN: Final = f"cd {FOLDER} && make run"
TEST: Final = f"cd {FOLDER} && make test"
CARDS: Final = f"cd {FOLDER} && make setup-cards && .venv/bin/python -m pytest -q tests/hardware/test_pcsc_daemon.py"
WITHOUT_CARDS: Final = re.compile(r"SKIPPED .*(pyscard|apt-get install|/run/pcscd|smartcards)")
"""Line of pytest on tests that wanted cards and had none."""

ARCHIVE: Final = f"{FOLDER}.tar"
CERTIFICATE: Final = "registry.crt"

PROBE: Final = "iniconfig"
"""Package of some kilobytes, of those in requirements.lock: to see whether the registry answers."""

NAMESPACES: Final = (
    *("env", "--default-signal"),  # whoever starts this in the background has its children ignore Ctrl-C
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)

INSIDE: Final = """
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && cd / && chroot --userspec="$2" "$1" sh -c "$3"
exit $?
"""
"""Shell that sets up a root and runs a command in it; as the first process there it also reaps what others leave."""


class Skipped(Exception):
    """Machine that cannot play a newcomer; says why."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: its exit code, and what it wrote."""

    code: int
    output: str

    @property
    def last(self) -> str:
        """Last line written."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), f"exit code {self.code}")


@dataclass(frozen=True, slots=True)
class Person:
    """Person in a root."""

    root: Path
    name: str
    home: str

    async def type(self, command: str, *, columns: int | None = None, lang: str = "C", limit_s: float = RUN_S) -> Ended:
        """Have a command done at home, on a terminal of so many columns or through a pipe."""
        environment = {name: os.environ[name] for name in WAYS_OUT if name in os.environ} | {
            "HOME": self.home,
            "LANG": lang,
            "LOGNAME": self.name,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM": "xterm-256color",
        }
        inside = ("sh", "-c", INSIDE, "sh", str(self.root), self.name, f"cd ~ && {command}")
        return await ended(inside, environment=environment, columns=columns, limit_s=limit_s)


ACTS: Final[Mapping[str, Sequence[tuple[int | None, str]]]] = {
    "newcomer": ((NARROW, "C"), (WIDE, "zh_CN.UTF-8"), (None, "C")),
    "root": ((NARROW, "zh_CN.UTF-8"), (WIDE, "C"), (None, "zh_CN.UTF-8")),
}
"""Runs of each person: columns of the terminal, None for a pipe, and the language."""


async def ended(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    columns: int | None = None,
    limit_s: float = RUN_S,
) -> Ended:
    """Run a command, alone in its namespaces; on a terminal Enter is pressed at its first question."""
    reading, writing = os.pipe() if columns is None else pty.openpty()
    if columns is None:
        session, stdin = ["setsid"], asyncio.subprocess.DEVNULL
    else:
        session, stdin = ["setsid", "--ctty"], writing
        termios.tcsetwinsize(writing, (SCREEN_LINES, columns))
        os.write(reading, b"\n")
    output = asyncio.create_task(asyncio.to_thread(_all_of, reading))
    try:
        process = await asyncio.create_subprocess_exec(
            *session, *NAMESPACES, *command, stdin=stdin, stdout=writing, stderr=writing, env=environment
        )
    finally:
        os.close(writing)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await process.wait()
    finally:
        if process.returncode is None:
            _kill(process.pid)
        code, written = await process.wait(), await output
    return Ended(code, written.decode())


def _kill(pid: int) -> None:
    """Kill the first process in the namespaces, and with it all; `unshare` ends when they are gone."""
    first = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(first[0]) if first else pid, signal.SIGKILL)


def _all_of(descriptor: int) -> bytes:
    """Bytes written until the last writer is gone: a terminal tells that by an error."""
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(descriptor)
    return b"".join(parts)


def on_terminal(output: str) -> list[str]:
    """Lines that a terminal shows in the end: what was taken back is gone, a control not known here stays."""
    lines, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[?\d;]*[A-Za-z]|\r|\n)", output):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part == "\x1b[2K":
            lines[row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d*)A", part):
            row = max(0, row - int(up[1] or 1))
        elif not re.fullmatch(r"\x1b\[[?\d;]*[mhl]", part):  # colours, the cursor hidden and shown
            lines[row] = lines[row][:column] + part + lines[row][column + len(part) :]
            column += len(part)
    return lines if lines[-1] else lines[:-1]


def first_screen(lines: Sequence[str], language: Language) -> list[str]:
    """Lines of the run's one screen, without what the set-up wrote before it; none where there is no such screen."""
    screen = Screen(language)
    barrier, event = screen.word(labels.BARRIER), screen.word(show.EVENT)
    begins = (i for i, line in enumerate(lines) if line.startswith(barrier) and event in line)
    return list(lines[next(begins, len(lines)) :])


def faults_of_screen(lines: Sequence[str], columns: int, language: Language) -> list[str]:
    """Faults of the run's one screen: too much of it, a vehicle without its fare, or no word about why it paid none."""
    faults = [f"{len(lines)} lines, not {SCREEN_LINES}"] if len(lines) > SCREEN_LINES else []
    faults += [f"wider than {columns} columns: {line}" for line in lines if cell_len(line) > columns]
    text = " ".join(" ".join(lines).split())
    for vehicle in VEHICLES:
        *_, (_, _, reason) = vehicle.expected.decisions
        fare = f" {format_fen(vehicle.fare_fen)}" if vehicle.expected.charged else ""
        if mask(vehicle.plate_text) + fare not in text:
            faults.append(f"{vehicle.id} {vehicle.story}: nothing of its{fare or ' plate'}")
        if reason not in (None, "already_charged") and getattr(REASONS[reason], language) not in text:
            faults.append(f"{vehicle.id} {vehicle.story}: nothing of {reason}")
    return faults


def faults_of_run(run: Ended, *, columns: int | None, lang: str) -> list[str]:
    """Faults of `make run` as somebody saw it."""
    if run.code != 0:
        return [f"exit code {run.code}: {run.last}"]
    language = Language.of_environment({"LANG": lang})
    lines = run.output.splitlines() if columns is None else on_terminal(run.output)
    faults = [f"left for a terminal to obey: {line!r}" for line in lines if "\x1b" in line]
    return faults + faults_of_screen(first_screen(lines, language), columns or WIDE, language)


def cure_in(refusal: Ended) -> str | None:
    """Command that a refusal tells an administrator to type, as root types it, who needs no sudo; None: it has none."""
    found = re.search(r"'(sudo [^']+)'", refusal.output)
    return found and re.sub(r"\bsudo ", "", found[1])


def faults_of_refusal(run: Ended) -> list[str]:
    """Faults of what an ordinary user is told whose machine has no venv module."""
    faults = [] if run.code != 0 else ["done without Python's venv module"]
    return faults + ([] if cure_in(run) else [f"no cure in: {run.last}"])


def faults_of_cards(run: Ended, *, tested: bool) -> list[str]:
    """Faults where cards are tested, and where they are left out: that is told with its cure, and nothing fails."""
    skipped = [line for line in run.output.splitlines() if WITHOUT_CARDS.match(line)]
    if tested:
        return faults_of_code(run) + skipped
    faults = faults_of_code(run) + ([] if skipped else ["cards were tested, or nothing tells that they were not"])
    return faults + ([] if cure_in(run) else ["no cure for cards"])


def faults_of_code(run: Ended) -> list[str]:
    """Faults of a command of which no more is asked than to succeed."""
    return [] if run.code == 0 else [f"exit code {run.code}: {run.last}"]


class Play:
    """Newcomers at work in their roots, and what was found wrong."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.faults: list[str] = []
        self._folder = folder
        self._tell = tell

    async def perform(self, *, with_test: bool) -> None:
        """Make the roots, and have every command typed."""
        bare, beside = self._folder / "bare", self._folder / "beside"
        self._tell(f"making a bare root of Debian 12 / 正在创建 Debian 12 最小系统: {bare}")
        await _make_root(bare)
        await _must(await ended(["cp", "--archive", str(bare), str(beside)]))
        await self._ordinary_user(beside)
        shutil.rmtree(beside)
        root = Person(bare, "root", "/root")
        await _unpack(root)
        await self._runs(root)
        if with_test:
            await self._try(root, TEST, partial(faults_of_cards, tested=True), limit_s=TEST_S)

    async def _ordinary_user(self, beside: Path) -> None:
        """Have an ordinary user refused, the refusal's own cure typed by root, and the user try again."""
        root, user = Person(beside, "root", "/root"), Person(beside, "newcomer", "/home/newcomer")
        await _must(await root.type("useradd --create-home newcomer"))
        await _unpack(user)
        refusal = await self._try(user, RUN, faults_of_refusal, columns=NARROW)
        if cure := cure_in(refusal):
            await self._try(root, cure, faults_of_code, columns=NARROW)
        await self._runs(user)
        await self._cards_of(root, user)

    async def _cards_of(self, root: Person, user: Person) -> None:
        """Have an ordinary user test without cards, the cure typed by root, and the user set them up."""
        refusal = await self._try(user, CARDS, partial(faults_of_cards, tested=False))
        if cure := cure_in(refusal):
            await self._try(root, cure, faults_of_code, columns=NARROW)
        await self._try(root, "mkdir --parents /run/pcscd", faults_of_code)  # as the service's unit does elsewhere
        await self._try(user, CARDS, partial(faults_of_cards, tested=True))

    async def _runs(self, person: Person) -> None:
        for columns, lang in ACTS[person.name]:
            faults_of = partial(faults_of_run, columns=columns, lang=lang)
            await self._try(person, RUN, faults_of, columns=columns, lang=lang)

    async def _try(
        self,
        person: Person,
        command: str,
        faults_of: Callable[[Ended], list[str]],
        *,
        columns: int | None = None,
        lang: str = "C",
        limit_s: float = RUN_S,
    ) -> Ended:
        """Have a command typed, and tell how it went; after a fault all that it wrote, too."""
        where = "pipe / 管道" if columns is None else f"{columns} columns / 列"
        began = time.monotonic()
        run = await person.type(command, columns=columns, lang=lang, limit_s=limit_s)
        seconds = time.monotonic() - began
        faults = faults_of(run)
        self.faults += faults
        verdict = "WRONG / 不符" if faults else "ok / 符合"
        self._tell(f"{verdict}  {person.name}: {command} ({where}, LANG={lang}, {seconds:.0f} s)")
        if faults:
            self._tell("\n".join([*faults, run.output]))
        return run


async def play(place: Path | None, *, with_test: bool, tell: Callable[[str], None]) -> list[str]:
    """Play the newcomer in a folder below `place`, of which nothing stays; the faults."""
    await ensure_possible()
    private = os.umask(0o022)  # the roots are for all their users
    try:
        with tempfile.TemporaryDirectory(prefix="newcomer-", dir=place) as folder:
            newcomers = Play(Path(folder), tell)
            await newcomers.perform(with_test=with_test)
    finally:
        os.umask(private)
    return newcomers.faults


async def ensure_possible() -> None:
    """Refuse a machine on which no root can be made, or no registry reached."""
    if os.geteuid() != 0:
        raise Skipped("only root can make a root to play in / 只有 root 能创建最小系统")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise Skipped(f"not installed / 未安装: {', '.join(missing)}")
    alone = await ended(["true"])
    if alone.code != 0:
        raise Skipped(f"no namespaces here / 本机不支持命名空间: {alone.last}")
    if not _apt_sources(await _apt_targets()):
        raise Skipped(f"apt has no source of Debian 12 ({SUITE}) here / apt 没有 Debian 12 软件源")
    with tempfile.TemporaryDirectory() as folder:
        probe = ("download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", folder, PROBE)
        fetched = await ended([sys.executable, "-m", "pip", *probe])
    if fetched.code != 0:
        raise Skipped(f"pip reaches no registry / pip 无法访问软件源: {fetched.last}")


async def _make_root(at: Path) -> None:
    """Make a root with python3 and make and nothing else, not even lists of packages, that reaches the registries."""
    targets = await _apt_targets()
    mirror = next(uri for codename, _, _, uri in targets if codename == SUITE)
    debootstrap = ("debootstrap", "--variant=minbase", "--include=python3,make", SUITE, str(at), mirror)
    made = await ended(debootstrap)
    if made.code != 0:
        raise Skipped(f"no root could be made / 无法创建最小系统: {made.last}")
    etc = at / "etc"
    (etc / "apt/sources.list").write_text("\n".join(_apt_sources(targets)) + "\n")
    proxies = [await _must(await ended(["apt-config", "dump", f"Acquire::{scheme}"])) for scheme in ("http", "https")]
    (etc / "apt/apt.conf.d/90newcomer").write_text("".join(proxies))
    options = pip_options(await _must(await ended([sys.executable, "-m", "pip", "config", "list"])))
    if "cert" in options:
        # Not where it lies here: there Debian's own package of certificates writes, once it is installed.
        shutil.copyfile(options["cert"], at / CERTIFICATE)
        options["cert"] = f"/{CERTIFICATE}"
    (etc / "pip.conf").write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in options.items())]))
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{name}", etc / name)
    await _must(await Person(at, "root", "/root").type("apt-get clean && rm -r /var/lib/apt/lists/*"))
    await _must(await ended(["git", "-C", str(PROJECT), "archive", f"--output={at / ARCHIVE}", "HEAD"]))


async def _unpack(person: Person) -> None:
    await _must(await person.type(f"mkdir {FOLDER} && tar --extract --file /{ARCHIVE} --directory {FOLDER}"))


async def _apt_targets() -> list[list[str]]:
    """Codename, suite, component and address of every source of Debian packages that apt has here."""
    form = "$(ORIGIN) $(CODENAME) $(RELEASE) $(COMPONENT) $(REPO_URI)"
    told = await _must(await ended(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]))
    return [line.split()[1:] for line in told.splitlines() if line.startswith("Debian ")]


def _apt_sources(targets: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a sources.list with what is of Debian 12."""
    return [f"deb {uri} {suite} {component}" for codename, suite, component, uri in targets if SUITE in codename]


def pip_options(told: str) -> dict[str, str]:
    """Options that lead to a registry, of what `pip config list` tells; an index in a folder here is none of those."""
    options = {}
    for line in told.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        text = " ".join(part for part in ast.literal_eval(value).split() if not part.startswith("file:"))
        if name in PIP_OPTIONS and text:
            options[name] = text
    return options


async def _must(run: Ended) -> str:
    """Output of a command that only prepares; where it fails nothing can be said about the project."""
    if run.code != 0:
        raise Skipped(run.last)
    return run.output
