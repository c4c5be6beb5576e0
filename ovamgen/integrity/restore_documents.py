"""Plans and ``run.yaml`` of all generations, brought back where they are damaged or gone.

``run.yaml`` from the manifest, which holds its content; a plan from the captions, or, where it is
of failed samples that were tried again, from what is known of those.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ovamgen.errors import ConfigError, PlanError, ShardError
from ovamgen.integrity.documents import Papers, plan_fits, read_papers
from ovamgen.integrity.findings import Findings
from ovamgen.plan.extending import plan_retries
from ovamgen.plan.planning import Plan
from ovamgen.run.files import run_file_bytes, saved_config
from ovamgen.run.generations import Generation, identity_of
from ovamgen.run.inputs import plan_for
from ovamgen.run.retries import failed_samples
from ovamgen.shards.output_files import PLAN_NAME, RUN_NAME, plan_name, run_name
from ovamgen.shards.shard_record import read_records
from ovamgen.storage.store import Store


def restore_papers(store: Store, overrides: tuple[dict[str, Any], ...]) -> list[str]:
    """Names of the papers that were damaged or gone and are whole again.

    A ``run.yaml`` that can only be written by a run with its model is left as it is; the manifest
    is written at the end of every run.

    Args:
        store: of a run, whose lock is held; a reannotation is left as it is.
        overrides: of the run's configuration, such as where its captions are now.

    Raises:
        ConfigError: the plan is gone, and the captions that it was made of as well.
        ShardError: the plan is gone, and what it was made of is not known.
    """
    names = store.sizes()
    findings = Findings()
    papers = read_papers(store, names, findings)
    if papers.run is not None and "derived" in papers.run:
        return []
    wrong = {finding.file for finding in findings}
    restored: list[str] = []
    before: list[Plan] = []
    for number, (run, plan) in enumerate(zip(papers.runs, papers.plans, strict=True)):
        of_run, of_plan = run_name(number), plan_name(number)
        if of_run in wrong and (data := _run_file(papers, number)) is not None:
            store.put(of_run, data)
            restored.append(of_run)
        if of_plan in wrong or (run is not None and of_plan not in names):
            plan = _plan(store, run, overrides, before, papers)
            store.put(of_plan, plan.to_parquet())
            restored.append(of_plan)
        if plan is not None:
            before.append(plan)
    return restored


def _run_file(papers: Papers, number: int) -> bytes | None:
    """``run.yaml`` as the manifest holds it; None where that is not what was recorded."""
    manifest = papers.manifest
    if manifest is None or number >= len(manifest.runs) or not manifest.runs[number]:
        return None
    data = run_file_bytes(manifest.runs[number])
    recorded = manifest.files.get(run_name(number))
    return data if recorded in (None, hashlib.sha256(data).hexdigest()) else None


def _plan(
    store: Store,
    run: dict[str, Any] | None,
    overrides: tuple[dict[str, Any], ...],
    before: list[Plan],
    papers: Papers,
) -> Plan:
    """The plan of a generation, behind those of the plans before it."""
    if run is None:
        raise ShardError(
            f"neither {PLAN_NAME} nor {RUN_NAME} of {store.url} can be read, and there is no "
            "manifest: run the 'ovamgen generate' that began it, with another --out"
        )
    if Generation.of(run).retries:
        return _plan_of_retries(store, run, before, papers)
    after = Plan.joined(before) if before else None
    captions = run["config"].get("plan", {}).get("captions", "")
    what_to_do = (
        f"{PLAN_NAME} of {store.url} is gone and is made again from its captions (sha256 "
        f"{run['inputs'].get('captions')}): put them back to {captions}, or say where they are "
        "with --set plan.captions=FILE"
    )
    problem = "those that are there now are others"
    # generations may have captions of their own, and where they are now is said of one of them
    for layers in (overrides, ()) if len(papers.runs) > 1 else (overrides,):
        try:
            plan = plan_for(saved_config(run, store.url, *layers), after)
        except (ConfigError, PlanError) as error:
            problem = str(error)
            continue
        if plan_fits(plan, run):
            return plan
    raise ConfigError(f"{what_to_do}; {problem}")


def _plan_of_retries(store: Store, run: dict[str, Any], before: list[Plan], papers: Papers) -> Plan:
    """The plan of a generation of retries, from the failed samples of the shards before it."""
    number = Generation.of(run).number
    runs = [earlier for earlier in papers.runs[:number] if earlier is not None]
    if len(before) == number == len(runs):
        planned = Plan.joined(before)
        first = len(planned.tasks)
        records = {i: r for i, r in read_records(store).items() if i < first}
        found = failed_samples(store, records, planned, runs)
        plan = plan_retries(planned, [(spec, retry) for spec, retry, _ in found])
        inputs = {**run["inputs"]}
        config = saved_config(run, store.url)
        marks = Generation.of(run).extends
        if plan.tasks and identity_of(config, inputs, plan, marks) == run["identity"]:
            return plan
    raise ShardError(
        f"{plan_name(number)} of {store.url} is gone and is made again from the failed samples of "
        "the shards before it: those must be whole"
    )
