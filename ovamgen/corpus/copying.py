"""Shards of a corpus in another store: whole ones linked or copied, others with fewer samples.

Nothing is decoded: the bytes of a sample are those of the corpus. Each shard is published as
generating publishes it, so a copy that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ovamgen.corpus.open import Corpus
from ovamgen.records import EncodedSample, ShardRecord
from ovamgen.shards.finished_shard import damaged, read_extra_fields
from ovamgen.shards.output_files import metadata_name, record_name
from ovamgen.shards.schema import SAMPLE_SCHEMA
from ovamgen.shards.shard_record import finished_copies, publish_shard, record_to_json
from ovamgen.storage.store import LocalStore, Store

_BLOCK_BYTES = 1 << 20
_OTHER_BYTES = "has other bytes than its record says"


def copy_shards(
    corpus: Corpus,
    store: Store,
    fingerprint: str,
    *,
    link: bool = False,
    after_shard: Callable[[ShardRecord], None] = lambda record: None,
) -> list[ShardRecord]:
    """The records of the shards in the store, by ascending index.

    Args:
        corpus: its records, with the samples that count.
        store: where the shards go; what is finished there stays.
        fingerprint: of the new shards.
        link: give whole tars a second name instead of copying them, where the file system can.
        after_shard: called with the record of each shard that is there.

    Raises:
        ShardError: a shard of the corpus is damaged, or the store failed.
    """
    done = finished_copies(store, corpus.records, fingerprint)
    records = []
    for record in corpus.records:
        made = done.get(record.shard_index)
        if made is None and corpus.is_whole(record):
            made = _copy_whole(corpus, record, store, fingerprint, link)
        elif made is None:
            made = publish_shard(
                store,
                shard_index=record.shard_index,
                split=record.split,
                samples=_samples(corpus, record),
                failures=corpus.failures(record),
                fingerprint=fingerprint,
                extra=read_extra_fields(corpus.store, record),
            )
        records.append(made)
        after_shard(made)
    return records


def _samples(corpus: Corpus, record: ShardRecord) -> Iterator[EncodedSample]:
    for key, members, row in corpus.read_with_rows(record):
        yield EncodedSample(
            key=key,
            members=tuple(members.items()),
            metadata={name: row[name] for name in SAMPLE_SCHEMA.names},
            previews=tuple(row["previews"]),
        )


def _copy_whole(
    corpus: Corpus, record: ShardRecord, store: Store, fingerprint: str, link: bool
) -> ShardRecord:
    metadata = corpus.store.read(metadata_name(record.shard_index))
    if hashlib.sha256(metadata).hexdigest() != record.metadata_sha256:
        raise damaged(corpus.store, record, _OTHER_BYTES, metadata_name(record.shard_index))
    with store.scratch() as folder:
        path = folder / record.name
        linked = link and _link(corpus.store, record.name, path)
        digest = hashlib.sha256()
        with corpus.store.open(record.name) as file, _sink(None if linked else path) as target:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != record.sha256:
            raise damaged(corpus.store, record, _OTHER_BYTES)
        store.publish_file(path, record.name)
    store.put(metadata_name(record.shard_index), metadata)
    made = dataclasses.replace(record, fingerprint=fingerprint)
    store.create(record_name(record.shard_index), record_to_json(made))
    return made


def _sink(path: Path | None) -> BinaryIO:
    return open(os.devnull if path is None else path, "wb")


def _link(store: Store, name: str, path: Path) -> bool:
    """Whether the file could be given a second name: same file system, links understood."""
    if not isinstance(store, LocalStore):
        return False
    try:
        os.link(Path(store.url) / name, path)
    except OSError:
        return False
    return True
