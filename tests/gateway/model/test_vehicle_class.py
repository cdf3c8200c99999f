"""Vehicle classes: the codes of the network, named."""

from gateway.model.vehicle_class import VehicleClass, VehicleKind, is_vehicle_class


def test_codes_and_names():
    assert [c.value for c in VehicleClass] == [*range(1, 7), *range(11, 17), *range(21, 27)]
    assert VehicleClass(1).zh == "一型客车"
    assert VehicleClass(16).zh == "六型货车"
    assert VehicleClass(22).en == "class 2 special-purpose vehicle"
    assert VehicleClass(13).kind is VehicleKind.GOODS
    assert len({c.zh for c in VehicleClass}) == len({c.en for c in VehicleClass}) == 18


def test_which_codes_are_classes():
    assert [code for code in range(-1, 300) if is_vehicle_class(code)] == [c.value for c in VehicleClass]
