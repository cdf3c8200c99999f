"""Requests, answers and pushes of jsonPTS: one class each, named as its `Type` on the wire.

A class is the declaration: keys by their Python names (`nozzle_up` is `NozzleUp`), limits from the specification,
misprints as second names. Reading is tolerant where the specification is loose: numbers may be text, keys that are not
declared are passed over, `null` is absence. It is strict where money depends on it: a number is never a truth value,
has at most three decimals and fifteen digits, and is a `Decimal` from the wire on. `words` has the words for each key.

Times are the controller's local time without an offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_pascal

from protocols.errors import LocalProtocolError, ProtocolError, RemoteProtocolError

PUMP_MAX, NOZZLE_MAX, TRANSACTION_MAX = 120, 6, 65_535

TIME_FORM: Final = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d")

FROM_WIRE: Final = {"remote": True}
"""Context of a reading: what is wrong is the peer's fault."""


class _Tolerant(StrEnum):
    """Words on the wire, read whatever their case and spaces: `Not found` stands beside `EndOfTransaction`."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        plain = str(value).replace(" ", "").casefold()
        return next((word for word in cls if word.value.replace(" ", "").casefold() == plain), None)


class Preset(_Tolerant):
    """Kind of limit of a delivery."""

    VOLUME = "Volume"
    AMOUNT = "Amount"
    FULL_TANK = "FullTank"
    """No limit, or one that is keyed in at the pump."""


class TransactionState(_Tolerant):
    """State of a transaction."""

    WAITING_FOR_NOZZLE = "WaitingNozzleUpForAuthorization"
    AUTHORIZED = "Authorized"
    FILLING = "Filling"
    END_OF_TRANSACTION = "EndOfTransaction"
    """Filling is over, the transaction is open."""
    FINISHED = "Finished"
    NOT_FOUND = "Not found"
    """Wrong number, or no fuel was delivered."""


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")  # noqa: TRY004 - pydantic passes TypeError on
    return value


def _time(value: object) -> object:
    if isinstance(value, str):
        if not TIME_FORM.fullmatch(value):
            raise ValueError("not YYYY-MM-DDThh:mm:ss")
        return datetime.fromisoformat(value)
    return value


Number = Annotated[int, BeforeValidator(_no_truth)]
Decimals3 = Annotated[Decimal, BeforeValidator(_no_truth), Field(ge=0, max_digits=15, decimal_places=3)]
"""Float with up to three digits after the point. Fifteen digits in all pass through any JSON reader unchanged."""
Pump = Annotated[Number, Field(ge=1, le=PUMP_MAX)]
Nozzle = Annotated[Number, Field(ge=0, le=NOZZLE_MAX)]
"""Nozzle 1 to 6; 0: none, or any."""
Transaction = Annotated[Number, Field(ge=0, le=TRANSACTION_MAX)]
Grade = Annotated[Number, Field(ge=1, le=20)]
FlowRate = Annotated[Number, Field(ge=0, le=9999)]
"""Volume units a minute."""
Tag = Annotated[str, Field(max_length=32, pattern="^[0-9A-Fa-f]*$")]
"""Tag in hex; empty: none was used."""
Name = Annotated[str, Field(max_length=64)]
"""Text for people. The specification says 10 or 20 characters; a longer name is no reason to lose a sale."""
Time = Annotated[datetime, BeforeValidator(_time), PlainSerializer(lambda at: at.strftime("%Y-%m-%dT%H:%M:%S"))]


class Part(BaseModel):
    """Object inside the data of a packet."""

    model_config = ConfigDict(frozen=True, alias_generator=to_pascal, populate_by_name=True)


class Data(Part):
    """Data of one packet. What breaks its rules raises LocalProtocolError when made by us, RemoteProtocolError when
    read from the wire; both name the field."""

    type_on_wire: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's own arguments
        super().__init_subclass__(**kwargs)
        cls.type_on_wire = cls.__name__

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_errors(cls, values: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        kind = LocalProtocolError if info.context is None else RemoteProtocolError
        try:
            made = handler(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            given = "" if first["type"] == "missing" else f", not {str(first['input'])[:40]!r}"
            place = ".".join(map(str, first["loc"]))
            raise cls._error(kind, place, f"{first['msg'].removeprefix('Value error, ')}{given}") from error
        if (odd := made._contradiction()) is not None:
            raise cls._error(kind, *odd)
        return made

    @classmethod
    def _error(cls, kind: type[ProtocolError], place: str, problem: str) -> ProtocolError:
        return kind(
            problem,
            field=f"{cls.type_on_wire}.{place}" if place else cls.type_on_wire,
            clause="jsonPTS R129",
            hint="compare the body with the specification of the firmware in use",
        )

    def _contradiction(self) -> tuple[str, str] | None:
        """Key and problem of values that do not go together."""
        return None

    def on_wire(self) -> dict[str, Any]:
        """Object as it is written; what is None is absent."""
        return self.model_dump(by_alias=True, exclude_none=True)


# --- requests to the controller -------------------------------------------------------------------------------------


class Request(Data):
    """Request to the controller."""


class PumpRequest(Request):
    """Request that concerns one pump."""

    pump: Pump


class PumpGetStatus(PumpRequest):
    """Question for the status, answered by one of `PumpStatus`, or by totals, prices, a tag or a display once when one
    of these was asked for before (section 111)."""


class PumpAuthorize(PumpRequest):
    """Permission to deliver once, within a dose (section 116).

    Of nozzle and fuel grade the first given counts, in the order declared; with none the first nozzle lifted gets it
    and `price` is ignored. Without `auto_close_transaction` the sale is repeated until it is closed.
    """

    nozzle: Nozzle | None = None
    nozzles: Annotated[tuple[Nozzle, ...], Field(min_length=1, max_length=6)] | None = None
    fuel_grade_id: Grade | None = None
    fuel_grade_ids: Annotated[tuple[Grade, ...], Field(min_length=1, max_length=10)] | None = None
    type: Preset
    dose: Decimals3 | None = None
    price: Decimals3 | None = None
    """Left out: that of the fuel grade, which the controller must know."""
    transaction: Transaction | None = None
    """Number forced by us."""
    auto_close_transaction: bool | None = None
    tag: Tag | None = None
    request_tag_information_on_server: bool | None = None
    authorize_without_tag: bool | None = None
    no_tag_verification: bool | None = None
    """True: `tag` is only kept with the sale."""
    not_apply_user: bool | None = None

    def _contradiction(self) -> tuple[str, str] | None:
        if self.type is not Preset.FULL_TANK and not self.dose:
            return "Dose", "a preset by volume or amount is above 0"
        return None


class PumpStop(PumpRequest):
    """End of a delivery, or of its permission (section 120)."""


class PumpEmergencyStop(PumpRequest):
    """Stop whoever holds the pump, which is freed of its user (section 121)."""


class PumpSuspend(PumpRequest):
    """Pause of a delivery (section 122); the status stays PumpFillingStatus."""


class PumpResume(PumpRequest):
    """End of a pause (section 123)."""


class PumpCloseTransaction(PumpRequest):
    """End of a transaction, by its user and only when the filling is over (section 124)."""

    transaction: Transaction


class PumpGetTransactionInformation(PumpRequest):
    """Question for a transaction among the last thousand (section 118); 0 or none: the last. Needs the SD card."""

    transaction: Transaction | None = None


class PumpGetTotals(PumpRequest):
    """Order to read the totals of a nozzle, one nozzle of a pump at a time (section 125)."""

    nozzle: Nozzle | None = None
    fuel_grade_id: Grade | None = None


class PumpGetLastSavedTotals(PumpRequest):
    """Question for the totals that the controller read itself after each sale (section 127)."""


class PumpGetPrices(PumpRequest):
    """Order to read the prices of a pump (section 129)."""


class PumpSetPrices(PumpRequest):
    """Prices of nozzle 1, 2, ... (section 130)."""

    prices: Annotated[tuple[Decimals3, ...], Field(min_length=1, max_length=NOZZLE_MAX)]


class PumpGetDisplayData(PumpRequest):
    """Order to read the display of a pump (section 132)."""


class PumpGetTag(PumpRequest):
    """Order to read the tag at a nozzle's reader; nozzle 0: at any (section 134)."""

    nozzle: Nozzle


