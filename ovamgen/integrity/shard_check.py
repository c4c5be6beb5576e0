"""One shard: its record, its tar and its metadata, against each other and against the plan.

Runs in a process of its own beside others. Memory holds one sample and the metadata table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ovamgen.errors import ShardError
from ovamgen.integrity.findings import MAX_FINDINGS_OF_A_SHARD, Finding, Findings
from ovamgen.integrity.metadata_table import MetadataTable, check_rows, read_table
from ovamgen.integrity.sample_check import SampleRules, problems_of
from ovamgen.integrity.tar_stream import DamagedTarError, TarStream
from ovamgen.records import SampleSpec, ShardRecord, is_key
from ovamgen.shards.shard_record import (
    MAX_RECORD_BYTES,
    metadata_name,
    record_from_json,
    record_name,
    record_to_json,
)
from ovamgen.shards.writer import TarDigest
from ovamgen.storage.interface import MAX_WHOLE_BYTES
from ovamgen.storage.store import Store

_MOST_MEMBERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to check, and what is known of it from elsewhere; travels to another process."""

    index: int
    name: str
    """File name of the tar."""
    specs: tuple[SampleSpec, ...] | None
    """Samples that were planned; None where there is no plan."""
    listed: ShardRecord | None
    """What the manifest says of the shard; None where there is none that can be read."""
    fingerprint: str
    """Fingerprint that its record must carry, "" where that is not known."""
    rules: SampleRules


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What is the matter with a shard."""

    index: int
    record: ShardRecord | None
    """What the shard is in truth, where its files are those of a record; None where not."""
    record_is_there: bool
    """False where that record is known from the manifest alone."""
    manifest_is_wrong: bool
    """The manifest says something else of the shard than its files do."""
    findings: tuple[Finding, ...]
    bytes_read: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """What was read of a shard, whatever its records say."""

    tar: TarDigest | None
    made: int | None
    """Samples in the tar; None where it cannot be read to its end."""
    metadata_size: int | None
    metadata_sha256: str
    failed: int | None


def check_shard(
    store: Store, job: ShardJob, after_sample: Callable[[], None] = lambda: None
) -> ShardResult:
    """Everything that is wrong with a shard.

    Args:
        store: of the output.
        job: the shard, and what it must be.
        after_sample: called after each sample of the tar; what it raises ends the check.

    Raises:
        ShardError: the store cannot be read, which says nothing about the shard.
    """
    findings = Findings(job.index, MAX_FINDINGS_OF_A_SHARD)
    recorded = _read_record(store, job, findings)
    table, metadata_size, metadata_sha256 = _read_metadata(store, job, findings)
    tar, made = _read_tar(store, job, table, findings, after_sample)
    seen = _Seen(
        tar=tar,
        made=made,
        metadata_size=metadata_size,
        metadata_sha256=metadata_sha256,
        failed=len(table.failed) if table else None,
    )
    truth = next((r for r in (recorded, job.listed) if r and not _differing(r, seen, job)), None)
    if truth is None:
        _blame_files(recorded or job.listed, seen, job, findings)
    elif truth != recorded and recorded is not None:
        findings.add(
            record_name(job.index),
            "what the manifest and the files of the shard say",
            f"other {', '.join(_differing(recorded, seen, job))}",
        )
    return ShardResult(
        index=job.index,
        record=truth,
        record_is_there=recorded is not None and truth == recorded,
        manifest_is_wrong=truth is not None and job.listed is not None and truth != job.listed,
        findings=findings.all(),
        bytes_read=(tar.size_bytes if tar else 0) + (metadata_size or 0),
    )


def parse_record(data: bytes) -> ShardRecord:
    """The record in the bytes, which must be those that ovamgen writes for it.

    Raises:
        ShardError: they are not.
    """
    record = record_from_json(data)
    if record_to_json(record) != data:
        raise ShardError("a shard record must be canonical JSON, its text is another")
    return record


def _read_record(store: Store, job: ShardJob, findings: Findings) -> ShardRecord | None:
    name = record_name(job.index)
    if not store.exists(name):
        findings.add(name, "the record of a finished shard", "no such file", "missing")
        return None
    try:
        return parse_record(store.read(name, MAX_RECORD_BYTES))
    except ShardError as error:
        findings.add(name, "the record of a finished shard", error)
        return None


def _read_metadata(
    store: Store, job: ShardJob, findings: Findings
) -> tuple[MetadataTable | None, int | None, str]:
    name = metadata_name(job.index)
    size = store.size(name)
    if size is None:
        findings.add(name, "the metadata of the shard", "no such file", "missing")
        return None, None, ""
    if size > MAX_WHOLE_BYTES:
        findings.add(name, f"at most {MAX_WHOLE_BYTES} bytes", f"{size}")
        return None, size, ""
    data = store.read(name)
    table: MetadataTable | None = None
    try:
        table = read_table(data, job.index)
        check_rows(table, name, job.specs, findings)
    except ShardError as error:
        findings.add(name, "the metadata table of the shard", error)
    return table, len(data), hashlib.sha256(data).hexdigest()


def _read_tar(
    store: Store,
    job: ShardJob,
    table: MetadataTable | None,
    findings: Findings,
    after_sample: Callable[[], None],
) -> tuple[TarDigest | None, int | None]:
    size = store.size(job.name)
    if size is None:
        findings.add(job.name, "the tar of a finished shard", "no such file", "missing")
        return None, None
    keys: list[str] = []
    rows = _Rows(table)
    specs = {spec.key: spec for spec in job.specs or ()}
    with store.open(job.name) as file:
        stream = TarStream(file, size)
        try:
            for key, members in _samples(stream):
                row, spec = rows.of(key), specs.get(key)
                for problem in problems_of(key, members, job.rules, row, spec):
                    findings.add(job.name, f"sample {key} whole and as its json says", problem)
                if not key.startswith(f"{job.index:06d}") or key <= (keys[-1] if keys else ""):
                    findings.add(job.name, "ascending keys of this shard", f"the key {key}")
                keys.append(key)
                after_sample()
        except DamagedTarError as error:
            findings.add(job.name, "a tar as ovamgen writes it", error)
            return stream.digest(), None
        if table is not None and set(keys) != table.made:
            other = sorted(set(keys) ^ table.made)
            findings.add(
                job.name,
                f"the {len(table.made)} samples that the metadata names as made",
                f"{len(keys)} samples; differing: {', '.join(other[:5])}",
            )
        return stream.digest(), len(keys)


def _samples(stream: TarStream) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of every sample; of keys that come twice, twice."""
    key, members = "", dict[str, bytes]()
    for name, content in stream.members():
        new_key, dot, extension = name.partition(".")
        if not (is_key(new_key) and dot and extension) or "/" in name:
            raise DamagedTarError(f"expected members KEY.EXTENSION, got {name!a:.80}")
        if new_key != key and members:
            yield key, members
            members = {}
        key = new_key
        if extension in members or len(members) == _MOST_MEMBERS:
            raise DamagedTarError(f"expected each member once, got '{name}' again or one too many")
        members[extension] = content
    if members:
        yield key, members


