"""jsonPTS against the specification's own examples, and against what a peer may send instead."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.pump.jsonpts import messages
from protocols.pump.jsonpts.codec import (
    BODY_BYTES_MAX,
    Confirmation,
    Content,
    Failure,
    Message,
    Undeclared,
    Unreadable,
    decode,
    encode,
    encode_request,
)
from protocols.pump.jsonpts.errors import ERRORS, error_meant
from protocols.pump.jsonpts.messages import (
    KINDS,
    Preset,
    PumpAuthorize,
    PumpAuthorizeConfirmation,
    PumpCloseTransaction,
    PumpEndOfTransactionStatus,
    PumpFillingStatus,
    PumpGetStatus,
    PumpGetTotals,
    PumpIdleStatus,
    PumpOfflineStatus,
    PumpStop,
    PumpTransactionInformation,
    TransactionState,
    UploadPumpTransaction,
    UploadStatus,
)
from protocols.pump.jsonpts.signature import is_signed, sign
from protocols.pump.jsonpts.words import KEY_WORDS

LINES = (Path(__file__).parents[2] / "vectors" / "pump-frames.jsonl").read_text(encoding="utf-8").splitlines()
VECTORS = {vector["id"]: vector for vector in map(json.loads, LINES)}
MESSAGES = {name: vector for name, vector in VECTORS.items() if vector["protocol"] == "jsonpts"}

START, END = datetime(2019, 5, 19, 12, 44, 1), datetime(2019, 5, 19, 12, 47, 11)  # noqa: DTZ001 - local by definition

STATED = {
    "pts-getstatus": Content(1, PumpGetStatus(pump=1)),
    "pts-authorize-volume": Content(
        1, PumpAuthorize(pump=1, nozzle=2, type=Preset.VOLUME, dose=Decimal("2.75"), price=Decimal("3.25"))
    ),
    "pts-authorize-confirm": Content(1, PumpAuthorizeConfirmation(pump=1, transaction=31)),
    "pts-idle": Content(
        1,
        PumpIdleStatus(
            pump=1,
            nozzle_up=2,
            nozzle=2,
            transaction=135,
            request="PumpAuthorize",
            ordered_nozzle=1,
            ordered_type=Preset.AMOUNT,
            ordered_dose=Decimal(25),
            user="admin",
            last_date_time_start=START,
            last_date_time=END,
            last_nozzle=2,
            last_transaction=3,
            last_volume=Decimal(5),
            last_price=Decimal("2.5"),
            last_amount=Decimal("12.5"),
            last_total_volume=Decimal("15.99"),
            last_total_amount=Decimal("27.87"),
            last_user="PTS",
            last_flow_rate=27,
        ),
    ),
    "pts-end": Content(
        1,
        PumpEndOfTransactionStatus(
            pump=1,
            nozzle=2,
            volume=Decimal(5),
            tc_volume=Decimal("4.98"),
            price=Decimal("2.5"),
            amount=Decimal("12.5"),
            transaction=3,
            total_volume=Decimal("15.99"),
            total_amount=Decimal("27.87"),
            date_time_start=START,
            date_time=END,
            nozzle_up=0,
            flow_rate=27,
            ordered_type=Preset.AMOUNT,
            ordered_dose=Decimal(25),
            user="admin",
        ),
    ),
    "pts-close": Content(1, PumpCloseTransaction(pump=1, transaction=15)),
    "pts-close-ok": Confirmation(1, "PumpCloseTransaction"),
    "pts-error-notfound": Failure(3, "MakeNonExistingRequest", 1, "JSONPTS_ERROR_NOT_FOUND"),
    "pts-stop": Content(1, PumpStop(pump=1)),
    "pts-gettotals": Content(1, PumpGetTotals(pump=1, nozzle=1)),
    "pts-upload-sale": Content(
        123,
        UploadPumpTransaction(
            date_time_start=START,
            date_time=datetime(2019, 5, 19, 12, 45, 14),  # noqa: DTZ001
            pump=1,
            nozzle=1,
            fuel_grade_id=1,
            fuel_grade_name="Petrol",
            tank=3,
            transaction=15,
            volume=Decimal("1.15"),
            tc_volume=Decimal("1.07"),
            price=Decimal(10),
            amount=Decimal("11.5"),
            total_volume=Decimal("1231.15"),
            total_amount=Decimal("45611.5"),
            tag="0123456789ABCDEF",
            user_id=1,
            configuration_id="1234ABCD",
        ),
    ),
    "pts-upload-ok": Confirmation(123, "UploadPumpTransaction"),
}


def body(*packets: dict, **more: object) -> bytes:
    return json.dumps({"Protocol": "jsonPTS", **more, "Packets": list(packets)}).encode()


def read(kind: str, **data: object):
    [packet] = decode(body({"Id": 1, "Type": kind, "Data": data})).packets
    return packet


def test_every_vector_has_its_stated_value():
    assert set(MESSAGES) == set(STATED)


@pytest.mark.parametrize("name", MESSAGES)
def test_vector_decodes_to_its_value_and_encodes_back(name):
    content = MESSAGES[name]["json"]
    message = decode(json.dumps(content).encode())
    assert message == Message((STATED[name],), content.get("PtsId"))
    # The one misprint is written as the table of the specification has it.
    plain = json.dumps(content).replace("OrderedTypeAmount", "OrderedType")
    assert json.loads(encode(message)) == json.loads(plain)


def test_signature_of_the_specification_is_ours_and_of_no_other_body():
    vector = VECTORS["pts-sig-request"]
    raw, secret = vector["body"].encode(), vector["secret"]
    assert sign(raw, secret) == vector["x_data_signature"]
    assert is_signed(raw, vector["x_data_signature"], secret)
    assert not is_signed(raw + b" ", vector["x_data_signature"], secret)
    assert not is_signed(raw, vector["x_data_signature"], "secretkey")
    assert not is_signed(raw, "é", secret)
    assert encode(decode(raw)) == raw
    reply = b'{"Protocol":"jsonPTS","Packets":[{"Id":15999,"Error":false,"Message":"OK"}]}'
    assert sign(reply, "secretKey") == "zAZRWkBwRDLEfl0vsI7T6cpou/CAhUI7tlRa8vkVoVI="
    assert decode(reply).packets == (Confirmation(15999, None),)


def test_three_requests_of_one_message_are_answered_each_by_its_id():
    """Example of "JSON message structure"."""
    answer = decode(
        body(
            {"Id": 1, "Type": "DateTime", "Data": {"DateTime": "2021-01-01T12:34:56", "UTCOffset": 120}},
            {"Id": 2, "Type": "SetDateTime", "Message": "OK"},
            {"Id": 3, "Type": "MakeNonExistingRequest", "Error": True, "Code": 1, "Message": "JSONPTS_ERROR_NOT_FOUND"},
        )
    )
    clock, confirmed, unknown = answer.packets
    assert clock == Content(1, messages.DateTime(date_time=datetime(2021, 1, 1, 12, 34, 56), utc_offset=120))  # noqa: DTZ001
    assert confirmed == Confirmation(2, "SetDateTime")
    assert unknown.meaning is error_meant(1, "")


def test_number_and_id_may_be_text_as_in_the_filling_example():
    raw = body({"Id": "7", "Type": "PumpFillingStatus", "Data": {"Pump": "1", "Volume": "1.34", "IsSuspended": False}})
    [packet] = decode(raw).packets
    assert packet == Content(7, PumpFillingStatus(pump=1, volume=Decimal("1.34"), is_suspended=False))


def test_unknown_keys_are_passed_over_and_null_is_absence():
    packet = read("PumpFillingStatus", Pump=1, Amount=None, Novelty={"a": [1]})
    assert packet == Content(1, PumpFillingStatus(pump=1))


def test_not_found_is_a_state_with_and_without_its_space():
    for text in ("Not found", "NotFound", "not found"):
        state = read("PumpTransactionInformation", Pump=1, Transaction=15, State=text).data.state
        assert state is TransactionState.NOT_FOUND
    assert PumpTransactionInformation(pump=1, state=TransactionState.NOT_FOUND).on_wire()["State"] == "Not found"


def test_error_is_known_by_its_text_when_the_code_is_another_one():
    """Example of "Confirmation/error response message": code 57 with the text of 40, its `PUMP_` left out."""
    raw = body(
        {
            "Id": 1,
            "Type": "PumpAuthorize",
            "Error": True,
            "Code": 57,
            "Message": "JSONPTS_ERROR_BUSY_OTHER_USER",
            "Data": {"Pump": 1, "User": "admin"},
        }
    )
    [failure] = decode(raw).packets
    assert failure.meaning.code == 40
    assert failure.data == {"Pump": 1, "User": "admin"}
    assert error_meant(57, "something new").code == 57
    assert error_meant(999, "something new") is None
    assert error_meant(None, "JSONPTS_ERROR_TRANSACTION_NUMBER_OUT_OF_RANGE").code == 26
    assert error_meant(None, "JSONPTS_ERROR_PUMP_TRANSACTION_NUMBER_OUT_OF_RANGE").code == 21


def test_every_error_of_the_table_is_found_by_code_and_by_text():
    assert len({error.code for error in ERRORS}) == len({error.name for error in ERRORS}) == len(ERRORS)
    for error in ERRORS:
        assert error_meant(error.code, "") is error
        assert error_meant(0, f"JSONPTS_ERROR_{error.name}") is error


def test_message_refused_as_a_whole_has_no_packets():
    message = decode(b'{"Protocol":"jsonPTS","Error":true,"Code":2,"Message":"INVALID_JSON_REQUEST"}')
    assert message.packets == ()
    assert message.refused.meaning.code == 2
    assert json.loads(encode(message))["Code"] == 2


BAD_DATA = {
    "Pump": ({"Pump": 121}, "less than or equal to 120"),
    "Dose": ({"Dose": "12.3456"}, "no more than 3 decimal places"),
    "Price": ({"Price": True}, "a number is wanted"),
    "Nozzle": ({"Nozzle": 7}, "less than or equal to 6"),
    "Type": ({"Type": "Litres"}, "'Volume', 'Amount' or 'FullTank'"),
    "Transaction": ({"Transaction": 70000}, "less than or equal to 65535"),
    "Tag": ({"Tag": "no hex"}, "match pattern"),
}


@pytest.mark.parametrize("key", BAD_DATA)
def test_packet_that_breaks_a_rule_names_the_field_and_spoils_no_other_packet(key):
    change, problem = BAD_DATA[key]
    data = {"Pump": 1, "Type": "Amount", "Dose": 20} | change
    bad, good = decode(
        body({"Id": 1, "Type": "PumpAuthorize", "Data": data}, {"Id": 2, "Type": "PumpStop", "Data": {"Pump": 1}})
    ).packets
    assert isinstance(bad, Unreadable)
    assert bad.error.field.startswith(f"PumpAuthorize.{key}")
    assert problem in str(bad.error)
    assert bad.error.hint
    assert good == Content(2, PumpStop(pump=1))


def test_missing_amount_of_a_sale_and_a_time_with_an_offset_are_refused():
    sale = MESSAGES["pts-upload-sale"]["json"]["Packets"][0]["Data"]
    assert read("UploadPumpTransaction", **sale).data.amount == Decimal("11.5")
    less = {key: value for key, value in sale.items() if key != "Amount"}
    assert read("UploadPumpTransaction", **less).error.field == "UploadPumpTransaction.Amount"
    bad = read("UploadPumpTransaction", **sale | {"DateTime": "2019-05-19T12:44:01+08:00"})
    assert bad.error.field == "UploadPumpTransaction.DateTime"
    assert "YYYY-MM-DDThh:mm:ss" in str(bad.error)
    bad = read("UploadPumpTransaction", **sale | {"DateTime": "2019-02-30T12:44:01"})
    assert bad.error.field == "UploadPumpTransaction.DateTime"


BAD_BODIES = {
    b"": "not JSON",
    b"\xff\xfe": "not JSON",
    b"[]": "no JSON object",
    b'{"Protocol":"jsonPTS"}': "Packets is no array",
    b'{"Protocol":"jsonpts","Packets":[]}': "Protocol is 'jsonpts'",
    b'{"Protocol":"jsonPTS","PtsId":7,"Packets":[]}': "PtsId",
    b'{"Protocol":"jsonPTS","Packets":[7]}': "no JSON object; field Packets[0]",
    b'{"Protocol":"jsonPTS","Packets":[{"Type":"PumpStop"}]}': "Id 'None' is not 1 to 2147483647; field Packets[0].Id",
    b'{"Protocol":"jsonPTS","Packets":[{"Id":0,"Type":"PumpStop"}]}': "field Packets[0].Id",
    b'{"Protocol":"jsonPTS","Packets":[{"Id":true,"Type":"PumpStop"}]}': "field Packets[0].Id",
    b'{"Protocol":"jsonPTS","Packets":[{"Id":1}]}': "Type is no text; field Packets[0].Type",
    b'{"Protocol":"jsonPTS","Packets":[{"Id":1,"Type":"PumpTotals","Data":{"Volume":NaN}}]}': "NaN is no number",
    b'{"Protocol":"jsonPTS","Packets":[{"Id":1,"Type":"x","Data":{"Amount":1,"Amount":2}}]}': "'Amount' stands twice",
    b"[" * 100_000: "not JSON",
    b'{"Id":' + b"9" * 10_000 + b"}": "not JSON",
    b" " * (BODY_BYTES_MAX + 1): "bytes, 262144 are read",
}


@pytest.mark.parametrize("raw", BAD_BODIES, ids=lambda raw: repr(raw[:60]))
def test_body_that_is_no_message_is_refused_for_its_reason(raw):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(raw)
    assert BAD_BODIES[raw] in str(caught.value)
    assert caught.value.hint
    assert len(str(caught.value)) < 400


def test_key_given_twice_with_the_same_value_does_no_harm():
    raw = b'{"Protocol":"jsonPTS","Packets":[{"Id":1,"Type":"PumpStop","Data":{"Pump":1,"Pump":1}}]}'
    assert decode(raw).packets == (Content(1, PumpStop(pump=1)),)


def test_type_that_is_not_declared_is_named():
    assert decode(body({"Id": 1, "Type": "ProbeMeasurements", "Data": {}})).packets == (
        Undeclared(1, "ProbeMeasurements"),
    )


def test_our_own_mistake_is_a_local_error_that_names_the_field():
    with pytest.raises(LocalProtocolError) as caught:
        PumpAuthorize(pump=1, type=Preset.AMOUNT)
    assert caught.value.field == "PumpAuthorize.Dose"
    assert read("PumpAuthorize", Pump=1, Type="Volume").error.field == "PumpAuthorize.Dose"
    assert read("PumpAuthorize", Pump=1, Type="FullTank").data.dose is None
    with pytest.raises(LocalProtocolError) as caught:
        PumpStop(pump=0)
    assert caught.value.field == "PumpStop.pump"


def test_request_larger_than_the_controller_takes_is_refused_before_it_is_sent():
    most = Message(tuple(Content(n, PumpGetStatus(pump=1)) for n in range(1, 61)))
    assert len(encode_request(most)) < 16 * 1024
    with pytest.raises(LocalProtocolError) as caught:
        encode_request(Message(tuple(Content(n, PumpGetStatus(pump=1)) for n in range(1, 68))))
    assert "JSON tokens" in str(caught.value)
    with pytest.raises(LocalProtocolError) as caught:
        encode_request(Message((Failure(1, "x", 1, "x" * 17_000),)))
    assert "bytes" in str(caught.value)


def test_what_has_no_form_on_the_wire_is_not_written():
    with pytest.raises(LocalProtocolError):
        encode(Message((Undeclared(1, "ProbeMeasurements"),)))
    with pytest.raises(TypeError):
        encode(Message((Failure(1, None, 1, "x", {"Pump": object()}),)))
    asked = encode(Message((Confirmation(127, "UploadStatus", get_status=True),)))
    assert json.loads(asked)["Packets"] == [{"Id": 127, "Type": "UploadStatus", "Message": "OK", "GetStatus": True}]
    assert decode(asked).packets == (Confirmation(127, "UploadStatus", get_status=True),)


def test_status_push_tells_each_pump_as_if_it_had_been_asked():
    """Example of section 208."""
    raw = body(
        {
            "Id": 21444,
            "Type": "UploadStatus",
            "Data": {
                "DateTime": "2022-09-20T19:30:08",
                "PtsStartupSeconds": 59,
                "PowerDownDetected": False,
                "Pumps": {
                    "IdleStatus": {
                        "Ids": [1, 3],
                        "NozzlesUp": [1, 0],
                        "LastNozzles": [0, 0],
                        "LastTransactions": [0, 0],
                        "LastVolumes": [0.00, 0.00],
                        "LastAmounts": [0.00, 0.00],
                        "LastPrices": [1.11, 1.11],
                        "Requests": ["", ""],
                    },
                    "FillingStatus": {
                        "Ids": [2],
                        "Nozzles": [2],
                        "Transactions": [2996],
                        "Volumes": [43.80],
                        "Amounts": [45.99],
                        "Prices": [1.05],
                        "FlowRates": [None],
                    },
                    "EndOfTransactionStatus": {},
                    "OfflineStatus": {"Ids": [4]},
                    "Users": ["", "", "admin", ""],
                },
                "Gps": {"Status": "Absent"},
            },
        },
        PtsId="0054002E524E500420323442",
    )
    [packet] = decode(raw).packets
    idle = {"last_nozzle": 0, "last_transaction": 0, "last_volume": 0, "last_amount": 0, "request": ""}
    assert list(packet.data.statuses()) == [
        PumpIdleStatus(pump=1, nozzle_up=1, last_price=Decimal("1.11"), **idle),
        PumpIdleStatus(pump=3, nozzle_up=0, last_price=Decimal("1.11"), **idle),
        PumpFillingStatus(
            pump=2,
            nozzle=2,
            transaction=2996,
            volume=Decimal("43.8"),
            amount=Decimal("45.99"),
            price=Decimal("1.05"),
        ),
        PumpOfflineStatus(pump=4),
    ]
    assert json.loads(encode(decode(raw)))["Packets"][0]["Data"]["Pumps"]["OfflineStatus"] == {"Ids": [4]}


def test_status_push_with_arrays_of_different_lengths_names_the_array():
    pumps = {"FillingStatus": {"Ids": [1, 2], "Amounts": [1.0]}}
    packet = read("UploadStatus", Pumps=pumps)
    with pytest.raises(RemoteProtocolError) as caught:
        list(packet.data.statuses())
    assert caught.value.field == "UploadStatus.Pumps.FillingStatus.Amounts"
    assert list(UploadStatus().statuses()) == []


def keys_of(kind: type) -> set[str]:
    return {field.serialization_alias or field.alias for field in kind.model_fields.values()}


@pytest.mark.parametrize("name", KINDS)
def test_every_key_of_every_type_has_words_in_both_languages(name):
    assert keys_of(KINDS[name]) <= set(KEY_WORDS)
    assert KINDS[name].type_on_wire == name


def test_words_name_no_key_that_is_not_declared():
    assert set(KEY_WORDS) == set().union(*map(keys_of, KINDS.values()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEY_WORDS)), inner, max_size=4),
    max_leaves=8,
)


@given(kind=st.sampled_from(sorted(KINDS)), data=JSON)
def test_anything_is_read_or_refused_with_our_error(kind, data):
    try:
        message = decode(body({"Id": 1, "Type": kind, "Data": data}))
    except RemoteProtocolError:
        return
    [packet] = message.packets
    if isinstance(packet, Content):
        assert decode(encode(message)) == message


@given(st.binary(max_size=64))
def test_garbage_is_refused_with_our_error(raw):
    with pytest.raises(RemoteProtocolError):
        decode(raw)


@given(st.decimals(min_value=0, max_value=Decimal("999999999999.999"), places=3))
def test_fifteen_digits_come_out_as_they_went_in(amount):
    total = messages.PumpTotals(pump=1, nozzle=1, volume=amount)
    [packet] = decode(encode(Message((Content(1, total),)))).packets
    assert packet.data.volume == amount
