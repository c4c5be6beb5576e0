"""A whole run, from a configuration to shards, indexes and a contact sheet.

The command line and ``jobs/generate.py`` are thin shells around this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovamgen import fault_points
from ovamgen.attribution.token_bank import open_bank
from ovamgen.classes.loading import is_default
from ovamgen.config import RunConfig
from ovamgen.console.log_format import say
from ovamgen.console.progress import RunProgress
from ovamgen.console.wording import counted, listed
from ovamgen.diffusion.pipeline import check_model
from ovamgen.engine.token_choice import tokens_in_words
from ovamgen.errors import IncompleteError
from ovamgen.plan.planning import Plan
from ovamgen.plan.summary import PlanSummary
from ovamgen.records import RunSummary, ShardRecord
from ovamgen.run.bad_samples import EngineFactory
from ovamgen.run.drain import drain_on_signals
from ovamgen.run.files import read_run_files
from ovamgen.run.inputs import image_size
from ovamgen.run.retries import superseded
from ovamgen.run.run import Run, open_run
from ovamgen.shards.output_files import CONTACT_SHEET_NAME, shard_name
from ovamgen.status.heartbeat import keep_logs
from ovamgen.status.status import failures_by_reason, in_words
from ovamgen.storage.store import Store

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run and what to say of it."""

    summary: RunSummary
    first_shard: str
    last_shard: str
    contact_sheet: str
    """Path or URL, "" where no sample was made."""
    missing: int = 0
    """Samples that could not be made, but for those that the safety checker took out."""

    def lines(self) -> list[str]:
        """As text for people: where everything is."""
        s = self.summary
        again = s.shards - s.shards_made_now
        made = f"{s.shards_made_now} made now" + (f", {again} were there" if again else "")
        again_tried = f", {s.tried_again} of them tried again" if s.tried_again else ""
        text = [
            f"shards         {s.out}/{self.first_shard} .. {self.last_shard} ({s.shards}; {made})",
            f"samples        {s.samples} made, {s.failed} failed{again_tried}",
        ]
        text += [f"               {n} x {reason}" for reason, n in s.failures_by_reason.items()]
        if self.contact_sheet:
            text.append(f"contact sheet  {self.contact_sheet}")
        return text

    def check_complete(self) -> None:
        """Raises IncompleteError if samples are missing that no policy left out."""
        if self.missing:
            s = self.summary
            raise IncompleteError(
                f"{self.missing} of {s.samples + s.failed} samples could not be made; the reasons "
                f"are above and in {s.out}/metadata"
            )


def generate(
    config: RunConfig,
    factory: EngineFactory | None = None,
    *,
    extend: bool = False,
    retries: Plan | None = None,
) -> Outcome:
    """Makes, or goes on with, the corpus of a configuration.

    Args:
        config: resolved.
        factory: loads what draws, in the process of each worker; the real engine where not given.
        extend: add to the finished or unfinished corpus of another configuration what this one
            asks for and is not there.
        retries: plan of a generation that tries failed samples of the finished corpus again.

    Raises:
        OvamgenError: with the exit code of its kind.
        Interrupted: a signal came; the same configuration goes on from there.
    """
    with open_run(config, extend=extend, retries=retries) as run, keep_logs(run):
        _announce(run, tokens_asked=config.attribution.token_source.kind != "auto")
        done = sum(r.samples + r.failed for r in run.records.values())
        progress = RunProgress(
            total_samples=run.total_samples, done_samples=done, total_shards=run.shards_left
        )
        with progress:
            if not run.shards_left:
                progress.say("every shard is there already")
            for part in run.with_work:
                if config.runtime.runner == "local":
                    from ovamgen.run.local import generate_local

                    generate_local(part, progress, factory)
                else:
                    from ovamgen.cluster.driver import generate_on_ray

                    generate_on_ray(part, progress, factory)
        # all shards are there: a signal that comes now lets the last seconds pass
        with drain_on_signals(float("inf"), say, "the files that describe the corpus"):
            sheet = _write_contact_sheet(run)
            fault_points.reach("run.contact_sheet_put")
            # last: they say that nothing is missing
            run.write_indexes()
            fault_points.reach("run.indexes_put")
        tried_again = superseded(run.store, run.records, read_run_files(run.store))
        failures = failures_by_reason(run.store, run.records, without=tried_again)
        split = config.shards.split
        return Outcome(
            summary=run.summary(in_words(failures), tried_again=len(tried_again)),
            first_shard=shard_name(split, min(run.records)),
            last_shard=shard_name(split, max(run.records)),
            contact_sheet=sheet,
            missing=sum(n for (stage, _), n in failures.items() if stage != "safety"),
        )


