"""Fuel: a vehicle at a pump is known by its tag, and pays what was delivered."""
