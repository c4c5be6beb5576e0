"""The bounds of everything that is read from elsewhere, in one table.

Each is far beyond what ovamgen writes, and low enough that a hostile file costs at most 1.5 GB of
memory and ten seconds of a processor. Whoever reads names the bound that was passed.
"""

from __future__ import annotations

MAX_KEY_DIGITS = 11
"""Of a sample: six of the shard, five of the index."""
MAX_SHARDS = 10**6
"""Shards of an output, by those six digits."""
MAX_ROWS = 10**5
"""Rows of a shard's metadata: samples of a shard, by those five digits."""

MAX_SIDE_PX = 32_768
"""Pixels of a picture's longer side."""
MAX_PIXELS = 64 * 2**20
"""Pixels of a picture; decoded it takes 192 MB."""

MAX_MEMBER_BYTES = 256 * 2**20
"""Of a tar's member."""
MAX_HEADER_BYTES = 64 * 2**10
"""Of a name, or of other words about a member, that stand before it in a tar."""
MAX_MEMBERS = 16
"""Of a sample."""

MAX_VALUES_BYTES = 512 * 2**20
"""Of the values of a Parquet file in memory, whatever it packs them into."""
MAX_FOOTER_BYTES = 16 * 2**20
"""Of the description of a Parquet file's columns."""

MAX_YAML_BYTES = 4 * 2**20
MAX_YAML_DEPTH = 64
MAX_YAML_NUMBER = 400
"""Characters of a number: the time to read one grows with the square of its length."""
