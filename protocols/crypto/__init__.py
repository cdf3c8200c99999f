"""Keys, session keys and cryptograms of ETC cards, PSAMs and OBUs, for 3DES and for SM4.

Pure functions over bytes. They serve codecs, tests and the bench emulators; the product itself holds no keys and asks
a PSAM. Each function says where its rule comes from and how sure it is:

* *verified*: recomputed here on published data and it matched;
* *agreed*: two or more independent sources say the same;
* *one source*: a single source says so;
* *inferred*: no source says it; keep it replaceable.
"""

from protocols.crypto.algorithm import Algorithm, algorithm_of_version
from protocols.crypto.command import external_auth, line_mac
from protocols.crypto.keys import diversify, load_session_key, session_key, tac_key
from protocols.crypto.purse import Trade, load_mac1, load_mac2, load_tac, mac1, mac2, tac, tac_input
from protocols.crypto.vehicle import (
    MacVerdict,
    VehicleBlock,
    crc16_obu,
    judge_vehicle_mac,
    open_vehicle,
    seal_vehicle,
    split_vehicle_block,
    vehicle_mac,
    vehicle_mac_input,
)

__all__ = [
    "Algorithm",
    "MacVerdict",
    "Trade",
    "VehicleBlock",
    "algorithm_of_version",
    "crc16_obu",
    "diversify",
    "external_auth",
    "judge_vehicle_mac",
    "line_mac",
    "load_mac1",
    "load_mac2",
    "load_session_key",
    "load_tac",
    "mac1",
    "mac2",
    "open_vehicle",
    "seal_vehicle",
    "session_key",
    "split_vehicle_block",
    "tac",
    "tac_input",
    "tac_key",
    "vehicle_mac",
    "vehicle_mac_input",
]
