"""A corpus with its masks made again from stored heatmaps, under other mask settings.

Shards are published as generating publishes them: what was interrupted goes on shard by shard, and
ends in the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial as bound
from typing import Any

from ovamgen import __version__
from ovamgen.attribution.token_bank import open_bank
from ovamgen.classes.loading import as_saved
from ovamgen.config import (
    AS_KEYS,
    RECORDED_SELF_ATTENTION,
    RunConfig,
    build_config,
    identity,
    read_preset,
    with_preset_file,
)
from ovamgen.console.progress import RunProgress
from ovamgen.corpus.open import Corpus, derived_fingerprint, open_corpus
from ovamgen.corpus.reannotate_shard import Reannotation, reannotate_shard
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.run.bad_samples import EarlyStop
from ovamgen.run.files import (
    differences,
    library_versions,
    read_plan,
    read_run_file,
    run_file_bytes,
    write_plan_file,
)
from ovamgen.shards.card import DOCUMENTS_EDITION
from ovamgen.shards.manifest import write_indexes
from ovamgen.shards.output_files import RUN_NAME
from ovamgen.shards.process_pool import run_in_processes
from ovamgen.shards.shard_record import finished_copies
from ovamgen.storage.store import Store, open_store

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0
"""For a process to end by itself, and leave nothing unfinished behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reannotated:
    """A finished reannotation; counts are of samples unless they say otherwise."""

    out: str
    fingerprint: str
    shards: int
    shards_made_now: int
    samples: int
    failed_now: int
    """Samples that have an image and of which no mask could be made."""

    def lines(self) -> list[str]:
        """As text for people."""
        again = self.shards - self.shards_made_now
        made = f"{self.shards_made_now} made now" + (f", {again} were there" if again else "")
        return [
            f"shards         {self.out} ({self.shards}; {made})",
            f"samples        {self.samples} with new masks, {self.failed_now} failed",
        ]

    def check_complete(self) -> None:
        """Raises IncompleteError if masks could not be made of samples that had one."""
        if self.failed_now:
            raise IncompleteError(
                f"{self.failed_now} samples have no new mask; the reasons are in "
                f"{self.out}/metadata"
            )


def reannotate(
    url: str,
    out: str,
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    workers: int = 1,
    partial: bool = False,
    source: str | None = None,
    given_as: Mapping[str, str] = AS_KEYS,
) -> Reannotated:
    """The corpus with new masks, in a folder of its own.

    Images, captions, heatmaps and keys stay. A mask differs from the one that the run would have
    made with the same settings by two roundings: heatmaps are stored in 8 bits, and the dense CRF
    sees the image as JPEG left it.

    Args:
        url: the folder of a run with stored heatmaps, or of a view of one.
        out: an empty folder, or one that the same reannotation began.
        preset: mask preset; by default the settings of the run.
        overrides: fields of the section ``masks`` that win over both.
        workers: processes; one shard is made in each.
        partial: a run that is not finished will do.
        source: of a view, the corpus that it is of; by default the one beside it.
        given_as: what complaints call a key that was given otherwise.

    Raises:
        ConfigError: settings that are not allowed or need the model, no heatmaps, an output that
            holds something else.
        ShardError: a shard is damaged, or a process died.
        OvamgenError: the first samples all fail.
    """
    corpus = open_corpus(url, partial=partial, source=source)
    corpus = replace(corpus, records=corpus.all_records)
    config = new_config(corpus, preset, overrides or {}, given_as)
    before = corpus.fingerprint
    masks = config.masks.model_dump(mode="json")
    mark = derived_fingerprint("reannotate", before, masks)
    store = open_store(out)
    data = _run_file(corpus, config, mark, before)
    with store.lock():
        store.sweep()
        _claim(store, data)
        done = finished_copies(store, corpus.records, mark)
        pending = [record for record in corpus.records if record.shard_index not in done]
        made_before = sum(record.samples for record in done.values())
        progress = RunProgress(
            total_samples=corpus.samples, done_samples=made_before, total_shards=len(pending)
        )
        job = Reannotation(
            corpus=corpus,
            store=store,
            masks=config.masks,
            fingerprint=mark,
            early_stop=EarlyStop(
                made_before=made_before,
                largest_shard=max((record.samples for record in pending), default=1),
            ),
        )
        made_now = len(pending)
        with progress:
            for record in run_in_processes(
                bound(reannotate_shard, job),
                pending,
                min(workers, len(pending)),
                flag="--workers",
                after_samples=lambda count: progress.count(images=count),
                grace_seconds=_GRACE_SECONDS,
            ):
                progress.count(shards=1)
                done[record.shard_index] = record
        plan = read_plan(corpus.store) if corpus.view is None else None
        # the shards here are of one kind, and are not planned in generations
        if plan is not None and len(plan.generations) == 1:
            write_plan_file(store, plan)
        records = [done[record.shard_index] for record in corpus.records]
        write_indexes(store, records, data)
        store.sweep()
    return Reannotated(
        out=store.url,
        fingerprint=mark,
        shards=len(records),
        shards_made_now=made_now,
        samples=sum(record.samples for record in records),
        failed_now=corpus.samples - sum(record.samples for record in records),
    )


