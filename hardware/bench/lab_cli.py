"""`etcbench lab`: cards personalised, bought with and recomputed, all with the published test keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from drivers.errors import DeviceError
from gateway.cli.card_reader import slot_of
from gateway.cli.errors import ExitCode, explain
from gateway.cli.screen import BAD, GOOD, Cell, Heading, Screen
from hardware.bench.show import screen_of_person
from hardware.bench.texts import Words, say
from hardware.emulators.control import utcnow_of_machine
from protocols.codings import CHINA_TIME
from protocols.errors import LocalProtocolError, ProtocolError
from protocols.masks import STARS, mask_number

if TYPE_CHECKING:
    from drivers.card_slot import CardSlot
    from hardware.bench.lab import LabPurchase, Purchase, Step
    from hardware.emulators.card_store import CardStore
    from hardware.emulators.chip import Chip
    from hardware.emulators.profiles import Profile
    from protocols.crypto import Algorithm

app = typer.Typer(name="lab", no_args_is_help=True)
"""Commands of the laboratory."""

BENCH_REGION: Final = "测试"

HEAD_BYTES: Final = 5
"""Class, instruction, P1, P2 and length of a command: they say nothing of anybody."""

SW_BYTES: Final = 2

_CHIPS: Final = {"card": Words("lab.who.card"), "psam": Words("lab.who.psam")}

_STEPS: Final = {
    "select": Words("lab.step.select"),
    "card-file": Words("lab.step.card-file"),
    "entry": Words("lab.step.entry"),
    "balance": Words("lab.step.balance"),
    "root": Words("lab.step.root"),
    "terminal": Words("lab.step.terminal"),
    "application": Words("lab.step.application"),
    "init": Words("lab.step.init"),
    "cache": Words("lab.step.cache"),
    "mac1": Words("lab.step.mac1"),
    "debit": Words("lab.step.debit"),
    "mac2": Words("lab.step.mac2"),
    "prove": Words("lab.step.prove"),
}

_FACTS: Final = {
    "amount_fen": Words("lab.amount_fen"),
    "terminal": Words("lab.terminal"),
    "serial": Words("lab.serial"),
    "time": Words("lab.time"),
    "card_number": Words("lab.card_number"),
    "algorithm": Words("lab.algorithm"),
}
"""Facts of a purchase by their JSON keys."""

_MAC_VERDICTS: Final = {
    "right": Words("lab.mac.right"),
    "wrong": Words("lab.mac.wrong"),
    "not_checked": Words("lab.mac.not_checked"),
}


class Cipher(StrEnum):
    """Cipher of a card's keys."""

    DES3 = "3des"
    SM4 = "sm4"


class Kind(StrEnum):
    """Kind of a purchase."""

    COMPOSITE = "composite"
    PURCHASE = "purchase"


