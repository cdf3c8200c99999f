"""Files and status of an OBU (OBE-SAM). Bytes to frozen values and back; nothing else."""

from protocols.obu.route_file import (
    ProvinceFee,
    RouteFile,
    decode_province_fees,
    decode_route_file,
    describe_route_file,
    route_file_new,
)
from protocols.obu.status import ObuStatus, decode_obu_status, describe_obu_status, obu_status_new
from protocols.obu.system_info import SystemInfo, decode_system_info, describe_system_info, system_info_new
from protocols.obu.vehicle_file import (
    VehicleFile,
    VehicleForm,
    decode_vehicle_file,
    describe_vehicle_file,
    truck_file_new,
    vehicle_file_new,
)

__all__ = [
    "ObuStatus",
    "ProvinceFee",
    "RouteFile",
    "SystemInfo",
    "VehicleFile",
    "VehicleForm",
    "decode_obu_status",
    "decode_province_fees",
    "decode_route_file",
    "decode_system_info",
    "decode_vehicle_file",
    "describe_obu_status",
    "describe_route_file",
    "describe_system_info",
    "describe_vehicle_file",
    "obu_status_new",
    "route_file_new",
    "system_info_new",
    "truck_file_new",
    "vehicle_file_new",
]
