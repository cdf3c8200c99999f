"""What every trade of a toll lane uses: the engine, the outputs, the lists and tariffs in force, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable

from gateway.debit.engine import DebitEngine, Timing
from gateway.model.clock import Clock
from gateway.payers.mandates import CredentialKind, Mandate
from gateway.payers.status_lists import StatusLists
from gateway.points.etc.inspection import Issuers
from gateway.points.etc.rsu_errors import RsuErrorProfile
from gateway.points.ports import LaneOutputs
from gateway.points.toll.settings import LaneSettings
from gateway.tariffs.quote import TariffSet
from gateway.timekeeping import Timekeeper


class LaneServices:
    """What every trade of a lane uses."""

    def __init__(
        self,
        settings: LaneSettings,
        engine: DebitEngine,
        *,
        outputs: LaneOutputs,
        lists: StatusLists,
        tariffs: Callable[[], TariffSet],
        find_mandate: Callable[[CredentialKind, str], Mandate | None],
        mandate_by_id: Callable[[str], Mandate | None],
        issuers: Issuers,
        errors: RsuErrorProfile,
        clock: Clock,
        time: Timekeeper,
        note_timing: Callable[[Timing], None],
        report_fault: Callable[[str, str | None], None],
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.outputs = outputs
        self.lists = lists
        self.tariffs = tariffs
        self.find_mandate = find_mandate
        self.mandate_by_id = mandate_by_id
        self.issuers = issuers
        self.errors = errors
        self.clock = clock
        self.time = time
        self.note_timing = note_timing
        self.report_fault = report_fault
        """Name of a part of this lane and what is wrong with it; None when it works again."""
