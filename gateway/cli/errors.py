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
from gateway.cli.screen import Screen, Words
from protocols.errors import ProtocolError

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

    from gateway.clearing.bank_file import BankFileError
    from gateway.clearing.day import ClearingRefused
    from gateway.clearing.rules import ClearingRulesError
    from gateway.config import ConfigError
    from gateway.documents import DocumentError
    from gateway.ledger.incarnation import LedgerRefused
    from gateway.payers.mandates import MandateImportError
    from gateway.payers.status_list_build import DropUnconfirmed
    from gateway.rules.loading import RulesError
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
    what: str | Words
    likely: Words | None = None
    next_step: Words | None = None
    more: tuple[str | Words, ...] = ()
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
        what: str | Words,
        likely: Words | None = None,
        next_step: Words | None = None,
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
        Words("a mistake in etcgw itself", "etcgw 自身的错误"),
        Words(
            "run the same command as `etcgw --traceback ...` and report what it prints",
            "用 `etcgw --traceback ...` 重新执行并反馈输出",
        ),
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
        RequestOutcome.NOT_SENT: Words(
            "the device is off, unplugged or at another address", "设备未上电、未接线或地址有误"
        ),
        RequestOutcome.REFUSED: Words("the device answered and said no", "设备已应答并拒绝"),
        RequestOutcome.UNKNOWN: Words(
            "the request left and no answer came: it may have been carried out",
            "请求已发出但无应答,可能已被执行",
        ),
    }
)


def _device(error: DeviceError) -> Fault:
    return Fault(
        _DEVICE_CODES[error.outcome],
        _DEVICE_NAMES[error.outcome],
        f"{error.device}: {error.problem}",
        _DEVICE_LIKELY[error.outcome],
        None if error.hint is None else Words(error.hint, error.hint),
    )


def _protocol(error: ProtocolError) -> Fault:
    return Fault(
        ExitCode.PROTOCOL,
        "protocol_broken",
        str(error),
        Words("the bytes are damaged, or of another revision or dialect", "数据损坏,或属于其他版本、协议"),
        Words("etcgw rsu decode shows a frame byte by byte", "用 etcgw rsu decode 逐字节查看该帧"),
    )


_CHECK: Final = Words(
    "etcgw check-config --config SITE names every problem at once",
    "用 etcgw check-config --config SITE 一次列出全部问题",
)


def _config(error: ConfigError) -> Fault:
    return _with_lines(_lines_of(error), Fault(ExitCode.USAGE, "site_file_wrong", "", None, _CHECK))


def _lines_of(error: DocumentError) -> list[Words]:
    return [Words(*line) for line in zip(error.lines, error.lines_zh, strict=True)]


def _with_lines(lines: Sequence[str | Words], fault: Fault) -> Fault:
    """The fault of a file with a line for each problem: a line feed inside one begins no other."""
    return replace(fault, what=lines[0], more=tuple(lines[1:]))


def _rules(error: RulesError) -> Fault:
    fault = Fault(
        ExitCode.USAGE,
        "rules_wrong",
        "",
        Words("nothing is decided by doubtful rules", "规则有疑问时不作任何判定"),
        Words("etcgw rules check FILE names every problem at once", "用 etcgw rules check FILE 一次列出全部问题"),
    )
    return _with_lines(_lines_of(error), fault)


def _clearing_rules(error: ClearingRulesError) -> Fault:
    likely = Words("nothing is cleared by doubtful rules", "清算规则有疑问时不作清算")
    fault = Fault(ExitCode.USAGE, "clearing_rules_wrong", "", likely, _CHECK)
    return _with_lines(_lines_of(error), fault)


def _refused_bank_file(error: BankFileError) -> Fault:
    return _with_lines(error.lines, _refused_clearing(error.reason, ""))


def _clearing_refused(error: ClearingRefused) -> Fault:
    return _refused_clearing(error.reason, str(error))