class PumpLock(PumpRequest):
    """Hold of a pump against other users (section 138)."""


class PumpUnlock(PumpRequest):
    """End of a hold, by its user (section 139)."""


class GetUniqueIdentifier(Request):
    """Question for the controller's own number (section 5)."""


class GetConfigurationIdentifier(Request):
    """Question for the mark that changes with the configuration (section 27)."""


class GetDateTime(Request):
    """Question for the controller's clock (section 29)."""


class SetDateTime(Request):
    """Time for the controller's clock (section 30)."""

    date_time: Time
    auto_synchronize: bool
    utc_offset: Annotated[Number, Field(alias="UTCOffset", ge=-1440, le=1440)]
    """Minutes."""


class GetSystemDecimalDigits(Request):
    """Question for the decimals that the controller works with (section 42)."""


# --- answers of the controller --------------------------------------------------------------------------------------


class Answer(Data):
    """Answer of the controller."""


class PumpAnswer(Answer):
    """Answer that concerns one pump."""

    pump: Pump


class _Ordered(PumpAnswer):
    """Order that an authorised pump has."""

    ordered_nozzle: Nozzle | None = None
    ordered_nozzles: tuple[Nozzle, ...] | None = None
    # The example of section 114 writes OrderedTypeAmount.
    ordered_type: Annotated[
        Preset | None,
        Field(
            validation_alias=AliasChoices("OrderedType", "OrderedTypeAmount", "ordered_type"),
            serialization_alias="OrderedType",
        ),
    ] = None
    ordered_dose: Decimals3 | None = None
    request: Name | None = None
    user: Name | None = None


