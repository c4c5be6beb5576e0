"""The plan and ``run.yaml``, brought back where they are damaged or gone.

``run.yaml`` from the manifest, which holds its content; the plan from the captions.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ovamgen.errors import ConfigError, PlanError, ShardError
from ovamgen.integrity.documents import Papers, plan_fits, read_papers
from ovamgen.integrity.findings import Findings
from ovamgen.run.files import run_file_bytes, saved_config
from ovamgen.run.inputs import plan_for
from ovamgen.shards.output_files import PLAN_NAME, RUN_NAME
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
    if RUN_NAME in wrong and (data := _run_file(papers)) is not None:
        store.put(RUN_NAME, data)
        restored.append(RUN_NAME)
    if PLAN_NAME in wrong or (papers.run is not None and PLAN_NAME not in names):
        store.put(PLAN_NAME, _plan(store, papers.run, overrides))
        restored.append(PLAN_NAME)
    return restored


def _run_file(papers: Papers) -> bytes | None:
    """``run.yaml`` as the manifest holds it; None where that is not what was recorded."""
    manifest = papers.manifest
    if manifest is None or not manifest.run:
        return None
    data = run_file_bytes(manifest.run)
    recorded = manifest.files.get(RUN_NAME)
    return data if recorded in (None, hashlib.sha256(data).hexdigest()) else None


def _plan(store: Store, run: dict[str, Any] | None, overrides: tuple[dict[str, Any], ...]) -> bytes:
    if run is None:
        raise ShardError(
            f"neither {PLAN_NAME} nor {RUN_NAME} of {store.url} can be read, and there is no "
            "manifest: run the 'ovamgen generate' that began it, with another --out"
        )
    captions = run["config"].get("plan", {}).get("captions", "")
    what_to_do = (
        f"{PLAN_NAME} of {store.url} is gone and is made again from its captions (sha256 "
        f"{run['inputs'].get('captions')}): put them back to {captions}, or say where they are "
        "with --set plan.captions=FILE"
    )
    try:
        plan = plan_for(saved_config(run, store.url, *overrides))
    except (ConfigError, PlanError) as error:
        raise ConfigError(f"{what_to_do}; {error}") from None
    if not plan_fits(plan, run):
        raise ConfigError(f"{what_to_do}; those that are there now are others")
    return plan.to_parquet()
