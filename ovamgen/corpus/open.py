"""What is handed on: the finished shards of a run, or the part of them that a view selects.

One shard is open at a time, and of it one sample. No torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ovamgen.bounds import MAX_MANIFEST_BYTES
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import from_saved
from ovamgen.config import canonical_json
from ovamgen.corpus.view import View, read_view
from ovamgen.errors import ConfigError, ShardError
from ovamgen.records import (
    Retry,
    SampleFailure,
    SampleSpec,
    ShardRecord,
    SourcePicture,
    Target,
)
from ovamgen.run.files import check_sections, read_run_file
from ovamgen.run.generations import Generation, fingerprints_of
from ovamgen.shards.finished_shard import damaged, read_members, read_metadata
from ovamgen.shards.output_files import MANIFEST_NAME
from ovamgen.shards.schema import METADATA_SCHEMA
from ovamgen.shards.shard_record import read_records
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.store import Store, open_store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corpus:
    """Finished shards, with the samples of them that count."""

    store: Store
    records: tuple[ShardRecord, ...]
    """Records of the shards with a sample that counts, by ascending index."""
    all_records: tuple[ShardRecord, ...]
    """Records of every finished shard of the store, by ascending index."""
    view: View | None
    """What selects the samples; None where all of them count."""
    run_info: dict[str, Any]
    """The content of ``run.yaml``, or what the manifest holds of it; empty where nothing is."""

    @property
    def samples(self) -> int:
        """How many samples count."""
        return sum(self.count(record) for record in self.records)

    @property
    def classes(self) -> ClassSet:
        """The classes of the masks, as the run names them; VOC's where it names none.

        Raises:
            ShardError: what it names is no class set.
        """
        return classes_of(self.run_info, self.store.url)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what determines the samples: the run's, or that of run and view."""
        if self.view is None:
            return self.run_fingerprint
        keys = {"keys": self.view.keys.digest()}
        return derived_fingerprint("select", self.run_fingerprint, keys)

    @property
    def run_fingerprint(self) -> str:
        """sha256 (hex) of what determines the samples of the run, whether they count or not.

        Of a corpus that was extended it is that of the last generation, which stands for those
        before it.

        Raises:
            ShardError: there are shards of other runs.
        """
        found = {record.fingerprint for record in self.all_records}
        if len(found) > 1 and found <= {*fingerprints_of(self.run_info)}:
            return str(self.run_info["fingerprint"])
        if len(found) > 1:
            raise ShardError(f"{self.store.url} holds shards of {len(found)} runs: expected one")
        return found.pop() if found else ""

    def count(self, record: ShardRecord) -> int:
        """How many samples of a shard count."""
        if self.view is None:
            return record.samples
        return len(self.view.keys.of_shard(record.shard_index))

    def is_whole(self, record: ShardRecord) -> bool:
        """Whether every sample of a shard counts."""
        return self.count(record) == record.samples

    def read(self, record: ShardRecord) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Key and members, by extension, of the samples of a shard that count, in order.

        Raises:
            ShardError: the tar is damaged, or does not hold the samples that it should.
        """
        keys = None if self.view is None else self.view.keys.of_shard(record.shard_index)
        return read_members(self.store, record, keys)

    def read_with_rows(
        self, record: ShardRecord
    ) -> Iterator[tuple[str, dict[str, bytes], dict[str, Any]]]:
        """As `read`, each with its row of metadata.

        Raises:
            ShardError: a file is damaged, or the tar holds a sample without a row.
        """
        rows = {row["key"]: row for row in self.metadata(record).to_pylist()}
        for key, members in self.read(record):
            if key not in rows:
                raise damaged(self.store, record, f"holds {key}, which its metadata does not name")
            yield key, members, rows[key]

    def metadata(self, record: ShardRecord, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a shard's metadata for the samples that count, by key.

        Raises:
            ShardError: the file is damaged.
        """
        wanted = None if columns is None else sorted({*columns, "key", "status"})
        table = read_metadata(self.store, record, wanted)
        kept = pc.equal(table.column("status"), "ok")
        if self.view is not None:
            keys = self.view.keys.of_shard(record.shard_index)
            is_kept = pa.array([key in keys for key in table.column("key").to_pylist()], pa.bool_())
            kept = pc.and_(kept, is_kept)
        return table.filter(kept)

    def failures(self, record: ShardRecord) -> list[tuple[SampleSpec, SampleFailure]]:
        """The samples of a shard that were never made, by key; those of a view's shards as well.

        Raises:
            ShardError: the file is damaged.
        """
        if not record.failed:
            return []
        columns = [name for name in METADATA_SCHEMA.names if name != "previews"]
        table = read_metadata(self.store, record, columns).sort_by("key")
        rows = table.filter(pc.equal(table.column("status"), "failed")).to_pylist()
        return [
            (
                spec_of(row),
                SampleFailure(key=row["key"], stage=row["stage"], reason=row["reason"]),
            )
            for row in rows
        ]