class _Sale(_Ordered):
    """Delivery and its transaction."""

    nozzle: Nozzle | None = None
    nozzle_up: Nozzle | None = None
    """Nozzle out of its holder now, 0: none; it need not be that of the transaction."""
    fuel_grade_id: Grade | None = None
    fuel_grade_name: Name | None = None
    volume: Decimals3 | None = None
    tc_volume: Annotated[Decimals3 | None, Field(alias="TCVolume")] = None
    """Volume at 15 degrees, 0 where the controller cannot know."""
    price: Decimals3 | None = None
    amount: Decimals3 | None = None
    transaction: Transaction | None = None
    total_volume: Decimals3 | None = None
    total_amount: Decimals3 | None = None
    """Totals after the sale, where the controller reads them by itself."""
    date_time_start: Time | None = None
    date_time: Time | None = None
    flow_rate: FlowRate | None = None
    tag: Tag | None = None
    is_suspended: bool | None = None


class _Last(PumpAnswer):
    """Sale before, as far as the controller knows it."""

    last_date_time_start: Time | None = None
    last_date_time: Time | None = None
    last_nozzle: Nozzle | None = None
    last_fuel_grade_id: Grade | None = None
    last_fuel_grade_name: Name | None = None
    last_transaction: Transaction | None = None
    last_volume: Decimals3 | None = None
    last_price: Decimals3 | None = None
    last_amount: Decimals3 | None = None
    last_total_volume: Decimals3 | None = None
    last_total_amount: Decimals3 | None = None
    last_user: Name | None = None
    last_received_total_nozzle: Nozzle | None = None
    last_received_total_volume: Decimals3 | None = None
    last_received_total_amount: Decimals3 | None = None
    last_flow_rate: FlowRate | None = None


class PumpIdleStatus(_Last, _Ordered):
    """Pump that delivers nothing; `transaction` only while it is authorised and has not begun (section 112)."""

    nozzle_up: Nozzle | None = None
    nozzle: Nozzle | None = None
    fuel_grade_id: Grade | None = None
    fuel_grade_name: Name | None = None
    transaction: Transaction | None = None
    tag: Tag | None = None
    nozzle_prices: tuple[Decimals3, ...] | None = None


class PumpFillingStatus(_Sale):
    """Pump that delivers (section 113)."""


class PumpEndOfTransactionStatus(_Sale):
    """Sale that is over, said again until it is closed (section 114)."""


class PumpOfflineStatus(_Sale, _Last):
    """Pump that does not answer the controller, with the last that was known (section 115)."""

    state: TransactionState | None = None


