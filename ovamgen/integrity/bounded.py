"""Small files of an output, read whole but never without a bound."""

from __future__ import annotations

from ovamgen.errors import ShardError
from ovamgen.shards.store import Store


def read_bounded(store: Store, name: str, most_bytes: int) -> bytes:
    """The file's content.

    Raises:
        ShardError: it is larger than that, it is not there, or the store cannot be read.
    """
    with store.open(name) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ShardError(f"at most {most_bytes} bytes expected in {name}, it has more")
    return data
