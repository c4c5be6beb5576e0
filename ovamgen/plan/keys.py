"""Keys and seeds of samples: what makes a sample a function of the run's seed and its place."""

from __future__ import annotations

import hashlib

from ovamgen.bounds import MAX_SHARD_SIZE, MAX_SHARDS
from ovamgen.errors import PlanError


def sample_key(shard_index: int, index: int) -> str:
    """The WebDataset ``__key__``: 6 digits of the shard, 5 of the place in it, digits only.

    Args:
        shard_index: from 0, below a million.
        index: of the sample in the shard, from 0, below a hundred thousand.

    Raises:
        PlanError: a number has more digits than the key.
    """
    if not (0 <= shard_index < MAX_SHARDS and 0 <= index < MAX_SHARD_SIZE):
        raise PlanError(
            f"expected a shard below {MAX_SHARDS} and a sample below {MAX_SHARD_SIZE}, got shard "
            f"{shard_index}, sample {index}: make shards larger, or plan fewer samples"
        )
    return f"{shard_index:06d}{index:05d}"


def sample_seed(run_seed: int, key: str) -> int:
    """The seed of one sample's initial noise, 0 <= seed < 2**63.

    The first 8 bytes, big-endian, of ``sha256("{run_seed}:{key}")``, without their last bit.
    """
    digest = hashlib.sha256(f"{run_seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
