"""Error bytes of an antenna's reports: their meaning for people (a reason) and for money, and what its B5 leaves out.

A table per profile, because the same byte means different things to different makers. The one question that matters is
whether the card was debited: TAKEN and NOT_TAKEN are stated only where the source says so or where the step that
failed comes before the debit can have left the PSAM; everything else, above all a code that no table lists, is
UNKNOWN and waits for proof (file 0019 at the next reading, or the TAC).

Sources: error table of the v3 gantry interface (one source, complete for V3.1-V3.4, V3.5 differences noted there) and
the step results of one antenna firmware with the 2019 transition dialect. Money meanings of v3 codes that the source
does not spell out are our inference, marked so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from gateway.model import reasons
from gateway.model.reasons import Reason


class MoneyMeaning(Enum):
    """Meaning of a report for money: the purchase took money from the card, or not, or it is not known."""

    NOT_TAKEN = "not_taken"
    UNKNOWN = "unknown"
    TAKEN = "taken"


class ReportType(Enum):
    """Reports of an antenna that carry an error byte for one tag."""

    VEHICLE = "B3"
    USER = "B4"
    RESULT = "B5"
    TAC = "B8"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Meaning of one code in one report: the reason to show (None for plain success) and what it says about the money.

    `disputed` marks evidence that contradicts itself: the card says debited, its proof does not hold.
    """

    reason: Reason | None
    money: MoneyMeaning
    disputed: bool = False


_OK_READ: Final = Meaning(None, MoneyMeaning.NOT_TAKEN)
_TAKEN: Final = Meaning(None, MoneyMeaning.TAKEN)


def _not_taken(reason: Reason) -> Meaning:
    return Meaning(reason, MoneyMeaning.NOT_TAKEN)


def _unknown(reason: Reason = reasons.PURCHASE_UNKNOWN) -> Meaning:
    return Meaning(reason, MoneyMeaning.UNKNOWN)


def _taken(reason: Reason) -> Meaning:
    return Meaning(reason, MoneyMeaning.TAKEN)


_DISPUTED: Final = Meaning(reasons.MAC2_FAILED, MoneyMeaning.TAKEN, disputed=True)

Codes = Mapping[int, Meaning]

_V3_USER: Codes = {
    0x00: _OK_READ,
    0x01: _not_taken(reasons.OBU_SILENT),
    0x02: _not_taken(reasons.UPLINK_GARBLED),
    0x03: _not_taken(reasons.RSU_ANTENNA_FAULT),
    0x05: _not_taken(reasons.OBU_DECRYPT_FAILED),
    0x06: _not_taken(reasons.OBU_DECRYPT_FAILED),
    0x0A: _not_taken(reasons.ONE_PIECE_READ_FAILED),
    0x0B: _not_taken(reasons.CPC_READ_FAILED),
    0x0C: _not_taken(reasons.CPC_READ_FAILED),
    0x0D: _not_taken(reasons.PSAM_OPERATION_FAILED),
    0x0E: _not_taken(reasons.CPC_READ_FAILED),
    0x11: _not_taken(reasons.OBU_NO_CARD),
    0x12: _not_taken(reasons.OBU_NO_CARD),
    0x13: _not_taken(reasons.EF04_READ_FAILED),
    0x14: _not_taken(reasons.CARD_UNREADABLE),
    0x15: _not_taken(reasons.CARD_UNREADABLE),
    0xFF: _not_taken(reasons.RSU_TEST_FRAME),
}

_V35_USER: Codes = {
    **{code: meaning for code, meaning in _V3_USER.items() if code != 0x0C},
    0x07: _not_taken(reasons.ONE_PIECE_VEHICLE_FAILED),
    0x08: _not_taken(reasons.ONE_PIECE_READ_FAILED),
    0x09: _not_taken(reasons.ONE_PIECE_AUTH_FAILED),
}

