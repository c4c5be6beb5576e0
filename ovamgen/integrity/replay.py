"""One sample made again as the run made it, and compared with what its shard holds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovamgen.config import RunConfig, identity
from ovamgen.errors import ConfigError, ShardError
from ovamgen.integrity.metadata_table import MetadataTable, read_table
from ovamgen.plan.planning import Plan
from ovamgen.records import EncodedSample, SampleFailure, SampleSpec, ShardRecord, ShardTask
from ovamgen.run.bad_samples import EngineFactory, SampleEngine, synthesise_surviving
from ovamgen.run.files import (
    differences,
    library_versions,
    read_plan,
    read_run_files,
    saved_config,
)
from ovamgen.run.inputs import inputs_of
from ovamgen.run.shard import load_engine_factory, refine, sample_context
from ovamgen.shards.codec import IMAGE, MASK, METADATA, decode_sample
from ovamgen.shards.finished_shard import read_members
from ovamgen.shards.output_files import PLAN_NAME, RUN_NAME, metadata_name
from ovamgen.shards.shard_record import read_record
from ovamgen.storage.store import Store, open_store
from ovamgen.storage.whole_files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A sample made again, beside the stored one; None where one of the two is a failure."""

    key: str
    stored_failure: str = ""
    """``stage: reason`` where the sample is recorded as failed, else ""."""
    failure: str = ""
    """``stage: reason`` where it failed now, else ""."""
    image_max_abs_diff: int | None = None
    """Largest difference of a channel, 0..255, between the stored JPEG and the new JPEG, both
    decoded."""
    mask_pixels_different: int | None = None
    """Pixels of the mask with another class id."""
    image_sha256_equal: bool | None = None
    """Whether the pixels before JPEG are equal to the last bit."""
    mask_sha256_equal: bool | None = None
    members_equal: bool | None = None
    """Whether every member of the tar has the same bytes."""
    metadata_different: tuple[str, ...] = ()
    """``field: stored -> new`` of the sample's json."""
    versions_different: tuple[str, ...] = ()
    """``name: of the run -> here``, libraries and weights."""
    settings_different: tuple[str, ...] = ()
    """What overrides have changed of what determines samples."""
    saved: tuple[str, ...] = ()
    """Files that were written."""

    def lines(self) -> list[str]:
        """As text for people."""
        text = [f"sample         {self.key}"]
        if self.stored_failure:
            text.append(f"recorded as    failed, {self.stored_failure}")
        if self.failure:
            same = self.failure == self.stored_failure
            text.append(f"replayed       {'fails the same way' if same else self.failure}")
        elif self.stored_failure:
            text.append("replayed       it was made this time")
        else:
            bits = "every bit equal" if self.image_sha256_equal else "bits differ"
            text += [
                f"image          differs by at most {self.image_max_abs_diff} of 255 (stored JPEG "
                f"against new JPEG, decoded); before JPEG: {bits}",
                f"mask           {self.mask_pixels_different} pixels different",
                f"members        {'the same bytes' if self.members_equal else 'other bytes'}",
            ]
        text += [f"metadata       {line}" for line in self.metadata_different]
        text += [f"other version  {line}" for line in self.versions_different]
        text += [f"other setting  {line}" for line in self.settings_different]
        return [*text, *(f"saved          {path}" for path in self.saved)]


