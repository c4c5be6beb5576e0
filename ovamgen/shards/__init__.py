"""Bytes at rest: members, tars, stores, records; no torch."""