_V3_RESULT: Codes = {
    0x00: _TAKEN,
    0x01: _unknown(),
    # The answer came and could not be read: it may have been the answer to the debit.
    0x02: _unknown(),
    0x06: _not_taken(reasons.MAC1_FAILED),
    0x07: _DISPUTED,
    # "TAC failed" does not say whether the debit was refused or its answer lost its TAC.
    0x08: _unknown(),
    # Inferred: authentication of a one-piece tag comes before its record is written.
    0x09: _not_taken(reasons.ONE_PIECE_AUTH_FAILED),
    # The record is cached before the debit, so a refusal here ends the exchange without one.
    0x0A: _not_taken(reasons.RECORD_UPDATE_FAILED),
    # A CPC card has no purse; fees written to it are records, not money.
    0x0B: _not_taken(reasons.CPC_WRITE_FAILED),
    0x0C: _not_taken(reasons.CPC_WRITE_FAILED),
    0x0D: _not_taken(reasons.CPC_WRITE_FAILED),
    0x0E: _not_taken(reasons.CPC_WRITE_FAILED),
    0x0F: _not_taken(reasons.CPC_WRITE_FAILED),
    # Answers a C6 that asked for EF04 only, so no debit was sent.
    0x10: _not_taken(reasons.EF04_WRITE_FAILED),
    # "Purchase failed" covers a refused debit and a lost answer alike.
    0x11: _unknown(),
    0x12: _unknown(),
    0x13: _unknown(),
    0x14: _taken(reasons.EF04_WRITE_FAILED),
    # A frame of a test mode proves nothing about a purchase that we asked for.
    0xFF: _unknown(reasons.RSU_TEST_FRAME),
}

_V3_TAC: Codes = {
    0x00: _TAKEN,
    0x01: _unknown(reasons.OBU_SILENT),
    0x02: _unknown(reasons.UPLINK_GARBLED),
    # A card that never made the purchase and a TAC that did not come read the same.
    0x03: _unknown(),
    0x04: _unknown(),
    0x05: _taken(reasons.EF04_WRITE_FAILED),
}

_EF04_VEHICLE: Codes = {
    0x00: _OK_READ,
    0x04: _not_taken(reasons.OBU_SILENT),
    0x06: _not_taken(reasons.OBU_DECRYPT_FAILED),
    0x2E: _not_taken(reasons.PSAM_NOT_AUTHORISED),
}

_EF04_USER: Codes = {
    0x00: _OK_READ,
    0x08: _not_taken(reasons.OBU_SILENT),
    0x09: _not_taken(reasons.CARD_UNREADABLE),
    0x20: _not_taken(reasons.EF04_READ_FAILED),
    0x21: _not_taken(reasons.EF04_READ_FAILED),
}

_EF04_RESULT_COMMON: Codes = {
    0x00: _TAKEN,
    0x10: _not_taken(reasons.PURCHASE_INIT_FAILED),
    0x11: _not_taken(reasons.PURCHASE_INIT_FAILED),
    0x13: _not_taken(reasons.MAC1_FAILED),
    0x16: _unknown(),
    # The firmware reports this for a status word of the card; without one it would have been 16.
    0x17: _not_taken(reasons.PURCHASE_REFUSED),
    0x19: _DISPUTED,
    0x35: _unknown(),
    0x36: _unknown(),
}

_EF04_RESULT_EXIT: Codes = {
    **_EF04_RESULT_COMMON,
    # Purchase first, EF04 after it: the passage is paid.
    0x22: _taken(reasons.EF04_WRITE_FAILED),
    0x23: _taken(reasons.EF04_WRITE_FAILED),
}

_EF04_RESULT_ENTRY: Codes = {
    **_EF04_RESULT_COMMON,
    # EF04 first: the purchase was not begun.
    0x22: _not_taken(reasons.EF04_WRITE_FAILED),
    0x23: _not_taken(reasons.EF04_WRITE_FAILED),
}


class BalanceTold(Enum):
    """Kind of balance that a B5 carries."""

    AFTER = "after"
    BEFORE = "before"
    """Balance before the purchase."""


class CardSerialTold(Enum):
    """Kind of card number that a B5 carries."""

    OF_PURCHASE = "of_purchase"
    """Serial under which the card gives the TAC again."""
    BEFORE = "before"
    """Serial that the card told when the purchase began: one less."""


@dataclass(frozen=True, slots=True)
class ResultFields:
    """Fields of a success's B5 that tell what proves it. The defaults are the rule; what differs from them is a maker's
    honest way, and weakens what can be compared."""

    balance: BalanceTold = BalanceTold.AFTER
    card_serial: CardSerialTold = CardSerialTold.OF_PURCHASE
    balance_unread: int | None = None
    """Value in the place of a balance that could not be read: it is not compared then."""
    no_psam_serial_of_charge_cards: bool = False
    """True when a zero PSAM serial says that there is none, of charge cards: it is not compared then."""


@dataclass(frozen=True, slots=True)
class RsuErrorProfile:
    """Error tables of one maker and interface version, and how it tells of purchases."""

    name: str
    reports: Mapping[ReportType, Codes]
    result: ResultFields = ResultFields()

    def meaning(self, report: ReportType, code: int) -> Meaning:
        """Meaning of `code` in the error byte of `report`. Never raises for a code.

        A code that the profile does not list is UNKNOWN where the report can follow a debit (B5, B8). B3 and B4 only
        answer readings, so no code of theirs says that money moved.
        """
        listed = self.reports.get(report, {}).get(code)
        if listed is not None:
            return listed
        after_debit = report in (ReportType.RESULT, ReportType.TAC)
        return (_unknown if after_debit else _not_taken)(reasons.RSU_ERROR_UNLISTED)