def replay(
    url: str,
    key: str,
    *,
    out: str | None = None,
    overrides: tuple[dict[str, Any], ...] = (),
    factory: EngineFactory | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Replayed:
    """The sample, made again together with the batch that it was planned in.

    The size and the members of a batch decide the last bits of its images, so that the whole batch
    is drawn. Nothing is written to the run's output.

    Args:
        url: folder or URL of the run.
        key: of the sample.
        out: folder for the stored and the new members; made where it is not there.
        overrides: layers above the run's own configuration, such as another device.
        factory: loads what draws; the real engine where not given.
        say: told what goes on.

    Raises:
        ConfigError: no such sample, its shard is not finished, or it is no run.
        ShardError: the shard is damaged.
    """
    store = open_store(url)
    runs, plan = read_run_files(store), read_plan(store)
    if not runs or plan is None or "derived" in runs[0]:
        raise ConfigError(
            f"replay needs what the samples were made from, {PLAN_NAME} and {RUN_NAME}: expected "
            f"the folder that 'ovamgen generate' wrote to, got {store.url}"
        )
    task, batch = _planned(plan, key)
    own = [g.first_shard <= task.shard_index for g in plan.generations].count(True) - 1
    run = runs[own]
    record = read_record(store, task.shard_index)
    if record is None:
        raise ConfigError(
            f"sample {key} is planned, but its shard {task.shard_index} is not finished: "
            "'ovamgen generate' goes on with the run"
        )
    table = _table(store, record)
    failures = _failures(table)
    failed = failures.get(key)
    stored_failure = str(failed or "")
    if failed is not None and failed.took_worker_down:
        raise ConfigError(
            f"sample {key} is recorded as failed ({stored_failure}): making it again would take "
            "this process down as well"
        )
    stored = None if failed else dict(read_members(store, record, {key}))[key]
    config = saved_config(run, store.url, *overrides)
    say(f"loading {config.model.id} on {config.model.device}")
    engine = (factory or load_engine_factory())(config)
    say(f"drawing the batch of {len(batch)} that {key} belongs to")
    made = _made(key, batch, failures, config, str(run["fingerprint"]), engine)
    weights = {"weights_sha256": engine.info.digest, "tokens_sha256": engine.tokens_digest}
    compared = {}
    if stored is not None and isinstance(made, EncodedSample):
        compared = _compared(stored, dict(made.members))
    versions = differences(run.get("versions", {}), library_versions())
    settings = differences(
        run["identity"], identity(config, inputs_of(config, plan.generations[own].inputs))
    )
    return Replayed(
        key=key,
        stored_failure=stored_failure,
        failure=str(made) if isinstance(made, SampleFailure) else "",
        versions_different=(*versions, *differences(run["model"], weights)),
        settings_different=tuple(settings),
        saved=_save(Path(out), key, stored, made) if out else (),
        **compared,
    )


def _planned(plan: Plan, key: str) -> tuple[ShardTask, tuple[SampleSpec, ...]]:
    first = last = ""
    shard_keys: list[str] = []
    for task in plan.tasks:
        keys = [spec.key for spec in task.specs]
        first, last = first or keys[0], keys[-1]
        if key in keys:
            batch = next(specs for specs in task.batches if key in [spec.key for spec in specs])
            return task, batch
        if key[:6] == keys[0][:6]:
            shard_keys = keys
    near = difflib.get_close_matches(key, shard_keys or [first, last], n=3, cutoff=0.0)
    raise ConfigError(
        f"no sample {key} was planned: keys go from {first} to {last}, near it are "
        f"{', '.join(sorted(near))}"
    )


def _table(store: Store, record: ShardRecord) -> MetadataTable:
    name = metadata_name(record.shard_index)
    try:
        return read_table(store.read(name), record.shard_index)
    except ShardError as error:
        raise ShardError(f"{store.url}/{name}: {error}; 'ovamgen repair' mends it") from None


def _failures(table: MetadataTable) -> dict[str, SampleFailure]:
    """The samples that failed, by key."""
    rows = table.table.select(["key", "status", "stage", "reason"]).to_pylist()
    return {
        row["key"]: SampleFailure(key=row["key"], stage=row["stage"], reason=row["reason"])
        for row in rows
        if row["status"] == "failed"
    }


def _made(
    key: str,
    batch: tuple[SampleSpec, ...],
    failures: Mapping[str, SampleFailure],
    config: RunConfig,
    mark: str,
    engine: SampleEngine,
) -> EncodedSample | SampleFailure:
    # what took workers down was left out of its batch, and is again
    known = [failures[spec.key] for spec in batch if spec.key in failures]
    deadly = {failure.key: failure.reason for failure in known if failure.took_worker_down}
    drawn = synthesise_surviving(engine, batch, deadly)
    for failure in drawn.failures:
        if failure.key == key:
            return failure
    place = [spec.key for spec in drawn.specs].index(key)
    context = sample_context(config, mark, engine)
    return refine(drawn, place, place + 1, context)[0]


def _compared(stored: Mapping[str, bytes], made: Mapping[str, bytes]) -> dict[str, Any]:
    """The fields of `Replayed` that compare the members of two samples."""
    old, new = decode_sample(stored), decode_sample(made)
    found: dict[str, Any] = {
        "image_sha256_equal": old.metadata["image_sha256"] == new.metadata["image_sha256"],
        "mask_sha256_equal": old.metadata["mask_sha256"] == new.metadata["mask_sha256"],
        "members_equal": stored == made,
        "metadata_different": tuple(differences(old.metadata, new.metadata)),
    }
    # images of other sizes, which overrides can ask for, have no pixels in common
    if old.labels.shape == new.labels.shape:
        difference = np.abs(old.image.astype(np.int16) - new.image.astype(np.int16))
        found["image_max_abs_diff"] = int(difference.max())
        found["mask_pixels_different"] = int(np.count_nonzero(old.labels != new.labels))
    return found


def _save(
    folder: Path,
    key: str,
    stored: Mapping[str, bytes] | None,
    made: EncodedSample | SampleFailure,
) -> tuple[str, ...]:
    sides = {"stored": dict(stored or {})}
    sides["replayed"] = dict(made.members) if isinstance(made, EncodedSample) else {}
    paths = []
    for side, members in sides.items():
        for extension in (IMAGE, MASK, METADATA):
            if extension in members:
                path = folder / f"{key}.{side}.{extension}"
                write_whole(path, members[extension], make_folder=True)
                paths.append(str(path))
    return tuple(paths)
