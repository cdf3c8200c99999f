"""Tag and card at an antenna, wherever it stands: a toll lane, a pump, a car-park gate."""
