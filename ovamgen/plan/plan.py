"""The plan of a run: every sample in its place, and every caption left out, in a file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import default_classes
from ovamgen.config import PlanConfig
from ovamgen.plan.plan_file import ByteSink, ByteStream, PlanFile, write_plan_file
from ovamgen.plan.plan_rows import PlannedRejections, PlannedTasks, tables_of
from ovamgen.plan.prompts import Rejection
from ovamgen.records import SampleSpec, ShardTask

APPENDED = "append_class_words"
"""The setting that makes prompts of captions and class words; absent where it is off."""
_SPOOL_BYTES = 16 << 20
"""Plans up to this size stay in memory."""


class Plan:
    """All samples of a run in their order, and all captions that are not among them.

    It is a plan file, on disk as a rule: what is asked for is read from it, so that a plan of ten
    million captions takes no more memory than one of ten.
    """

    def __init__(
        self,
        *,
        tasks: Iterable[ShardTask],
        rejections: Iterable[Rejection],
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: ClassSet | None = None,
    ) -> None:
        """The plan of samples and rejections that are given as records.

        Args:
            tasks: one a shard, in the order of the shards; none where no caption makes a sample.
            rejections: in the order of the source.
            inputs: sha256 by name of what was read: ``captions``, and ``instances`` where given.
            settings: the planning section of the configuration, without the paths.
            classes: that the targets are of; the default ones where not given.

        Raises:
            PlanError: the keys are not those of samples in their order.
        """
        classes = classes or default_classes()
        tables = tables_of(tasks, rejections, classes)
        self._open(_written(tables, inputs=inputs, settings=settings, classes=classes))

    @classmethod
    def open(cls, stream: ByteStream) -> Plan:
        """The plan in a file; the file is checked from end to end, and read when it is needed.

        Args:
            stream: seekable; it is the plan's from now on.

        Raises:
            PlanError: the bytes are damaged, no plan, or of a schema this version does not know.
        """
        plan = cls.__new__(cls)
        plan._open(stream)
        return plan

    @classmethod
    def of_tables(
        cls,
        tables: Iterable[pa.Table],
        *,
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: ClassSet,
    ) -> Plan:
        """The plan of rows as its file has them: see `write_plan_file`."""
        return cls.open(_written(tables, inputs=inputs, settings=settings, classes=classes))

    def _open(self, stream: ByteStream) -> None:
        self._file = PlanFile(stream)
        self.tasks = PlannedTasks(self._file)
        self.rejections = PlannedRejections(self._file)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return (self.inputs, self.settings, self.classes, self.tasks, self.rejections) == (
            other.inputs,
            other.settings,
            other.classes,
            other.tasks,
            other.rejections,
        )

    __hash__ = None  # type: ignore[assignment]  # as of anything that is compared by content

    @property
    def inputs(self) -> dict[str, str]:
        """sha256 by name of what was read: ``captions``, and ``instances`` where given."""
        return self._file.inputs

    @property
    def settings(self) -> dict[str, Any]:
        """The planning section of the configuration, without the paths."""
        return self._file.settings

    @property
    def classes(self) -> ClassSet:
        """The classes that its targets are of."""
        return self._file.classes

    @property
    def samples(self) -> int:
        """Samples of all shards."""
        return int(self.tasks.sizes.sum())

    @property
    def specs(self) -> Iterator[SampleSpec]:
        """All samples, in the order of the shards."""
        return (spec for task in self.tasks for spec in task.specs)

    def columns(self, *names: str) -> Iterator[pa.RecordBatch]:
        """Some columns of the plan's file, a few rows at a time: for counts over everything.

        Raises:
            PlanError: the file cannot be read.
        """
        return self._file.batches([*names])

    def write_to(self, sink: ByteSink) -> None:
        """Writes the plan as a Parquet file, one row a caption; equal plans give equal bytes.

        The samples come first, in their order, then what was left out, in the order of the source.
        """
        self._file.copy_to(sink)

    def to_parquet(self) -> bytes:
        """What `write_to` writes."""
        sink = io.BytesIO()
        self.write_to(sink)
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> Plan:
        """The plan that `to_parquet` made.

        Raises:
            PlanError: the bytes are damaged, no plan, or of a schema this version does not know.
        """
        return cls.open(io.BytesIO(data))

    def differences(
        self, settings: Mapping[str, Any], inputs: Mapping[str, str], classes: ClassSet
    ) -> list[str]:
        """What makes another plan of these settings and inputs, as ``field: old -> new``.

        Paths do not count, digests do.

        Args:
            settings: what is asked for now, as `plan_settings` has it.
            inputs: sha256 by name, of the files as they are now.
            classes: that are asked for now.
        """
        old = {**self.settings, **_prefixed(self.inputs), "class set": self.classes.identity}
        new = {**settings, **_prefixed(inputs), "class set": classes.identity}
        return [
            f"{name}: {old.get(name)} -> {new.get(name)}"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]


def plan_settings(config: PlanConfig, *, append_class_words: bool = False) -> dict[str, Any]:
    """The settings that decide a plan, by field; paths are none of them."""
    settings: dict[str, Any] = config.model_dump(mode="json", exclude={"captions", "instances"})
    return settings | ({APPENDED: True} if append_class_words else {})


def _written(
    tables: Iterable[pa.Table],
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    classes: ClassSet,
) -> ByteStream:
    """A plan file without a name, on disk where it is large."""
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - the plan closes it
    write_plan_file(file, tables, inputs=inputs, settings=settings, classes=classes)
    file.seek(0)
    return file


def _prefixed(inputs: Mapping[str, str]) -> dict[str, str]:
    return {f"inputs.{name}": digest for name, digest in inputs.items()}