def new_config(
    corpus: Corpus,
    preset: str | None,
    overrides: Mapping[str, Any],
    given_as: Mapping[str, str] = AS_KEYS,
) -> RunConfig:
    """The run's configuration with new mask settings, resolved.

    Args:
        corpus: with the settings of its run.
        preset: mask preset, or None for the run's own settings.
        overrides: fields of the section ``masks``.
        given_as: what complaints call a key that was given otherwise.

    Raises:
        ConfigError: no such preset or field, a value that is not allowed, or settings that stored
            heatmaps cannot be taken to.
    """
    saved = corpus.run_info.get("config")
    if not isinstance(saved, dict):
        raise ConfigError(
            f"expected the folder of a run with its {RUN_NAME}, got {corpus.store.url}: the mask "
            "settings that the run was made with stand there"
        )
    if saved.get("shards", {}).get("heatmaps") is False:
        raise ConfigError(
            f"the run in {corpus.store.url} stored no heatmaps: masks can be made again only from "
            "those; make the corpus with 'ovamgen generate --set shards.heatmaps=true'"
        )
    # what came with a corpus names no file to be opened
    saved = {k: v for k, v in saved.items() if k != "classes"} | as_saved(corpus.classes)
    before = build_config(saved)
    masks: dict[str, Any] = {"preset": preset} if preset else dict(saved["masks"])
    values = read_preset(preset) if preset else {}
    # a threshold and its background channel say the same thing twice: the new one is meant
    for given, other in (("tau", "beta"), ("beta", "tau")):
        if given in overrides:
            masks.pop(other, None)
            # one threshold for all classes
            masks.pop("class_tau", None)
    layer = {**saved, "masks": {**masks, **overrides}}
    config = build_config(*with_preset_file(layer), given_as=given_as)
    # a preset's other sections are about drawings that are made with it
    drawn = {"attribution": before.attribution, "synthesis": before.synthesis}
    config = config.model_copy(update=drawn)
    if config.masks.tau is None:
        try:
            config, _ = open_bank(config)
        except ConfigError as error:
            raise ConfigError(
                f"the preset {preset} leaves the threshold to the tokens: {error}; or give --tau "
                f"(the run had {before.masks.tau})"
            ) from None
    _check_possible(before, config, values)
    return config


def _check_possible(before: RunConfig, after: RunConfig, preset: Mapping[str, Any]) -> None:
    method = preset.get("attribution", {}).get("method", before.attribution.method)
    if method != before.attribution.method:
        raise ConfigError(
            f"the preset {after.masks.preset} is for heatmaps of {method}, those of this corpus "
            f"are of {before.attribution.method}: give another preset"
        )
    written = before.attribution.model_dump(mode="json")
    for name in ("resolutions", "calls"):
        chosen = preset.get("attribution", {}).get(name)
        if chosen and list(chosen) != written.get(name):
            raise ConfigError(
                f"the preset {after.masks.preset} is for heatmaps of attribution.{name} {chosen}, "
                f"those of this corpus are of {written.get(name, 'all')}: give another preset"
            )
    old, new = before.masks, after.masks
    fixed = []
    # what is in the stored heatmaps already, and needs the model
    if {old.self_attention, new.self_attention} & RECORDED_SELF_ATTENTION:
        fixed.append("self_attention")
    if old.self_attention == "received":
        fixed += ["normalisation", "self_attention_low"]
    if old.self_attention == "affinity":
        fixed += ["self_attention_power", "self_attention_positions"]
    if old.self_attention == "iterated":
        fixed += ["self_attention_positions", "self_attention_iterations"]
        fixed.append("self_attention_entropy_step")
    if old.normalisation == "min-max" or new.normalisation == "none":
        fixed.append("normalisation")
    for name in fixed:
        was, wanted = getattr(old, name), getattr(new, name)
        if was != wanted:
            raise ConfigError(
                f"masks.{name} {wanted} cannot be had from the stored heatmaps, which were made "
                f"with {was}: make the corpus with it, or leave it as it was with --set "
                f"masks.{name}={was}"
            )


def _run_file(corpus: Corpus, config: RunConfig, mark: str, source: str) -> dict[str, Any]:
    """``run.yaml`` of the new corpus: the run's own, with the masks and where they are from."""
    info = {name: value for name, value in corpus.run_info.items() if name != "generation"}
    flat = identity(config, info.get("inputs", {}))
    # no configuration of 'generate' may ever be taken for that of these shards
    flat["samples_version"] = f"{flat['samples_version']}, reannotated"
    return {
        **info,
        "ovamgen_version": __version__,
        "documents_edition": DOCUMENTS_EDITION,
        "fingerprint": mark,
        "identity": flat,
        "config": config.model_dump(mode="json", exclude={"out", "runtime"}),
        "versions": library_versions(),
        "derived": {
            "command": "reannotate",
            "from_fingerprint": source,
            "from_ovamgen_version": info.get("ovamgen_version", ""),
            "from_versions": info.get("versions", {}),
            "from_masks": info["config"]["masks"],
        },
    }


def _claim(store: Store, data: dict[str, Any]) -> None:
    saved = read_run_file(store)
    if saved is None:
        if files := store.list():
            raise ConfigError(
                f"{store.url} must be empty or hold what the same command made (it holds "
                f"{files[0]}): give another --out"
            )
        store.put(RUN_NAME, run_file_bytes(data))
    elif saved["fingerprint"] != data["fingerprint"]:
        changed = differences(saved["identity"], data["identity"])
        raise ConfigError(
            f"{store.url} belongs to another corpus or to other mask settings "
            f"({'; '.join(changed) or 'of another run'}): give another --out"
        )
    elif changed := differences(saved.get("versions", {}), data["versions"]):
        log.warning("the shards that are there were made with other versions: %s", changed)