PumpStatus = PumpIdleStatus | PumpFillingStatus | PumpEndOfTransactionStatus | PumpOfflineStatus


class PumpAuthorizeConfirmation(PumpAnswer):
    """Number of the transaction that was authorised (section 117)."""

    transaction: Transaction


class PumpTransactionInformation(_Sale):
    """Transaction that was asked for (section 119)."""

    state: TransactionState
    is_offline: bool | None = None
    is_paid: bool | None = None
    user_id: Number | None = None


class PumpTotals(PumpAnswer):
    """Totals of a nozzle, read from the pump (section 126)."""

    nozzle: Nozzle
    fuel_grade_id: Grade | None = None
    fuel_grade_name: Name | None = None
    volume: Decimals3
    amount: Decimals3 | None = None
    transaction: Transaction | None = None
    user: Name | None = None


class SavedTotals(Part):
    """Totals of a nozzle in PumpLastSavedTotals."""

    nozzle: Nozzle
    fuel_grade_id: Grade | None = None
    fuel_grade_name: Name | None = None
    volume: Decimals3
    amount: Decimals3 | None = None


class PumpLastSavedTotals(PumpAnswer):
    """Totals that the controller keeps, of each nozzle (section 128)."""

    nozzles: tuple[SavedTotals, ...]


class PumpPrices(PumpAnswer):
    """Prices of nozzle 1, 2, ... (section 131)."""

    prices: tuple[Decimals3, ...]
    user: Name | None = None


class PumpDisplayData(PumpAnswer):
    """Display of a pump; nozzle and transaction 0 where the pump does not tell (section 133)."""

    last_nozzle: Nozzle | None = None
    last_fuel_grade_id: Grade | None = None
    last_fuel_grade_name: Name | None = None
    last_transaction: Transaction | None = None
    volume: Decimals3
    amount: Decimals3
    user: Name | None = None


class PumpTag(PumpAnswer):
    """Tag at a nozzle's reader, empty: none (section 135)."""

    nozzle: Nozzle | None = None
    fuel_grade_id: Grade | None = None
    fuel_grade_name: Name | None = None
    tag: Tag = ""
    user: Name | None = None


class UniqueIdentifier(Answer):
    """Controller's own number (section 6, whose table says `ID` and whose example `Id`)."""

    id: Annotated[Name, Field(validation_alias=AliasChoices("Id", "ID", "id"), serialization_alias="Id")]


class ConfigurationIdentifier(Answer):
    """Mark that changes with the configuration (section 28)."""

    id: Name


class DateTime(Answer):
    """Controller's clock (section 31)."""

    date_time: Time
    auto_synchronize: bool | None = None
    utc_offset: Annotated[Number | None, Field(alias="UTCOffset", ge=-1440, le=1440)] = None
    """Minutes."""


class SystemDecimalDigits(Answer):
    """Decimals that the controller works with (section 44)."""

    price: Annotated[Number, Field(ge=0, le=3)]
    amount: Annotated[Number, Field(ge=0, le=3)]
    volume: Annotated[Number, Field(ge=0, le=3)]
    amount_total: Annotated[Number, Field(ge=0, le=3)]
    volume_total: Annotated[Number, Field(ge=0, le=3)]


# --- pushes of the controller ---------------------------------------------------------------------------------------


class Push(Data):
    """Message that the controller sends unasked, and again until it hears OK."""


class UploadPumpTransaction(Push):
    """Sale of a pump (section 200). `transaction` begins anew after 65535."""

    date_time_start: Time
    date_time: Time
    pump: Pump
    nozzle: Nozzle
    tank: Annotated[Number, Field(ge=1, le=20)] | None = None
    fuel_grade_id: Grade | None = None
    fuel_grade_name: Name | None = None
    transaction: Transaction
    volume: Decimals3
    tc_volume: Annotated[Decimals3 | None, Field(alias="TCVolume")] = None
    price: Decimals3
    amount: Decimals3
    total_volume: Decimals3 | None = None
    total_amount: Decimals3 | None = None
    tag: Tag | None = None
    user_id: Number | None = None
    is_offline: bool | None = None
    """True: sold by hand at the pump, by no order of ours."""
    is_paid: bool | None = None
    configuration_id: Name | None = None