def refusal(code: str, what: str) -> CliFault:
    """Fault to raise for a refusal whose code stands in the table of reasons."""
    from gateway.model.reasons import REASONS

    reason = REASONS[code]
    likely, next_step = Words(reason.en, reason.zh), Words(reason.next_step_en, reason.next_step_zh)
    return CliFault(ExitCode.REFUSED, code, what, likely, next_step)


def _refused_clearing(code: str, what: str) -> Fault:
    return refusal(code, what).fault


def _refused_mandates(error: MandateImportError) -> Fault:
    fault = Fault(
        ExitCode.REFUSED,
        "mandates_refused",
        "",
        Words("the file is refused as a whole; the mandates in force stay", "整个文件被拒绝,现有签约不变"),
        Words("correct these lines and try with --dry-run first", "更正以上各行,先用 --dry-run 试运行"),
    )
    return _with_lines(error.lines, fault)


_LISTS: Final = Words(
    "etcgw lists show --config SITE tells what is in force", "用 etcgw lists show --config SITE 查看现有名单"
)


def _drop_unconfirmed(error: DropUnconfirmed) -> Fault:
    again = f"--confirm-drop {error.effect.removed}"
    return Fault(
        ExitCode.REFUSED,
        "list_drop_unconfirmed",
        str(error),
        Words(
            "an empty delivery, or half of one, would let through everybody who is barred; the list in force stays",
            "空文件或不完整的文件会放行被列入名单的车辆; 现有名单不变",
        ),
        Words(f"if that is meant, the same command with {again}", f"如确需如此, 请加 {again} 重新执行"),
    )


def _ledger_refused(error: LedgerRefused) -> Fault:
    return replace(refusal(error.reason, str(error)).fault, code=ExitCode.UNAVAILABLE)


def _ledger_lost(error: Exception) -> Fault:
    from gateway.model.reasons import LEDGER_LOST as REASON

    return Fault(
        ExitCode.UNAVAILABLE,
        REASON.code,
        str(error),
        Words(REASON.en, REASON.zh),
        Words(REASON.next_step_en, REASON.next_step_zh),
    )


_CHAIN_KEYS: Final = Words(
    "name the files of the current and of every earlier key under [storage]; etcgw ledger key FILE makes a new one",
    "在 [storage] 中写明当前及全部旧密钥文件; 用 etcgw ledger key FILE 生成新密钥",
)


_DISK: Final = Words(
    "check the disk, and who else has the ledger open; then run the command again",
    "检查磁盘及占用账本的其他进程,然后重试",
)


def _database(error: DBAPIError) -> Fault:
    from gateway.ledger.engines import StorageTrouble, trouble_of

    trouble = trouble_of(error)
    if trouble is StorageTrouble.OTHER:
        return Fault(
            ExitCode.UNAVAILABLE,
            "ledger_foreign",
            f"ledger: {error.orig}",
            Words("the ledger was made by another version of this software", "账本由其他版本的程序创建"),
            _CHECK,
        )
    what = f"ledger: {trouble.value} ({error.orig})"
    return Fault(ExitCode.UNAVAILABLE, f"ledger_{trouble.name.lower()}", what, None, _DISK)


def _files(error: OSError) -> Fault:
    place = f"{error.filename}: " if error.filename else ""
    return Fault(
        ExitCode.UNAVAILABLE,
        "file_unavailable",
        f"{place}{error.strerror or error}",
        Words("the file or folder is missing, full or not ours to use", "文件或目录不存在、已满或无权限"),
        _CHECK,
    )


def _not_text(error: NotText) -> Fault:
    what = Words(error.problem, error.problem_zh)
    return Fault(ExitCode.USAGE, "encoding_wrong", what, None, Words(error.cure, error.cure_zh))


def _told(
    code: ExitCode, name: str, likely: Words | None, next_step: Words | None, what: str = "{}"
) -> Callable[[Exception], Fault]:
    """Function that makes the fault of an error whose text says what happened."""
    return lambda error: Fault(code, name, what.format(error), likely, next_step)


