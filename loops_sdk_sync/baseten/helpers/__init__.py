"""Helpers for the values, by the name under which scripts import them."""