def classes_of(run_info: Mapping[str, Any], url: str) -> ClassSet:
    """The classes that the content of a ``run.yaml`` names; VOC's where it names none.

    Args:
        run_info: the content; may be empty.
        url: where it is from, for messages.

    Raises:
        ShardError: what it names is no class set.
    """
    config = run_info.get("config", {})
    try:
        return from_saved(config if isinstance(config, Mapping) else {"classes": config})
    except ConfigError as error:
        raise ShardError(f"the run in {url} is damaged: {error}") from None


def spec_of(row: Mapping[str, Any]) -> SampleSpec:
    """What a sample was to be, from its row of metadata."""
    names = zip(row["class_ids"], row["class_names"], row["phrases"], strict=True)
    targets = tuple(
        Target(class_id=i, class_name=name, phrase=words) for i, name, words in names if i
    )
    plain = {field.name for field in fields(SampleSpec)} - {"targets", "retry", "picture"}
    others = {name: row[name] for name in plain}
    return SampleSpec(
        targets=targets, retry=Retry.in_row(row), picture=SourcePicture.in_row(row), **others
    )


def open_corpus(url: str, *, partial: bool = False, source: str | None = None) -> Corpus:
    """The corpus in a run's folder, or the selected part of it in a view's.

    Args:
        url: the folder of a run or of a view.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.

    Raises:
        ConfigError: no finished shard, nothing selected, or a run that is not finished.
        ShardError: a record or the view is damaged, or the shards are not those of the view.
    """
    view = read_view(url, source)
    if view is None and source is not None:
        raise ConfigError(f"--source names the corpus of a view, and {url} is no view")
    store = open_store(view.source if view else url)
    # readers of tars open them by their paths
    store.check_regular()
    found = read_records(store)
    records = tuple(found[index] for index in sorted(found))
    if not any(record.samples for record in records):
        raise ConfigError(
            f"expected the folder of a run with at least one finished shard, got {store.url} with "
            f"{len(records)} shard records: give the folder that 'ovamgen generate' wrote to"
        )
    if view is not None:
        view.check(records)
        if not len(view.keys):
            raise ConfigError(f"the view in {url} keeps no sample: select with other settings")
    elif not partial and not store.exists(MANIFEST_NAME):
        raise ConfigError(
            f"the run in {store.url} is not finished ({len(records)} shards are there): run its "
            "'ovamgen generate' again, or take what is there with --partial"
        )
    whole = Corpus(
        store=store, records=records, all_records=records, view=view, run_info=run_info_of(store)
    )
    return replace(whole, records=tuple(record for record in records if whole.count(record)))


def derived_fingerprint(operation: str, source: str, settings: dict[str, Any]) -> str:
    """sha256 (hex) that stands for what an operation with its settings makes of a corpus."""
    data = {"operation": operation, "source": source, "settings": settings}
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def run_info_of(store: Store) -> dict[str, Any]:
    """The content of ``run.yaml``, or what the manifest holds of it; empty where nothing is.

    Raises:
        ConfigError: ``run.yaml`` is damaged.
        ShardError: the manifest is.
    """
    saved = read_run_file(store)
    if saved is not None:
        return saved
    if not store.exists(MANIFEST_NAME):
        return {}
    try:
        info = load_plain_json(store.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))["run"]
        if not isinstance(info, dict):
            raise TypeError("what it says of the run is no object")
        check_sections(info)
        Generation.of(info)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ShardError(
            f"{MANIFEST_NAME} in {store.url} is damaged: run 'ovamgen generate' again"
        ) from None
    return info