ProfileFiles = Annotated[
    list[Path], typer.Argument(metavar="PROFILE", exists=True, dir_okay=False, help="Profile files of cards.")
]
StateOption = Annotated[Path, typer.Option("--state", help="Folder of the cards' state files.")]
AmountOption = Annotated[int, typer.Option("--amount-fen", min=0, max=0xFFFF_FFFF, help="Amount in fen.")]
TerminalOption = Annotated[str, typer.Option("--terminal", metavar="HEX", help="Terminal number, 6 bytes.")]
SerialOption = Annotated[
    int, typer.Option("--serial", min=0, max=0xFFFF_FFFF, help="Terminal transaction number of the PSAM.")
]
TimeOption = Annotated[str, typer.Option("--time", metavar="YYYYMMDDhhmmss", help="Time of the purchase.")]
NumberOption = Annotated[
    str, typer.Option("--card-number", metavar="DIGITS", help="Printed number (20 digits) or inner number (16).")
]
RegionOption = Annotated[str, typer.Option("--region", help="Two characters of the issuer's region, such as 湖南.")]
CipherOption = Annotated[Cipher, typer.Option("--algorithm", help="Cipher of the card's keys.")]
KindOption = Annotated[Kind, typer.Option("--type", help="Kind of the purchase.")]
GivenOption = Annotated[
    str | None, typer.Option("--given", metavar="HEX", help="Value to compare with; status 1 when it is another.")
]
RandomOption = Annotated[str, typer.Option("--random", metavar="HEX", help="The card's random of 8050, 4 bytes.")]
SequenceOption = Annotated[
    int, typer.Option("--sequence", min=0, max=0xFFFF, help="Offline sequence of 8050, before the purchase.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UnmaskOption = Annotated[bool, typer.Option("--unmask", help="Show plates and numbers whole.")]


@app.callback()
def lab() -> None:
    """Cards with the published test keys: personalise them, buy with them, recompute their MACs and TACs."""


@app.command()
def personalise(
    profiles: ProfileFiles,
    state: StateOption,
    *,
    card: Annotated[list[str] | None, typer.Option("--card", help="Only these cards.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the cards of profiles anew, as state files that `etcbench cards --state` goes on from."""
    from hardware.emulators.card_store import CardStore

    wanted = profiles_of(profiles, card)
    with CardStore(state) as store:
        for profile in wanted:
            store.personalise(profile)
    screen = screen_of_person()
    rows = [(one.name, one.kind, str(state / f"{one.name}.json")) for one in wanted]
    if as_json:
        screen.json({"cards": [dict(zip(("name", "kind", "file"), row, strict=True)) for row in rows]})
        return
    titles = (Words("lab.card"), Words("lab.kind"), Words("lab.file"))
    screen.table([Heading(screen.word(title)) for title in titles], rows)


@app.command()
def purchase(
    profiles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PROFILE", exists=True, dir_okay=False, help="Profile files of cards."),
    ] = None,
    *,
    card: Annotated[str, typer.Option("--card", help="Name of the user card in the profiles.")] = "car",
    sam: Annotated[
        str | None, typer.Option("--psam", help="Name of the PSAM in the profiles; one with both ciphers unless given.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option("--reader", help="Reader with the user card: its number, its name or a part of it.")
    ] = None,
    wait: Annotated[float, typer.Option("--wait", metavar="S", min=0, help="Seconds to wait for a card there.")] = 0.0,
    amount_fen: AmountOption = 1000,
    time: Annotated[
        str | None, typer.Option("--time", metavar="YYYYMMDDhhmmss", help="Time of the purchase; now unless given.")
    ] = None,
    state: Annotated[Path | None, typer.Option("--state", help="Folder of state files, to go on from.")] = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Buy with a card at an emulated PSAM, and recompute every MAC; status 1 when one is wrong or somebody refuses.

    The card is emulated in memory, or one with test keys in a reader. Shows each command and its answer; keys of card
    and session are not shown.
    """
    from hardware.bench.lab import LabPurchase, StepRefused
    from hardware.emulators.card_store import CardStore

    names = ([card] if reader is None else []) + ([] if sam is None else [sam])
    wanted = profiles_of(profiles or [], names)
    moment = time if time is not None else f"{utcnow_of_machine().astimezone(CHINA_TIME):%Y%m%d%H%M%S}"
    bought = LabPurchase(amount_fen, moment)
    refused = None
    with CardStore(state) if state is not None else nullcontext() as store:
        chips = [one.make() if store is None else inserted(store, one) for one in wanted]
        try:
            asyncio.run(_buy(bought, chips, reader, wait))
        except StepRefused as no:
            refused = no.sw
        except (ProtocolError, DeviceError) as error:
            _show_purchase(bought, None, as_json=as_json, unmask=unmask)
            raise fault(error) from error
    _show_purchase(bought, refused, as_json=as_json, unmask=unmask)
    raise typer.Exit(ExitCode.DONE if bought.good and refused is None else ExitCode.REFUSED)


async def _buy(bought: LabPurchase, chips: list[Chip], reader: str | None, wait_s: float) -> None:
    """Buy with the first chip, or the card in a reader, at the next chip or a PSAM of the bench."""
    from hardware.bench.chip_slot import ChipSlot
    from hardware.emulators.psam import Psam

    async with AsyncExitStack() as stack:
        card: CardSlot
        if reader is None:
            card = ChipSlot("card", chips.pop(0))
        else:
            card = await stack.enter_async_context(slot_of(reader, wait_s))
        await bought.run(card, ChipSlot("PSAM", chips[0] if chips else Psam(mode="bench")))


@app.command()
def tac(
    *,
    amount_fen: AmountOption,
    terminal: TerminalOption,
    serial: SerialOption,
    time: TimeOption,
    card_number: NumberOption,
    region: RegionOption = BENCH_REGION,
    algorithm: CipherOption = Cipher.DES3,
    kind: KindOption = Kind.COMPOSITE,
    given: GivenOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Recompute the TAC of a purchase from its facts."""
    facts = _facts(amount_fen, (terminal, serial, time), (card_number, region), algorithm, kind)
    _show_value("TAC", facts, _computed(lambda: facts.tac), given, as_json=as_json, unmask=unmask)


@app.command()
def mac1(
    *,
    amount_fen: AmountOption,
    terminal: TerminalOption,
    serial: SerialOption,
    time: TimeOption,
    card_number: NumberOption,
    random: RandomOption,
    sequence: SequenceOption,
    region: RegionOption = BENCH_REGION,
    algorithm: CipherOption = Cipher.DES3,
    kind: KindOption = Kind.COMPOSITE,
    given: GivenOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Recompute the MAC1 with which a PSAM authorises a purchase."""
    facts = _facts(amount_fen, (terminal, serial, time), (card_number, region), algorithm, kind)
    value = _computed(lambda: facts.macs(octets(random, "--random", 4), sequence)[0])
    _show_value("MAC1", facts, value, given, as_json=as_json, unmask=unmask)


@app.command()
def mac2(
    *,
    amount_fen: AmountOption,
    terminal: TerminalOption,
    serial: SerialOption,
    time: TimeOption,
    card_number: NumberOption,
    random: RandomOption,
    sequence: SequenceOption,
    region: RegionOption = BENCH_REGION,
    algorithm: CipherOption = Cipher.DES3,
    kind: KindOption = Kind.COMPOSITE,
    given: GivenOption = None,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Recompute the MAC2 with which a card tells a PSAM that it has debited."""
    facts = _facts(amount_fen, (terminal, serial, time), (card_number, region), algorithm, kind)
    value = _computed(lambda: facts.macs(octets(random, "--random", 4), sequence)[1])
    _show_value("MAC2", facts, value, given, as_json=as_json, unmask=unmask)


@app.command()
def vehicle(
    *,
    cipher: Annotated[str, typer.Option("--cipher", metavar="HEX", help="Answer of the tag, encrypted.")],
    random: Annotated[str, typer.Option("--random", metavar="HEX", help="Random it was asked with, 8 bytes.")],
    contract: Annotated[str, typer.Option("--contract", metavar="DIGITS", help="Contract serial, 16 digits.")],
    region: RegionOption = BENCH_REGION,
    algorithm: CipherOption = Cipher.DES3,
    as_json: JsonOption = False,
    unmask: UnmaskOption = False,
) -> None:
    """Decrypt the vehicle file of a tag and check its MAC; status 5 when the test keys do not open it."""
    from hardware.bench.lab import open_vehicle_file
    from protocols.crypto import MacVerdict
    from protocols.obu import describe_vehicle_file

    try:
        opened = open_vehicle_file(
            octets(cipher, "--cipher"),
            octets(random, "--random", 8),
            digits(contract, "--contract", 16),
            _region_factor(region),
            _algorithm(algorithm),
        )
    except ProtocolError as error:
        raise fault(error) from error
    screen = screen_of_person()
    rows = describe_vehicle_file(opened.data, unmask=unmask)
    if as_json:
        fields = [{"name": row.name, "value": row.value, "meaning": row.meaning} for row in rows]
        screen.json({"mac": opened.verdict.value, "fields": fields})
    else:
        columns = [Heading(say(screen, "lab.field")), Heading(say(screen, "lab.value"))]
        screen.table(columns, [(row.name, row.value) for row in rows])
        screen.line(
            screen.word(_MAC_VERDICTS[opened.verdict.value]), GOOD if opened.verdict is MacVerdict.RIGHT else BAD
        )
    raise typer.Exit(ExitCode.REFUSED if opened.verdict is MacVerdict.WRONG else ExitCode.DONE)


def profiles_of(paths: Sequence[Path], names: Iterable[str] | None = None) -> list[Profile]:
    """Cards of profile files, or those with these names. What is wrong ends the command with status 2."""
    from hardware.emulators.profiles import ProfileError, load

    found: dict[str, Profile] = {}
    for path in paths:
        try:
            loaded = load(path)
        except ProfileError as error:
            raise typer.BadParameter(f"\n{error}", param_hint="PROFILE") from error
        twice = found.keys() & loaded.keys()
        if twice:
            names_twice = ", ".join(sorted(twice))
            raise typer.BadParameter(f"{path}: {names_twice}: in another file too, rename one", param_hint="PROFILE")
        found |= loaded
    if names is None:
        return list(found.values())
    for name in names:
        if name not in found:
            raise typer.BadParameter(f"no card {name} here: {', '.join(found)}", param_hint="--card, --psam")
    return [found[name] for name in names]


def inserted(store: CardStore, profile: Profile) -> Chip:
    """Card of a profile as it was left. A state that is not its own ends the command with status 2."""
    from hardware.emulators.card_store import StateError

    try:
        return store.insert(profile)
    except StateError as error:
        raise typer.BadParameter(str(error), param_hint="--state") from error


def octets(text: str, option: str, length: int | None = None) -> bytes:
    """Bytes of an option."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if not found or length not in (None, len(found)):
        raise typer.BadParameter(
            f"write {'' if length is None else f'{length} '}bytes in hexadecimal", param_hint=option
        )
    return found


def digits(text: str, option: str, length: int) -> bytes:
    """BCD of an option with so many digits."""
    if re.fullmatch(f"[0-9]{{{length}}}", text) is None:
        raise typer.BadParameter(f"write {length} digits", param_hint=option)
    return bytes.fromhex(text)


def fault(error: ProtocolError | DeviceError) -> typer.Exit:
    """Tell an error, and the end of the command: status 2 for bytes that we were told to send, else as `etcgw` does."""
    typer.echo(f"etcbench: {error}", err=True)
    return typer.Exit(ExitCode.USAGE if isinstance(error, LocalProtocolError) else explain(error).code)


def _algorithm(cipher: Cipher) -> Algorithm:
    from protocols.crypto import Algorithm

    return Algorithm.DES3 if cipher is Cipher.DES3 else Algorithm.SM4


def _region_factor(text: str) -> bytes:
    """Diversification factor of a region's text."""
    from protocols.regions import REGION_BYTES

    try:
        found = text.encode("gbk")
    except UnicodeEncodeError:
        found = b""
    if len(found) != REGION_BYTES:
        raise typer.BadParameter("write the two characters at the head of the issuer id", param_hint="--region")
    return found * 2


def _facts(
    amount_fen: int, sale: tuple[str, int, str], card: tuple[str, str], algorithm: Cipher, kind: Kind
) -> Purchase:
    """Facts of a purchase from options: terminal, serial and time; number and region of the card."""
    from hardware.bench.lab import Purchase
    from protocols.card.codes import TradeType
    from protocols.crypto import Trade

    (terminal, serial, time), (number, region) = sale, card
    trade_type = TradeType.COMPOSITE if kind is Kind.COMPOSITE else TradeType.PURCHASE
    inner = number[-16:] if len(number) == 20 else number
    return Purchase(
        trade=Trade(amount_fen, trade_type, octets(terminal, "--terminal", 6)),
        terminal_serial=serial,
        time=time,
        inner_number=digits(inner, "--card-number", 16),
        region=_region_factor(region),
        algorithm=_algorithm(algorithm),
    )


def _show_value(name: str, facts: Purchase, value: bytes, given: str | None, *, as_json: bool, unmask: bool) -> None:
    """Show a recomputed value beside the one that was given; status 1 when they differ."""
    screen = screen_of_person()
    other = None if given is None else octets(given, "--given", len(value))
    same = None if other is None else other == value
    number = facts.inner_number.hex()
    shown: dict[str, Any] = {
        "what": name,
        "value": value.hex().upper(),
        "given": None if other is None else other.hex().upper(),
        "same": same,
        "amount_fen": facts.trade.amount_fen,
        "terminal": facts.trade.terminal.hex().upper(),
        "serial": facts.terminal_serial,
        "time": facts.time,
        "card_number": number if unmask else mask_number(number),
        "algorithm": facts.algorithm.title,
    }
    if as_json:
        screen.json(shown)
    else:
        pairs: list[tuple[str, str | Cell]] = [(screen.word(words), str(shown[key])) for key, words in _FACTS.items()]
        pairs.append((name, shown["value"]))
        if same is not None:
            pairs.append((say(screen, "lab.given"), Cell(shown["given"], GOOD if same else BAD)))
            verdict = say(screen, "lab.same") if same else say(screen, "lab.different")
            pairs.append((say(screen, "lab.verdict"), Cell(verdict, GOOD if same else BAD)))
        screen.pairs(pairs)
    raise typer.Exit(ExitCode.REFUSED if same is False else ExitCode.DONE)


def _show_purchase(bought: LabPurchase, refused: int | None, *, as_json: bool, unmask: bool) -> None:
    screen = screen_of_person()
    number = bought.card_file.card_number if bought.card_file is not None else ""
    shown = number if unmask else mask_number(number)
    if as_json:
        screen.json(
            {
                "card_number": shown,
                "amount_fen": bought.amount_fen,
                "time": bought.time,
                "debited": bought.debited,
                "good": bought.good,
                "refused": None if refused is None else f"{refused:04X}",
                "balance_before": bought.balance_before,
                "balance_after": bought.balance_after,
                "checks": [
                    {
                        "what": check.what,
                        "given": check.given.hex().upper(),
                        "computed": check.computed.hex().upper(),
                        "same": check.same,
                    }
                    for check in bought.checks
                ],
                "steps": [
                    {
                        "who": step.who,
                        "what": step.what,
                        "command": _sent(step, unmask=unmask),
                        "response": _came(step, unmask=unmask),
                    }
                    for step in bought.steps
                ],
            }
        )
        return
    columns = [Heading("#", right=True), Heading(say(screen, "lab.step")), Heading("APDU", wrap_at=30)]
    rows: list[Sequence[str | Cell]] = []
    for place, step in enumerate(bought.steps, 1):
        what = f"{screen.word(_CHIPS[step.who])}: {screen.word(_STEPS[step.what])}"
        rows += [
            (str(place), what, f"> {_sent(step, unmask=unmask)}"),
            ("", "", f"< {_came(step, unmask=unmask)}"),
        ]
    screen.table(columns, rows)
    screen.line()
    screen.pairs([(say(screen, "lab.card_number"), shown), *_balances(screen, bought)])
    for check in bought.checks:
        given, computed = check.given.hex().upper(), check.computed.hex().upper()
        right = say(screen, "lab.check-right", what=check.what, given=given)
        wrong = say(screen, "lab.check-wrong", what=check.what, given=given, computed=computed)
        screen.line(right if check.same else wrong, GOOD if check.same else BAD)
    if refused is not None:
        screen.line(say(screen, "lab.refused", sw=f"{refused:04X}"), BAD)
    debited = say(screen, "lab.debited") if bought.debited else say(screen, "lab.not-debited")
    screen.line(debited, GOOD if bought.good else BAD)


def _balances(screen: Screen, bought: LabPurchase) -> Iterable[tuple[str, str]]:
    if bought.balance_before is not None:
        yield say(screen, "lab.balance-before"), str(bought.balance_before)
    if bought.balance_after is not None:
        yield say(screen, "lab.balance-after"), str(bought.balance_after)


def _sent(step: Step, *, unmask: bool) -> str:
    """Bytes of a command; of one that tells whose card it is, the head."""
    shown = step.command if unmask or not step.private else step.command[:HEAD_BYTES]
    return shown.hex().upper() + (STARS if len(shown) < len(step.command) else "")


def _came(step: Step, *, unmask: bool) -> str:
    """Bytes of an answer; of one that tells whose card it is, the status word."""
    shown = step.response if unmask or not step.private else step.response[-SW_BYTES:]
    return (STARS if len(shown) < len(step.response) else "") + shown.hex().upper()


def _computed(compute: Callable[[], bytes]) -> bytes:
    """Value that follows from options; ends the command where they cannot be said to a card."""
    try:
        return compute()
    except ProtocolError as error:
        raise fault(error) from error
