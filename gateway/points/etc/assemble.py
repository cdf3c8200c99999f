"""Assembly of a charge point's antenna, and the site's settings for tags and cards there."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from drivers.rsu import RsuCondition, RsuConfig, RsuDriver, RsuState
from gateway.health import Tell
from gateway.model.clock import Clock
from gateway.points.assemble import Common
from gateway.points.etc.config import Antenna, EtcPoint
from gateway.points.etc.rsu_errors import PROFILE_OF_DIALECT, PROFILES, RsuErrorProfile
from gateway.points.etc.settings import EntryWrite, TacCommand
from protocols.rsu.messages import FetchTac, Initialise, RecoverTac, WriteEntry
from protocols.rsu.registry import dialect_named

TRANS_MODE_COMPOSITE = 1


def antenna(section: EtcPoint, common: Common) -> RsuDriver:
    """Make the driver of its antenna; its `run` must be running."""
    device = f"{section.name}/antenna"
    common.tell(device, False, "not connected yet", "rsu_silent")
    return common.surroundings.device(
        device,
        lambda: RsuDriver(
            RsuConfig(
                device=device,
                dialect=dialect_named(section.antenna.dialect),
                initialise=partial(
                    initialise,
                    section.antenna,
                    bytes.fromhex(section.gantry),
                    common.surroundings.clock,
                    common.utc_offset_min,
                ),
                ignore_psam_auth=section.antenna.ignore_psam_auth,
            ),
            connect=partial(common.surroundings.connect, section.antenna.address, device=device),
            clock=common.surroundings.clock,
            on_condition=partial(_tell_condition, common.tell, device),
        ),
    )


def errors(section: Antenna) -> RsuErrorProfile:
    """Error profile of an antenna: error bytes and the maker's other ways."""
    return PROFILES[section.errors or PROFILE_OF_DIALECT[section.dialect]]


def settings(section: EtcPoint, common: Common) -> dict[str, Any]:
    """Fields of `EtcSettings`, but for the service and the neighbours, which the kind adds."""
    dialect = dialect_named(section.antenna.dialect)
    by_content = TacCommand.BY_CONTENT if dialect.speaks(RecoverTac) else TacCommand.NONE
    return {
        "name": section.name,
        "merchant": common.merchant,
        "station": section.station.upper(),
        "lane_no": section.lane_no,
        "gantry": bytes.fromhex(section.gantry),
        "decline_policy": section.bank_declines,
        "utc_offset_s": common.utc_offset_min * 60,
        "tac_command": TacCommand.BY_SERIAL if dialect.speaks(FetchTac) else by_content,
        "entry_write": EntryWrite.COMMAND if dialect.speaks(WriteEntry) else EntryWrite.ZERO_PURCHASE,
        "deadline_s": section.deadline_ms / 1000,
        "repeat_window_s": section.repeat_window_s,
        "quiet_s": section.quiet_s,
        "charge_card_purchase": section.charge_card_purchase,
        "one_piece": section.one_piece_tags,
    }


def _tell_condition(tell: Tell, device: str, condition: RsuCondition) -> None:
    tell(device, condition.state is RsuState.UP, condition.cause, condition.code)


def initialise(section: Antenna, gantry: bytes, clock: Clock, utc_offset_min: int) -> Initialise:
    """Make the C0 with which an antenna starts now; `gantry`: the charge point's own code, 3 bytes."""
    now = clock.utcnow()
    local = now + timedelta(minutes=utc_offset_min)
    return Initialise(
        unix_seconds=int(now.timestamp()),
        datetime_bcd=local.strftime("%Y%m%d%H%M%S"),
        lane_mode=section.lane_mode,
        bst_interval_ms=section.bst_interval_ms,
        tx_power=section.tx_power,
        pll_channel=section.channel,
        trans_mode=TRANS_MODE_COMPOSITE,
        flag_id=gantry,
        reserved=bytes(2),
    )
