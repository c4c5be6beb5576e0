import pytest

from ovamgen.config import ShardConfig
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.shards.samples import FINGERPRINT, make_failure, make_samples


def write_run(root, shards, *, size=4, heatmaps=False):
    """A finished run with discs as samples; the last shard has one sample less."""
    store = LocalStore(root)
    settings = ShardConfig(heatmaps=heatmaps)
    records = [
        publish_shard(
            store,
            shard_index=shard,
            split="train",
            samples=make_samples(
                size - (shard == shards - 1), shard=shard, settings=settings, height=32, width=48
            ),
            failures=[make_failure(size, shard=shard)],
            fingerprint=FINGERPRINT,
        )
        for shard in range(shards)
    ]
    write_indexes(store, records, {"model": {"id": "mini", "trained": False}})
    return store, records


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Three shards with 4, 4 and 3 samples, images of 32 x 48 pixels."""
    return write_run(tmp_path_factory.mktemp("run"), 3)[0]
