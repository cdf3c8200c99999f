"""Ends of a command: exit codes, and the one place that turns errors into a code and three sentences for people.

What a file handed to a command says (mandates, a list delivery, a tariff) is refused with 1; what the site file says
with 2. A ledger that cannot be opened is a device that is not available (3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from drivers.errors import DeviceError, RequestOutcome
from gateway.cli.screen import Screen
from gateway.texts.catalogue import Pair, Text, Words
from gateway.texts.foreign import text_of, text_of_error
from protocols.errors import ProtocolError

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

    from gateway.clearing.bank_file import BankFileError
    from gateway.clearing.day import ClearingRefused
    from gateway.clearing.rules import ClearingRulesError
    from gateway.config import ConfigError
    from gateway.ledger.chain_key_files import ChainKeyError
    from gateway.ledger.incarnation import LedgerRefused
    from gateway.payers.mandates import MandateImportError
    from gateway.payers.status_list_build import DropUnconfirmed
    from gateway.rules.loading import RulesError
    from gateway.secret_files import SecretError
    from gateway.text_files import NotText


class ExitCode(IntEnum):
    """Exit code, with one meaning for every command."""

    DONE = 0
    REFUSED = 1
    """Tag, card, list, file or ledger said no."""
    USAGE = 2
    """The command line or the site file is wrong."""
    UNAVAILABLE = 3
    """A device, the gateway or the ledger is not there."""
    UNKNOWN = 4
    """No answer in time: what was asked for may have happened."""
    PROTOCOL = 5
    """The peer's bytes break the protocol."""
    BUG = 70
    """Our own mistake."""
    INTERRUPTED = 130
    """Ctrl-C, as shells tell it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error for people: what happened, why that is likely, what to try next; and its stable name for programs."""

    code: ExitCode
    name: str
    what: str | Text
    likely: Text | None = None
    next_step: Text | None = None
    more: tuple[str | Text, ...] = ()
    """Lines on what else happened: files have many problems at once."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON of the command, where it has found out something all the same."""

    def error(self, screen: Screen) -> dict[str, str | None]:
        """The error for programs."""
        next_step = None if self.next_step is None else screen.word(self.next_step)
        return {"code": self.name, "text": "\n".join(self.lines(screen)), "next": next_step}

    def lines(self, screen: Screen) -> list[str]:
        """Lines on what happened."""
        return [text if isinstance(text, str) else screen.word(text) for text in (self.what, *self.more)]


