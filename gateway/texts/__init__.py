"""Texts for people: one catalogue a language, found by codes."""
