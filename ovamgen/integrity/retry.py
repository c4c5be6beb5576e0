"""Failed samples of a finished corpus, tried again with other seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ovamgen.console.progress import Track, untracked
from ovamgen.console.wording import counted
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.integrity.findings import Verification
from ovamgen.integrity.repair import Repaired, repair
from ovamgen.integrity.verify import verify
from ovamgen.plan.extending import plan_retries
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.files import PLANNED, read_plan, read_run_files, saved_config
from ovamgen.run.retries import failed_samples
from ovamgen.shards.shard_record import read_records
from ovamgen.storage.store import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What became of the failed samples."""

    repaired: Repaired
    """What had to be mended first."""
    left: Verification
    """The output as it is now."""
    tried: int
    """Samples that had failed and were tried again now."""
    made: int
    """Samples of these that were made."""
    failures: dict[str, int] = field(default_factory=dict)
    """How the others failed, by ``stage: reason``."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "repaired": self.repaired.to_json(), "left": self.left.to_json()}

    def lines(self) -> list[str]:
        """As text for people."""
        text = self.repaired.lines()
        if not self.repaired.left.ok:
            return text
        if not self.tried:
            return [*text, f"{self.left.out}: no sample is left that could be tried again"]
        text.append(f"tried again    {counted(self.tried, 'sample')}, {self.made} made")
        text += [f"               {n} x {reason}" for reason, n in self.failures.items()]
        return [*text, *self.left.lines()]


def retry_failed(
    url: str,
    *,
    overrides: tuple[dict[str, Any], ...] = (),
    jobs: int = 1,
    factory: EngineFactory | None = None,
    say: Callable[[str], object] = lambda text: None,
    track: Track = untracked,
) -> Retried:
    """The corpus with one more attempt at each sample that no attempt has made so far.

    It is mended and finished first. The attempts are a generation of their own, in new shards:
    finished ones keep their bytes. Each has the key and the seed of its place there, and its row of
    metadata names the sample that failed first, the seed before and the number of the attempt.

    Args:
        url: folder or URL of the run.
        overrides: layers above the run's own configuration: where and how fast (``runtime``).
        jobs: shards verified at once.
        factory: loads what draws; the real engine where not given.
        say: told what goes on.
        track: shows how far verifying is.

    Raises:
        ConfigError: it is no run, or cannot be mended; a sample would take this process down.
        OvamgenError: as for a run.
    """
    repaired = repair(url, overrides=overrides, jobs=jobs, factory=factory, say=say, track=track)
    store = open_store(url)
    plan, runs = read_plan(store), read_run_files(store)
    if repaired.left.layout != "run" or plan is None or not runs:
        raise ConfigError(
            f"--failed is for the samples of runs; {store.url} is a {repaired.left.layout}: try "
            "them again where they were made"
        )
    records = read_records(store)
    failed = failed_samples(store, records, plan, runs) if repaired.left.ok else []
    if not failed:
        return Retried(repaired=repaired, left=repaired.left, tried=0, made=0)
    config = saved_config(runs[-1], store.url, *overrides, PLANNED)
    deadly = [failure.key for _, _, failure in failed if failure.took_worker_down]
    if deadly and config.runtime.runner == "local":
        raise ConfigError(
            f"{counted(len(deadly), 'failed sample')} took the process down that made it (the "
            f"first is {deadly[0]}), and another attempt may as well: try it on Ray, with "
            "--set runtime.runner=ray"
        )
    say(f"trying {counted(len(failed), 'failed sample')} again")
    retries = plan_retries(plan, [(spec, retry) for spec, retry, _ in failed])
    outcome = generate(config, factory, retries=retries)
    now = read_records(store)
    new = [now[index] for index in retries.tasks.indices]
    return Retried(
        repaired=repaired,
        left=verify(url, jobs=jobs, track=track),
        tried=len(failed),
        made=sum(record.samples for record in new),
        failures=outcome.summary.failures_by_reason,
    )
