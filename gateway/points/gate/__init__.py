"""Barrier and lamps on a relay board, wherever they stand: a toll lane, a car-park gate."""
