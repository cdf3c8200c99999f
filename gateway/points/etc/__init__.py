"""Tag and card at an antenna, at any charge point: a toll lane, a pump, a car-park gate."""
