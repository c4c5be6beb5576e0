"""Corpora in the layouts of other projects; one shard is open at a time, and of it one sample."""
