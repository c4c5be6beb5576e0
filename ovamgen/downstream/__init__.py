"""Readers of finished shards."""
