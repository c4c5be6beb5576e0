"""The bounds of what is read from elsewhere, for keys, pictures, tars and YAML.

Bounds of whole files stand with their readers (SECURITY.md lists them). Each is far beyond what
ovamgen writes, or what it can write at all. Whoever reads names the bound that was passed.
"""

from __future__ import annotations

MAX_KEY_DIGITS = 11
"""Digits of a sample's key: six of the shard, five of the index."""
MAX_SHARDS = 10**6
"""Shards of an output, by those six digits."""
MAX_SHARD_SIZE = 10**5
"""Samples of a shard, and rows of its metadata, by those five digits."""

MAX_SIDE_PX = 32_768
"""Pixels of a picture's longer side."""
MAX_PIXELS = 64 * 2**20
"""Pixels of a picture; decoded it takes 192 MB."""

MAX_MEMBER_BYTES = 256 * 2**20
"""Size of a tar's member."""
MAX_HEADER_BYTES = 64 * 2**10
"""Size of a name, or of other words about a member, that stand before it in a tar."""
MAX_MEMBERS = 16
"""Members of a sample."""

MAX_YAML_BYTES = 4 * 2**20
MAX_YAML_DEPTH = 64
MAX_YAML_NUMBER = 400
"""Characters of a number: the time to read one grows with the square of its length."""