class _Rows:
    """The rows of a table beside the samples of a tar, which come in the same order."""

    def __init__(self, table: MetadataTable | None) -> None:
        self._rows = table.rows() if table else iter(())
        self._row: Mapping[str, Any] | None = next(self._rows, None)

    def of(self, key: str) -> Mapping[str, Any] | None:
        """The row of the sample, None where it has none, or is out of order."""
        while self._row is not None and self._row["key"] < key:
            self._row = next(self._rows, None)
        row = self._row
        return row if row is not None and (row["key"], row["status"]) == (key, "ok") else None


def _differing(record: ShardRecord, seen: _Seen, job: ShardJob) -> list[str]:
    """Fields of a record that are not as the files of the shard are; none where it is the truth."""
    tar = seen.tar
    facts: dict[str, Any] = {
        "shard_index": job.index,
        "name": job.name,
        "size_bytes": tar.size_bytes if tar else None,
        "sha256": tar.sha256 if tar else None,
        "md5": tar.md5 if tar else None,
        "metadata_size_bytes": seen.metadata_size,
        "metadata_sha256": seen.metadata_sha256,
    }
    known = {"samples": seen.made, "failed": seen.failed, "fingerprint": job.fingerprint or None}
    facts |= {name: value for name, value in known.items() if value is not None}
    return [name for name, value in facts.items() if getattr(record, name) != value]


def _blame_files(
    record: ShardRecord | None, seen: _Seen, job: ShardJob, findings: Findings
) -> None:
    """No record is true of the files: says which of them differ from the one there is."""
    if record is None:
        return
    differing = set(_differing(record, seen, job))
    tar, metadata = seen.tar, metadata_name(job.index)
    if tar is not None and "sha256" in differing:
        findings.add(
            job.name,
            f"{record.size_bytes} bytes with sha256 {record.sha256}",
            f"{tar.size_bytes} bytes with sha256 {tar.sha256}",
        )
    if seen.metadata_size is not None and "metadata_sha256" in differing:
        findings.add(
            metadata,
            f"{record.metadata_size_bytes} bytes with sha256 {record.metadata_sha256}",
            f"{seen.metadata_size} bytes with sha256 {seen.metadata_sha256}",
        )
    # sizes and md5 go with the sha256; counts with the files that are counted
    of_record = {"shard_index", "name", "fingerprint"}
    if "sha256" not in differing:
        of_record |= {"size_bytes", "md5", "samples"}
    if "metadata_sha256" not in differing:
        of_record |= {"metadata_size_bytes", "failed"}
    if wrong := sorted(differing & of_record):
        findings.add(
            record_name(job.index),
            "what the files of the shard and the run say",
            ", ".join(f"{name} {getattr(record, name)}" for name in wrong),
        )