def _profile(name: str, reports: Mapping[ReportType, Codes]) -> RsuErrorProfile:
    return RsuErrorProfile(name, MappingProxyType({report: MappingProxyType(dict(c)) for report, c in reports.items()}))


def _telling(profile: RsuErrorProfile, name: str, **fields: Any) -> RsuErrorProfile:  # noqa: ANN401 - of `ResultFields`
    return replace(profile, name=f"{profile.name}-{name}", result=ResultFields(**fields))


PCRSU_V3: Final = _profile(
    "pcrsu-v3", {ReportType.USER: _V3_USER, ReportType.RESULT: _V3_RESULT, ReportType.TAC: _V3_TAC}
)
"""Profile of gantry interface V3.1 to V3.4 and the lane and parking versions made from it."""

PCRSU_V3_5: Final = _profile(
    "pcrsu-v3.5", {ReportType.USER: _V35_USER, ReportType.RESULT: _V3_RESULT, ReportType.TAC: _V3_TAC}
)
"""Profile of V3.5: B4 07 to 09 are named for one-piece tags, 0C is unused."""

L_EF04_EXIT: Final = _profile(
    "l-ef04-exit",
    {ReportType.VEHICLE: _EF04_VEHICLE, ReportType.USER: _EF04_USER, ReportType.RESULT: _EF04_RESULT_EXIT},
)
"""Profile of the 2019 transition dialect, trade mode 3: purchase, then EF04. One firmware."""

L_EF04_ENTRY: Final = _profile(
    "l-ef04-entry",
    {ReportType.VEHICLE: _EF04_VEHICLE, ReportType.USER: _EF04_USER, ReportType.RESULT: _EF04_RESULT_ENTRY},
)
"""Profile of the 2019 transition dialect, trade mode 2: EF04, then purchase. One firmware."""

L_BJ: Final = _profile(
    "l-bj",
    {ReportType.VEHICLE: {0x00: _OK_READ}, ReportType.USER: {0x00: _OK_READ}, ReportType.RESULT: {0x00: _TAKEN}},
)
"""Profile of the serial dialect of the Beijing style: only 00 is documented, so every other B5 is UNKNOWN."""

PCRSU_V3_BALANCE_BEFORE: Final = _telling(PCRSU_V3, "balance-before", balance=BalanceTold.BEFORE)
"""Profile for antennas found to send the balance they read with B4. None is known to."""

PCRSU_V3_SERIAL_BEFORE: Final = _telling(PCRSU_V3, "serial-before", card_serial=CardSerialTold.BEFORE)
"""Profile of antennas found to send the serial of the card's first answer; the interface leaves open which it means."""

L_BJ_SPARSE: Final = _telling(L_BJ, "sparse", balance_unread=0xFFFFFFFF, no_psam_serial_of_charge_cards=True)
"""Profile of firmwares of that style that send FFFFFFFF for an unread balance, no PSAM serial of charge cards."""

_KNOWN: Final = (
    PCRSU_V3,
    PCRSU_V3_5,
    PCRSU_V3_BALANCE_BEFORE,
    PCRSU_V3_SERIAL_BEFORE,
    L_EF04_EXIT,
    L_EF04_ENTRY,
    L_BJ,
    L_BJ_SPARSE,
)

PROFILES: Final[Mapping[str, RsuErrorProfile]] = MappingProxyType({profile.name: profile for profile in _KNOWN})
"""Profiles by the name a site file gives."""

PROFILE_OF_DIALECT: Final[Mapping[str, str]] = MappingProxyType(
    {"pcrsu-v3": PCRSU_V3.name, "legacy-serial-bj": L_BJ.name, "legacy-single-ff": L_BJ.name}
)
"""Profile that goes with a dialect where the site file names none."""

DEVICE_STATUS: Final[Mapping[int, Reason | None]] = MappingProxyType(
    {
        0x00: None,
        0x01: reasons.PSAM_RESET_FAILED,
        0x02: reasons.RSU_ANTENNA_FAULT,
        0x03: reasons.RSU_CONTROLLER_FAULT,
    }
)
"""Reasons by v3 B0 RSUStatus why the antenna must not sell; None = works. Others: RSU_ERROR_UNLISTED."""
