"""Toll lanes: open, exit and entry."""
