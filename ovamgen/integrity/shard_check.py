"""One shard: its record, its tar and its metadata, against each other and against the plan.

Runs in a process of its own beside others. Memory holds one sample and the metadata table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ovamgen.bounds import MAX_MEMBERS, MAX_RECORD_BYTES, MAX_SHARD_SIZE
from ovamgen.errors import ShardError
from ovamgen.integrity.findings import MAX_FINDINGS_OF_A_SHARD, Finding, Findings
from ovamgen.integrity.metadata_table import MetadataTable, check_rows, read_table
from ovamgen.integrity.sample_check import SampleRules, problems_of
from ovamgen.integrity.tar_stream import DamagedTarError, TarStream
from ovamgen.records import SampleSpec, ShardRecord, is_key
from ovamgen.shards.output_files import metadata_name, record_name
from ovamgen.shards.shard_record import record_from_json, record_to_json
from ovamgen.storage.interface import MAX_WHOLE_BYTES
from ovamgen.storage.store import Store


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
    manifest_is_wrong: bool
    """The manifest says something else of the shard than its files do."""
    findings: tuple[Finding, ...]
    bytes_read: int


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
    facts: dict[str, Any] = {"shard_index": job.index, "name": job.name}
    if job.fingerprint:
        facts["fingerprint"] = job.fingerprint
    table = _read_metadata(store, job, facts, findings)
    _read_tar(store, job, table, facts, findings, after_sample)
    known = [record for record in (recorded, job.listed) if record is not None]
    truth = next((record for record in known if not _differing(record, facts)), None)
    if truth is None and known:
        _blame_files(known[0], facts, findings)
    elif truth is not None and recorded not in (None, truth):
        findings.add(
            record_name(job.index),
            "what the manifest and the files of the shard say",
            f"other {', '.join(_differing(recorded, facts))}",
        )
    return ShardResult(
        index=job.index,
        record=truth,
        manifest_is_wrong=truth is not None and job.listed is not None and truth != job.listed,
        findings=findings.all(),
        bytes_read=(facts["size_bytes"] or 0) + (facts["metadata_size_bytes"] or 0),
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
    store: Store, job: ShardJob, facts: dict[str, Any], findings: Findings
) -> MetadataTable | None:
    """The table where it can be read; size, digest and failures go into the facts."""
    name = metadata_name(job.index)
    size = facts["metadata_size_bytes"] = store.size(name)
    facts["metadata_sha256"] = ""
    if size is None:
        findings.add(name, "the metadata of the shard", "no such file", "missing")
        return None
    if size > MAX_WHOLE_BYTES:
        findings.add(name, f"at most {MAX_WHOLE_BYTES} bytes", f"{size}")
        return None
    data = store.read(name)
    facts["metadata_sha256"] = hashlib.sha256(data).hexdigest()
    try:
        table = read_table(data, job.index)
        facts["failed"] = len(table.failed)
        check_rows(table, name, job.specs, findings)
    except ShardError as error:
        findings.add(name, "the metadata table of the shard", error)
        return None
    return table


def _read_tar(
    store: Store,
    job: ShardJob,
    table: MetadataTable | None,
    facts: dict[str, Any],
    findings: Findings,
    after_sample: Callable[[], None],
) -> None:
    """Looks at every sample; size, digests and samples go into the facts."""
    size = store.size(job.name)
    facts |= {"size_bytes": None, "sha256": None, "md5": None}
    if size is None:
        findings.add(job.name, "the tar of a finished shard", "no such file", "missing")
        return
    keys: list[str] = []
    rows = _Rows(table)
    specs = {spec.key: spec for spec in job.specs or ()}
    most = max(len(specs), len(table.made) if table else 0) or MAX_SHARD_SIZE
    with store.open(job.name) as file:
        stream = TarStream(file, size)
        try:
            for key, members in _samples(stream):
                if len(keys) == most:
                    raise DamagedTarError(f"expected {most} samples at most, got more")
                row, spec = rows.of(key), specs.get(key)
                for problem in problems_of(key, members, job.rules, row, spec):
                    findings.add(job.name, f"sample {key} whole and as its json says", problem)
                if not key.startswith(f"{job.index:06d}") or key <= (keys[-1] if keys else ""):
                    findings.add(job.name, "ascending keys of this shard", f"the key {key}")
                keys.append(key)
                after_sample()
            facts["samples"] = len(keys)
        except DamagedTarError as error:
            findings.add(job.name, "a tar as ovamgen writes it", error)
        facts |= asdict(stream.digest())
    if "samples" in facts and table is not None and set(keys) != table.made:
        other = sorted(set(keys) ^ table.made)
        findings.add(
            job.name,
            f"the {len(table.made)} samples that the metadata names as made",
            f"{len(keys)} samples; differing: {', '.join(other[:5])}",
        )


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
        if extension in members or len(members) == MAX_MEMBERS:
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


def _differing(record: ShardRecord, facts: Mapping[str, Any]) -> list[str]:
    """Fields of a record that are not as the files of the shard are; none where it is the truth."""
    return [name for name, value in facts.items() if getattr(record, name) != value]


def _blame_files(record: ShardRecord, facts: Mapping[str, Any], findings: Findings) -> None:
    """No record is true of the files: says which of them differ from the one there is."""
    differing = set(_differing(record, facts))
    # sizes and md5 go with the sha256; counts with the files that are counted
    of_record = {"shard_index", "name", "fingerprint"}
    for prefix, name, follows in (
        ("", facts["name"], {"size_bytes", "md5", "samples"}),
        ("metadata_", metadata_name(facts["shard_index"]), {"metadata_size_bytes", "failed"}),
    ):
        size, digest = f"{prefix}size_bytes", f"{prefix}sha256"
        if digest not in differing:
            of_record |= follows
        elif facts[size] is not None:
            findings.add(
                name,
                f"{getattr(record, size)} bytes with sha256 {getattr(record, digest)}",
                f"{facts[size]} bytes with sha256 {facts[digest]}",
            )
    if wrong := sorted(differing & of_record):
        findings.add(
            record_name(facts["shard_index"]),
            "what the files of the shard and the run say",
            ", ".join(f"{name} {getattr(record, name)}" for name in wrong),
        )
