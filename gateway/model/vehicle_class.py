"""Vehicle classes of the toll network: 1-6 passenger, 11-16 goods, 21-26 special-purpose vehicles."""

from __future__ import annotations

from enum import Enum, IntEnum

_ORDINALS_ZH = "一二三四五六"
_CLASSES_PER_KIND = 6


class VehicleKind(Enum):
    """Kind of vehicle, the first digit of a class, with the word used in class names."""

    PASSENGER = ("客车", "passenger car")
    GOODS = ("货车", "goods vehicle")
    SPECIAL = ("专项作业车", "special-purpose vehicle")

    @property
    def zh(self) -> str:
        return self.value[0]

    @property
    def en(self) -> str:
        return self.value[1]


class VehicleClass(IntEnum):
    """Class code of card file 0015, the OBU vehicle file and tariffs.

    Passenger classes 5 and 6 are not in the national classes; regions use them as they like.
    """

    PASSENGER_1 = 1
    PASSENGER_2 = 2
    PASSENGER_3 = 3
    PASSENGER_4 = 4
    PASSENGER_5 = 5
    PASSENGER_6 = 6
    GOODS_1 = 11
    GOODS_2 = 12
    GOODS_3 = 13
    GOODS_4 = 14
    GOODS_5 = 15
    GOODS_6 = 16
    SPECIAL_1 = 21
    SPECIAL_2 = 22
    SPECIAL_3 = 23
    SPECIAL_4 = 24
    SPECIAL_5 = 25
    SPECIAL_6 = 26

    @property
    def kind(self) -> VehicleKind:
        return (VehicleKind.PASSENGER, VehicleKind.GOODS, VehicleKind.SPECIAL)[self // 10]

    @property
    def step(self) -> int:
        """Size within the kind, 1 (smallest) to 6."""
        return self % 10

    @property
    def zh(self) -> str:
        return f"{_ORDINALS_ZH[self.step - 1]}型{self.kind.zh}"

    @property
    def en(self) -> str:
        return f"class {self.step} {self.kind.en}"


def is_vehicle_class(code: int) -> bool:
    """True when a code read from a tag or card is one of the network's classes."""
    kind, step = divmod(code, 10)
    return 0 <= kind <= 2 and 1 <= step <= _CLASSES_PER_KIND