class AlertState(_Tolerant):
    """State of an alert."""

    STARTED = "Started"
    FINISHED = "Finished"
    DETECTED = "Detected"
    """Has no duration."""


class UploadAlertRecord(Push):
    """Alert of the controller or of a device (section 204)."""

    date_time: Time
    device_type: Name
    device_number: Number
    state: AlertState
    code: Number
    configuration_id: Name | None = None


class PumpGroups(Part):
    """Pumps in a status push: an array for each key, one place for each pump, grouped by status."""

    idle_status: Mapping[str, tuple[Any, ...]] = {}
    filling_status: Mapping[str, tuple[Any, ...]] = {}
    end_of_transaction_status: Mapping[str, tuple[Any, ...]] = {}
    offline_status: Mapping[str, tuple[Any, ...]] = {}


class UploadStatus(Push):
    """Condition of the controller and all its pumps (section 208), sent by a period and on request.

    Probes, readers, price boards and the rest are passed over. The first example of the specification has no data.
    """

    configuration_id: Name | None = None
    date_time: Time | None = None
    firmware_date_time: Time | None = None
    # Table and example of section 208 give different names.
    pts_startup_seconds: Annotated[
        Number | None,
        Field(
            validation_alias=AliasChoices("PtsStartupSeconds", "StartupSeconds", "pts_startup_seconds"),
            serialization_alias="PtsStartupSeconds",
        ),
    ] = None
    power_down_detected: Annotated[
        bool | None,
        Field(
            validation_alias=AliasChoices("PowerDownDetected", "PtsPowerDownDetected", "power_down_detected"),
            serialization_alias="PowerDownDetected",
        ),
    ] = None
    sd_mounted: bool | None = None
    battery_voltage: Number | None = None
    """Millivolts."""
    cpu_temperature: Number | None = None
    """Degrees Celsius."""
    pumps: PumpGroups | None = None

    def statuses(self) -> Iterator[PumpStatus]:
        """Status of each pump that it tells of, as if it had been asked. Raises RemoteProtocolError."""
        groups = self.pumps or PumpGroups()
        for name, group, kind in (
            ("IdleStatus", groups.idle_status, PumpIdleStatus),
            ("FillingStatus", groups.filling_status, PumpFillingStatus),
            ("EndOfTransactionStatus", groups.end_of_transaction_status, PumpEndOfTransactionStatus),
            ("OfflineStatus", groups.offline_status, PumpOfflineStatus),
        ):
            for row in _rows(f"UploadStatus.Pumps.{name}", group):
                yield kind.model_validate(row, context=FROM_WIRE)


SINGULAR: Final = {"Ids": "Pump", "NozzlesUp": "NozzleUp"}
"""Keys of one pump for the arrays of a status push; the others lose their s."""


def _rows(place: str, group: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    count = len(group.get("Ids", ()))
    for key, values in group.items():
        if len(values) not in (0, count):
            raise RemoteProtocolError(
                f"{len(values)} values for {count} pumps",
                field=f"{place}.{key}",
                clause="jsonPTS R129",
                hint="ask each pump for its status instead",
            )
    for index in range(count):
        row = {SINGULAR.get(key, key.removesuffix("s")): values[index] for key, values in group.items() if values}
        yield {key: value for key, value in row.items() if value is not None}


KINDS: Final[Mapping[str, type[Data]]] = {
    kind.type_on_wire: kind
    for base in (Request, PumpRequest, Answer, PumpAnswer, _Ordered, _Sale, _Last, Push)
    for kind in base.__subclasses__()
    if kind not in (PumpRequest, PumpAnswer, _Ordered, _Sale, _Last)
}
"""Declared packets by their `Type`."""

PUSHES_PASSED_OVER: Final = frozenset(
    {
        "UploadTankMeasurement",
        "UploadInTankDelivery",
        "UploadGpsRecord",
        "UploadPayment",
        "UploadShift",
        "UploadConfiguration",
    }
)
"""Pushes that the gateway has no use for. They are answered with OK, or they would be sent for ever."""