def summarise(plan: Plan, config: RunConfig) -> PlanSummary:
    """The plan's table, with sizes for the image size that the configuration ends in."""
    height, width = image_size(config)
    return PlanSummary.of(plan, height=height, width=width)


def _announce(run: Run, *, tokens_asked: bool) -> None:
    model, plan = run.config.model, run.plan
    lines = [
        f"plan: {counted(run.total_samples, 'sample')}, {counted(len(plan.tasks), 'shard')} "
        f"({len(run.records):,} there already), {counted(len(plan.rejections), 'caption')} left out"
    ]
    if run.config.label.pictures:
        lines = [
            f"plan: {counted(run.total_samples, 'picture')}, {counted(len(plan.tasks), 'shard')} "
            f"({len(run.records):,} there already); each is looked at with noise of the timesteps "
            f"{listed(map(str, run.config.attribution.probe))}"
        ]
    if run.config.synthesis.guidance <= 1:
        lines.append(
            f"synthesis.guidance {run.config.synthesis.guidance:g} is none at all: maps are those "
            "of the conditional half, the only one there is"
        )
    if model.id.startswith("random:"):
        lines.append(
            f"NOTE: '{model.id}' has random weights. It shows that the whole chain works; its "
            "pictures and masks show no objects."
        )
    classes = run.config.classes
    if not is_default(classes):
        names = listed(entry.name for entry in classes.classes)
        lines.append(f"classes of {classes.name}: {names}")
    _, bank = open_bank(run.config)
    lines.append(tokens_in_words(run.config, bank, asked=tokens_asked))
    if run.config.attribution.head_file is not None:
        lines.append(_head(run.config))
    for line in lines:
        say(line)


def _head(config: RunConfig) -> str:
    from ovamgen.attribution.trained_head import open_head
    from ovamgen.engine.head_checks import head_in_words

    use = open_head(config)
    assert use is not None
    cell = check_model(config.model).vae_scale_factor or 8
    height, width = image_size(config)
    return head_in_words(config, use, (height // cell, width // cell))


def draw_contact_sheet(
    store: Store, records: Sequence[ShardRecord], config: RunConfig
) -> Image.Image:
    """The contact sheet of finished shards, by ascending index; one sample at least."""
    # matplotlib's fonts and colour maps: only here, at the end
    from ovamgen.report.figures import contact_sheet

    samples = sum(record.samples for record in records)
    steps = f"{config.synthesis.steps} steps"
    if config.label.pictures:
        steps = counted(config.synthesis.steps, "timestep")
    title = f"{samples} samples, {config.model.id}, {steps}"
    return contact_sheet(store, records, config.classes, title=title)


def _write_contact_sheet(run: Run) -> str:
    records = [run.records[index] for index in sorted(run.records)]
    if not any(record.samples for record in records):
        return ""
    from ovamgen.report.figures import encode_sheet

    sheet = draw_contact_sheet(run.store, records, run.config)
    run.store.put(CONTACT_SHEET_NAME, encode_sheet(sheet))
    return f"{run.store.url}/{CONTACT_SHEET_NAME}"
