"""The plan of a run: every sample in its place, and every caption left out, in a file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import default_classes
from ovamgen.config import PlanConfig
from ovamgen.errors import PlanError
from ovamgen.plan.plan_file import ByteSink, ByteStream, PlanFile, write_plan_file
from ovamgen.plan.plan_rows import PlannedRejections, PlannedTasks, tables_of
from ovamgen.plan.prompts import Rejection
from ovamgen.records import SampleSpec, ShardTask

APPENDED = "append_class_words"
"""The setting that makes prompts of captions and class words; absent where it is off."""
INPUTS = frozenset({"captions", "instances", "pictures"})
"""Names of what plans are made of; a run has other inputs beside them, such as tokens."""
_SPOOL_BYTES = 16 << 20
"""Plans up to this size stay in memory."""


class Plan:
    """All samples of a run in their order, and all captions that are not among them.

    It is a plan file, on disk as a rule: what is asked for is read from it, so that a plan of ten
    million captions takes no more memory than one of ten. The plan of a corpus that was extended
    is several files, one a generation, whose shards follow each other.
    """

    def __init__(
        self,
        *,
        tasks: Iterable[ShardTask],
        rejections: Iterable[Rejection],
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: ClassSet | None = None,
        first_shard: int = 0,
        retries: bool = False,
        pictures: bool = False,
    ) -> None:
        """The plan of samples and rejections that are given as records.

        Args:
            tasks: one a shard, in the order of the shards; none where no caption makes a sample.
            rejections: in the order of the source.
            inputs: sha256 by name of what was read: ``captions``, and ``instances`` where given.
            settings: the planning section of the configuration, without the paths.
            classes: that the targets are of; the default ones where not given.
            first_shard: index of the first task's shard; above 0 for a later generation.
            retries: the samples are failed ones, tried again.
            pictures: the samples are labelled pictures.

        Raises:
            PlanError: the keys are not those of samples in their order.
        """
        classes = classes or default_classes()
        made = self.of_tables(
            tables_of(tasks, rejections, classes, retries=retries, pictures=pictures),
            inputs=inputs,
            settings=settings,
            classes=classes,
            first_shard=first_shard,
            retries=retries,
            pictures=pictures,
        )
        self._take(made._files)

    @classmethod
    def open(cls, stream: ByteStream) -> Plan:
        """The plan in a file; the file is checked from end to end, and read when it is needed.

        Args:
            stream: seekable; it is the plan's from now on.

        Raises:
            PlanError: the bytes are damaged, no plan, or of a schema this version does not know.
        """
        return cls._of((PlanFile(stream),))

    @classmethod
    def joined(cls, generations: Sequence[Plan]) -> Plan:
        """The plan of a corpus, of those of its generations; at least one.

        Raises:
            PlanError: the shards of one do not follow those of the one before it.
        """
        files = tuple(file for plan in generations for file in plan._files)
        end = 0
        for number, file in enumerate(files):
            if file.first_shard != end:
                raise PlanError(
                    f"the plan of generation {number} is damaged: it must begin at shard {end}, "
                    f"it begins at shard {file.first_shard}"
                )
            end += len(file.shard_starts) - 1
        return cls._of(files)

    @classmethod
    def of_tables(
        cls,
        tables: Iterable[pa.Table],
        *,
        inputs: Mapping[str, str],
        settings: Mapping[str, Any],
        classes: ClassSet,
        first_shard: int = 0,
        retries: bool = False,
        pictures: bool = False,
    ) -> Plan:
        """The plan of rows as its file has them: see `write_plan_file`."""
        # without a name, on disk where it is large
        file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - the plan's
        write_plan_file(
            file,
            tables,
            inputs=inputs,
            settings=settings,
            classes=classes,
            first_shard=first_shard,
            retries=retries,
            pictures=pictures,
        )
        file.seek(0)
        return cls.open(file)

    @classmethod
    def _of(cls, files: tuple[PlanFile, ...]) -> Plan:
        plan = cls.__new__(cls)
        plan._take(files)
        return plan

    def _take(self, files: tuple[PlanFile, ...]) -> None:
        self._files = files
        self._file = files[-1]
        self.tasks = PlannedTasks(files)
        planned = [file for file in files if not file.retries]
        self._source = planned[-1] if planned else files[-1]
        """The last generation that read captions: what it left out is what is left out now."""
        self.rejections = PlannedRejections(self._source)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        one, two = (
            [(g.inputs, g.settings, g.classes, g.first_shard, g.is_retries) for g in p.generations]
            for p in (self, other)
        )
        return (one, self.tasks, self.rejections) == (two, other.tasks, other.rejections)

    __hash__ = None  # type: ignore[assignment]  # as of anything that is compared by content

    @property
    def generations(self) -> tuple[Plan, ...]:
        """The plans that it was joined of, each of one file; itself where nothing was extended."""
        return (self,) if len(self._files) == 1 else tuple(Plan._of((f,)) for f in self._files)

    @property
    def first_shard(self) -> int:
        """Index of its first shard."""
        return self._files[0].first_shard

    @property
    def is_retries(self) -> bool:
        """The samples of its last generation are failed ones, tried again."""
        return self._file.retries

    @property
    def is_of_pictures(self) -> bool:
        """The samples of its last generation are labelled pictures."""
        return self._file.pictures

    @property
    def inputs(self) -> dict[str, str]:
        """sha256 by name of what was read: ``captions``, and ``instances`` where given.

        Like settings and classes, those of the last generation.
        """
        return self._file.inputs

    @property
    def settings(self) -> dict[str, Any]:
        """The planning section of the configuration, without the paths."""
        return self._file.settings

    @property
    def settings_of_config(self) -> dict[str, Any]:
        """`settings` without what is no field of the planning section."""
        return {name: value for name, value in self.settings.items() if name != APPENDED}

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
        """Some columns of the samples and of what was left out, a few rows at a time.

        Raises:
            PlanError: the file cannot be read.
        """
        for file in self._files:
            left = file.row_count if file is self._source else int(file.shard_starts[-1])
            for batch in file.batches([*names]):
                yield batch.slice(0, left)
                left -= min(left, batch.num_rows)

    def write_to(self, sink: ByteSink) -> None:
        """Writes the last generation as a Parquet file, one row a caption.

        Equal plans give equal bytes.

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


def _prefixed(inputs: Mapping[str, str]) -> dict[str, str]:
    return {f"inputs.{name}": digest for name, digest in inputs.items()}