_rules_conflict: Final = _told(
    ExitCode.USAGE,
    "rules_version_reused",
    Words(
        "every decision names the version it followed, so a version has one content",
        "每笔判定都记录规则版本,同一版本只能有一种内容",
    ),
    Words("give the changed rules a version of their own", "请为修改后的规则另取版本号"),
)
_refused_delivery: Final = _told(
    ExitCode.REFUSED,
    "list_delivery_refused",
    Words("nothing was published; the list in force stays", "未发布任何名单,现有名单不变"),
    _LISTS,
)
_unusable_list: Final = _told(ExitCode.REFUSED, "list_unusable", None, _LISTS)
_refused_tariff: Final = _told(
    ExitCode.REFUSED, "tariff_wrong", Words("no lane opens with a doubtful tariff", "费率有疑问时车道不开放"), _CHECK
)
_import_overtaken: Final = _told(
    ExitCode.REFUSED,
    "import_overtaken",
    Words("two imports were started at the same time", "同时启动了两次导入"),
    Words("wait for the other one, then give the file that is to hold", "等待另一次导入结束,再导入应生效的文件"),
)
_already_running: Final = _told(
    ExitCode.UNAVAILABLE,
    "already_running",
    Words("one gateway serves a ledger; a second one would corrupt it", "同一账本只能由一个网关使用"),
    Words("etcgw status --config SITE shows the one that runs", "用 etcgw status --config SITE 查看正在运行的网关"),
)
_mark: Final = _told(
    ExitCode.UNAVAILABLE,
    "mark_behind",
    Words("what was done stands in the ledger; its mark does not know it yet", "已写入账本,但标记尚未跟上"),
    _DISK,
    "the ledger's mark: {}",
)
_not_a_ledger: Final = _told(
    ExitCode.REFUSED,
    "backup_unusable",
    Words("the file is damaged, or another one was meant", "文件已损坏, 或指定了其他文件"),
    Words("give a file that etcgw ledger backup made", "请指定 etcgw ledger backup 生成的文件"),
    "nothing was restored: {}",
)
_copy_damaged: Final = _told(
    ExitCode.REFUSED,
    "copy_damaged",
    Words("the ledger itself is damaged, or the disk of the copy is", "账本本身或副本所在磁盘已损坏"),
    Words("etcgw ledger verify --config SITE checks the ledger", "用 etcgw ledger verify --config SITE 检查账本"),
    "the copy is not whole: {}",
)
_schema_too_new: Final = _told(
    ExitCode.UNAVAILABLE,
    "ledger_too_new",
    Words("this version of etcgw is older than the ledger", "本程序版本低于账本版本"),
    Words("install the newer version again", "请重新安装较新的版本"),
)
_schema_too_old: Final = _told(
    ExitCode.UNAVAILABLE,
    "ledger_too_old",
    Words("the ledger was written before the first release", "账本由首个发布版之前的程序写入"),
    Words(
        "put the file and its mark aside and keep them, then: etcgw ledger create --config SITE",
        "将账本及其标记移走并妥善保存, 然后: etcgw ledger create --config SITE",
    ),
)
_chain_key: Final = _told(
    ExitCode.USAGE,
    "chain_key_wrong",
    Words("without its key nothing is added to the ledger, and nothing verified", "缺少密钥时账本不可写入也无法校验"),
    _CHAIN_KEYS,
)
_storage: Final = _told(ExitCode.UNAVAILABLE, "storage_unavailable", None, _DISK, "the ledger was not changed: {}")
_worker_lost: Final = _told(
    ExitCode.UNAVAILABLE,
    "worker_lost",
    Words("the machine had no memory left, or somebody ended it", "机器内存不足,或进程被人为终止"),
    Words("try again; under `taskset -c 0` one process does all the work", "请重试; 加 `taskset -c 0` 则只用一个进程"),
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
        "gateway.ledger.chain_key_files.ChainKeyError": _chain_key,
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
