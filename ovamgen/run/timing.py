"""How long each stage of the work took, as sums of seconds by stage.

Seconds are measured by the process that works, on its own monotonic clock, and travel in the small
statuses. They never reach a shard: its bytes are a function of the plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

WorkStage = Literal["loading", "synthesis", "masks", "encoding", "writing"]
"""``masks`` includes the dense CRF, ``writing`` the tar, its metadata and their upload."""

WORK_STAGES: tuple[WorkStage, ...] = get_args(WorkStage)

Seconds = Mapping[WorkStage, float]
"""Stages that took no time may be missing."""


class StageClock:
    """Sums of seconds by stage, of one process and one thread."""

    def __init__(self) -> None:
        self.seconds: dict[WorkStage, float] = {}

    @contextmanager
    def measure(self, stage: WorkStage) -> Iterator[None]:
        """The block's time counts for the stage, failed or not."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - begin})

    def take(self) -> Seconds:
        """The sums so far, which begin again at nothing."""
        taken, self.seconds = self.seconds, {}
        return taken

    def add(self, seconds: Seconds) -> None:
        """What another process has measured."""
        for stage, value in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value