class CliFault(Exception):
    """A command cannot go on, and knows why."""

    def __init__(
        self,
        code: ExitCode,
        name: str,
        what: str | Text,
        likely: Text | None = None,
        next_step: Text | None = None,
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.fault = Fault(code, name, what, likely, next_step, facts=facts or {})
        super().__init__(str(what))


def explain(error: Exception) -> Fault:
    """Fault of an error. An error that is not foreseen here is our own mistake."""
    if isinstance(error, CliFault):
        return error.fault
    if isinstance(error, DeviceError):
        return _device(error)
    if isinstance(error, ProtocolError):
        return _protocol(error)
    # The other classes live in heavy modules. They are known by name, so that reporting an error imports none of them.
    for kind in type(error).__mro__:
        handler = HANDLERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if handler is not None:
            return handler(error)
    return Fault(
        ExitCode.BUG,
        "bug",
        f"{type(error).__name__}: {error}".replace("\n", " "),
        Words("errors.mistake-etcgw-itself"),
        Words("errors.run-same-command-as-etcgw"),
    )


_DEVICE_CODES: Final = MappingProxyType(
    {
        RequestOutcome.NOT_SENT: ExitCode.UNAVAILABLE,
        RequestOutcome.REFUSED: ExitCode.REFUSED,
        RequestOutcome.UNKNOWN: ExitCode.UNKNOWN,
    }
)
_DEVICE_NAMES: Final = MappingProxyType(
    {
        RequestOutcome.NOT_SENT: "device_unavailable",
        RequestOutcome.REFUSED: "device_refused",
        RequestOutcome.UNKNOWN: "no_answer",
    }
)
_DEVICE_LIKELY: Final = MappingProxyType(
    {
        RequestOutcome.NOT_SENT: Words("errors.device_likely.not_sent"),
        RequestOutcome.REFUSED: Words("errors.device_likely.refused"),
        RequestOutcome.UNKNOWN: Words("errors.device_likely.unknown"),
    }
)


def _device(error: DeviceError) -> Fault:
    return Fault(
        _DEVICE_CODES[error.outcome],
        _DEVICE_NAMES[error.outcome],
        Words("errors.device", device=error.device, problem=text_of(error.problem)),
        _DEVICE_LIKELY[error.outcome],
        None if error.hint is None else text_of(error.hint),
    )


def _protocol(error: ProtocolError) -> Fault:
    return Fault(
        ExitCode.PROTOCOL,
        "protocol_broken",
        text_of(str(error)),
        Words("errors.bytes-damaged-or-another-revision"),
        Words("errors.etcgw-rsu-decode-shows-frame"),
    )


_CHECK: Final = Words("errors.etcgw-check-config-config-site")


def _config(error: ConfigError) -> Fault:
    return _with_lines(error.lines, Fault(ExitCode.USAGE, "site_file_wrong", "", None, _CHECK))


def _with_lines(lines: Sequence[str | Text], fault: Fault) -> Fault:
    """The fault of a file with a line for each problem: a line feed inside one begins no other."""
    return replace(fault, what=lines[0], more=tuple(lines[1:]))


def _rules(error: RulesError) -> Fault:
    fault = Fault(
        ExitCode.USAGE,
        "rules_wrong",
        "",
        Words("errors.nothing-decided-doubtful-rules"),
        Words("errors.etcgw-rules-check-file-names"),
    )
    return _with_lines(error.lines, fault)


def _clearing_rules(error: ClearingRulesError) -> Fault:
    likely = Words("errors.nothing-cleared-doubtful-rules")
    fault = Fault(ExitCode.USAGE, "clearing_rules_wrong", "", likely, _CHECK)
    return _with_lines(error.lines, fault)


def _refused_bank_file(error: BankFileError) -> Fault:
    return _with_lines(error.lines, _refused_clearing(error.reason, ""))


def _clearing_refused(error: ClearingRefused) -> Fault:
    return _refused_clearing(error.reason, error.detail)


def refusal(code: str, what: str | Text, facts: Mapping[str, Any] | None = None) -> CliFault:
    """Fault to raise for a refusal whose code stands in the table of reasons."""
    from gateway.model.reasons import REASONS

    reason = REASONS[code]
    likely, next_step = Pair(reason.en, reason.zh), Pair(reason.next_step_en, reason.next_step_zh)
    return CliFault(ExitCode.REFUSED, code, what, likely, next_step, facts=facts)


def _refused_clearing(code: str, what: str | Text) -> Fault:
    return refusal(code, what).fault


def _refused_mandates(error: MandateImportError) -> Fault:
    fault = Fault(
        ExitCode.REFUSED,
        "mandates_refused",
        "",
        Words("errors.file-refused-as-whole-mandates"),
        Words("errors.correct-these-lines-try-dry"),
    )
    return _with_lines(error.lines, fault)


_LISTS: Final = Words("errors.etcgw-lists-show-config-site")


def _drop_unconfirmed(error: DropUnconfirmed) -> Fault:
    again = f"--confirm-drop {error.effect.removed}"
    return Fault(
        ExitCode.REFUSED,
        "list_drop_unconfirmed",
        text_of_error(error),
        Words("errors.empty-delivery-or-half-one"),
        Words("errors.if-meant-same-command", again=again),
    )


def _ledger_refused(error: LedgerRefused) -> Fault:
    return replace(refusal(error.reason, text_of_error(error)).fault, code=ExitCode.UNAVAILABLE)


def _ledger_lost(error: Exception) -> Fault:
    from gateway.model.reasons import LEDGER_LOST as REASON

    return Fault(
        ExitCode.UNAVAILABLE,
        REASON.code,
        text_of_error(error),
        Pair(REASON.en, REASON.zh),
        Pair(REASON.next_step_en, REASON.next_step_zh),
    )


_CHAIN_KEYS: Final = Words("errors.name-files-current-every-earlier")


_DISK: Final = Words("errors.check-disk-who-else-has")


def _database(error: DBAPIError) -> Fault:
    from gateway.ledger.engines import StorageTrouble, trouble_of

    trouble = trouble_of(error)
    if trouble is StorageTrouble.OTHER:
        return Fault(
            ExitCode.UNAVAILABLE,
            "ledger_foreign",
            Words("errors.ledger", error=str(error.orig)),
            Words("errors.ledger-made-another-version-this"),
            _CHECK,
        )
    what = Words("errors.ledger-trouble", trouble=trouble.text, error=str(error.orig))
    return Fault(ExitCode.UNAVAILABLE, f"ledger_{trouble.name.lower()}", what, None, _DISK)


def _files(error: OSError) -> Fault:
    said = text_of(error.strerror or str(error))
    return Fault(
        ExitCode.UNAVAILABLE,
        "file_unavailable",
        Words("errors.file", file=error.filename, error=said) if error.filename else Words("errors.files", error=said),
        Words("errors.file-or-folder-missing-full"),
        _CHECK,
    )


def _not_text(error: NotText) -> Fault:
    return Fault(ExitCode.USAGE, "encoding_wrong", error.problem, None, error.cure)


def _told(
    code: ExitCode,
    name: str,
    likely: Text | None,
    next_step: Text | None,
    what: Callable[[Text], Text] = lambda text: text,
) -> Callable[[Exception], Fault]:
    """Function that makes the fault of an error whose text says what happened."""
    return lambda error: Fault(code, name, what(text_of_error(error)), likely, next_step)


_rules_conflict: Final = _told(
    ExitCode.USAGE,
    "rules_version_reused",
    Words("errors.every-decision-names-version-followed"),
    Words("errors.give-changed-rules-version-their"),
)
_refused_delivery: Final = _told(
    ExitCode.REFUSED,
    "list_delivery_refused",
    Words("errors.nothing-published-list-force-stays"),
    _LISTS,
)
_unusable_list: Final = _told(ExitCode.REFUSED, "list_unusable", None, _LISTS)
_refused_tariff: Final = _told(ExitCode.REFUSED, "tariff_wrong", Words("errors.no-lane-opens-doubtful-tariff"), _CHECK)
_import_overtaken: Final = _told(
    ExitCode.REFUSED,
    "import_overtaken",
    Words("errors.two-imports-were-started-same"),
    Words("errors.wait-other-one-then-give"),
)
_already_running: Final = _told(
    ExitCode.UNAVAILABLE,
    "already_running",
    Words("errors.one-gateway-serves-ledger-second"),
    Words("errors.etcgw-status-config-site-shows"),
)
_mark: Final = _told(
    ExitCode.UNAVAILABLE,
    "mark_behind",
    Words("errors.done-stands-ledger-mark-does"),
    _DISK,
    lambda text: Words("errors.mark", error=text),
)
_not_a_ledger: Final = _told(
    ExitCode.REFUSED,
    "backup_unusable",
    Words("errors.file-damaged-or-another-one"),
    Words("errors.give-file-etcgw-ledger-backup"),
    lambda text: Words("errors.nothing-restored", error=text),
)
_copy_damaged: Final = _told(
    ExitCode.REFUSED,
    "copy_damaged",
    Words("errors.ledger-itself-damaged-or-disk"),
    Words("errors.etcgw-ledger-verify-config-site"),
    lambda text: Words("errors.copy-not-whole", error=text),
)
_schema_too_new: Final = _told(
    ExitCode.UNAVAILABLE,
    "ledger_too_new",
    Words("errors.this-version-etcgw-older-than"),
    Words("errors.install-newer-version-again"),
)
_schema_too_old: Final = _told(
    ExitCode.UNAVAILABLE,
    "ledger_too_old",
    Words("errors.ledger-written-before-first-release"),
    Words("errors.put-file-mark-aside-keep"),
)
_chain_key: Final = _told(
    ExitCode.USAGE,
    "chain_key_wrong",
    Words("errors.without-key-nothing-added-ledger"),
    _CHAIN_KEYS,
)


def _chain_key_file(error: ChainKeyError) -> Fault:
    return _with_lines(error.lines, _chain_key(error))


def _secret_file(error: SecretError) -> Fault:
    return _with_lines(error.lines, Fault(ExitCode.USAGE, "site_file_wrong", "", None, _CHECK))


_storage: Final = _told(
    ExitCode.UNAVAILABLE,
    "storage_unavailable",
    None,
    _DISK,
    lambda text: Words("errors.ledger-unchanged", error=text),
)
_worker_lost: Final = _told(
    ExitCode.UNAVAILABLE,
    "worker_lost",
    Words("errors.machine-had-no-memory-left"),
    Words("errors.try-again-under-taskset-c"),
)

HANDLERS: Final[Mapping[str, Callable[[Any], Fault]]] = MappingProxyType(
    {
        "gateway.config.ConfigError": _config,
        "gateway.rules.loading.RulesError": _rules,
        "gateway.debit.recovery.RulesConflict": _rules_conflict,
        "gateway.clearing.rules.ClearingRulesError": _clearing_rules,
        "gateway.clearing.bank_file.BankFileError": _refused_bank_file,
        "gateway.clearing.day.ClearingRefused": _clearing_refused,
        "gateway.payers.mandates.MandateImportError": _refused_mandates,
        "gateway.payers.mandate_import.ImportOvertaken": _import_overtaken,
        "gateway.payers.status_list_build.DropUnconfirmed": _drop_unconfirmed,
        "gateway.payers.status_list_build.StatusListBuildError": _refused_delivery,
        "gateway.payers.list_file.StatusListError": _unusable_list,
        "gateway.tariffs.loading.TariffError": _refused_tariff,
        "gateway.ledger.file.AlreadyRunning": _already_running,
        "gateway.ledger.file.LedgerLost": _ledger_lost,
        "gateway.ledger.workers.WorkerLost": _worker_lost,
        "gateway.ledger.backup.CopyDamaged": _copy_damaged,
        "gateway.ledger.restoring.NotALedger": _not_a_ledger,
        "gateway.ledger.incarnation.LedgerRefused": _ledger_refused,
        "gateway.ledger.positions.MarkTrouble": _mark,
        "gateway.ledger.schema.SchemaTooNew": _schema_too_new,
        "gateway.ledger.schema.SchemaTooOld": _schema_too_old,
        "gateway.ledger.chain_key_files.ChainKeyError": _chain_key_file,
        "gateway.secret_files.SecretError": _secret_file,
        "gateway.ledger.chain.ChainKeyUnknown": _chain_key,
        "gateway.ledger.key_change.ChainKeyReused": _chain_key,
        "gateway.ledger.batches.StorageUnavailable": _storage,
        "sqlalchemy.exc.OperationalError": _database,
        "sqlalchemy.exc.DatabaseError": _database,
        "gateway.text_files.NotText": _not_text,
        "builtins.OSError": _files,
    }
)
"""Class by its full name -> fault. A test resolves every name."""
