"""Barrier and lamps on a relay board, at any charge point: a toll lane, a car-park gate."""
