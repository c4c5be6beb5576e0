"""Token optimisation from a folder of annotated samples to a bank with its report.

Everything that can be wrong with the input is looked at before the model is loaded; every finished
class is kept at once; the bank itself is written last, whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ovamgen import __version__
from ovamgen.attribution.token_bank import TAU_FROM, TokenBank, check_tau
from ovamgen.classes.loading import is_default
from ovamgen.config import TOKEN_TAU, WORD_TAU, RunConfig, canonical_json, load_preset
from ovamgen.diffusion.pipeline import check_model
from ovamgen.errors import ConfigError, IncompleteError, MethodError
from ovamgen.masks.iou import FINE_TAUS
from ovamgen.pictures.sample_folder import SampleFolder
from ovamgen.tokens.examples import (
    check_annotated,
    check_held_out,
    class_names,
    drawn_with,
    read_examples,
)
from ovamgen.tokens.iou import mean_iou
from ovamgen.tokens.learning import ClassResult, ClassTask
from ovamgen.tokens.optimiser import OptimiserSettings
from ovamgen.tokens.partial import PartialBank
from ovamgen.tokens.running import LearningProgress, learn_here, learn_on_ray


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiseRequest:
    """What the command was asked for."""

    samples: str
    out: str
    annotations: str | None = None
    """The samples' own folder where None."""
    classes: tuple[str, ...] = ()
    """All that have samples where empty."""
    preset: str = "paper"
    steps: int | None = None
    learning_rate: float | None = None
    images_per_class: int = 1
    validate: str | None = None
    """A folder of other samples, with their annotations."""
    report: str | None = None
    tau: float | None = None
    """The threshold that the bank is to name; the best on the pictures where None."""
    max_memory_gb: float | None = None
    """For the stored queries of one class, 10^9 bytes."""
    model: str | None = None
    """Must be the samples' own; they decide where None."""
    device: str | None = None
    branch: str | None = None
    workers: int | None = None
    ray: bool = False
    """Classes in parallel on Ray rather than one after the other in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """What came out."""

    out: Path
    bank: TokenBank | None
    """None where a class is missing."""
    results: dict[str, ClassResult]
    failures: dict[str, str] = field(default_factory=dict)
    """Why, by class."""
    report: Path | None = None
    partial: Path | None = None

    def lines(self) -> list[str]:
        """As text for people: a row a class, then where things are."""
        text = [f"{'class':<14} {'loss':>16}   {'best step':>9}   IoU at {TOKEN_TAU:g}"]
        for name, result in self.results.items():
            words, optimised = result.training[0].at(WORD_TAU), result.training[2].at(TOKEN_TAU)
            held = f", held out {result.held_out[2].at(TOKEN_TAU):.3f}" if result.held_out else ""
            loss = f"{result.losses[0]:.4f} -> {result.losses.min():.4f}"
            text.append(
                f"{name:<14} {loss:>16}   {result.best_step:>9}   {optimised:.3f} (word at "
                f"{WORD_TAU:g}: {words:.3f}){held}"
            )
        text += [f"{name:<14} FAILED: {reason}" for name, reason in self.failures.items()]
        if self.bank is not None:
            text.append(f"bank           {self.out} ({len(self.bank.class_names)} classes)")
            told = self.bank.provenance[TAU_FROM]
            text.append(f"threshold      tau {self.bank.tau}: {told}")
        if self.report is not None:
            text.append(f"report         {self.report}")
        return text

    def check_complete(self) -> None:
        """Checks that every class was learnt.

        Raises:
            IncompleteError: some were not; the bank was not written.
        """
        if self.failures:
            count = len(self.failures) + len(self.results)
            raise IncompleteError(
                f"{len(self.failures)} of {count} classes failed, so {self.out} was not written; "
                f"the others are kept in {self.partial}: mend what the reasons name and give the "
                "same command again, or leave these classes out with --classes"
            )


def optimise_tokens(request: OptimiseRequest) -> Optimised:
    """Learns a pair for each class and writes the bank, or goes on where an earlier call stopped.

    Raises:
        ConfigError: input that cannot be used, by name; nothing was written.
        MethodError: the model has no cross-attention.
        ClusterError: Ray cannot be reached, or no worker becomes ready.
    """
    out = Path(request.out)
    _check_places(out, request.report)
    config, tasks = prepare(request)
    partial = PartialBank(out)
    results = partial.finished(tasks, config)
    pending = [task for task in tasks if task.class_name not in results]
    failures: dict[str, str] = {}
    with LearningProgress(total=len(tasks), done=len(results)) as progress:
        if results:
            progress.say(f"{len(results)} of {len(tasks)} classes are kept from an earlier call")
        given = request.max_memory_gb
        memory = None if given is None else int(given * 10**9)
        learn = learn_on_ray if request.ray else learn_here
        for name, came in learn(config, pending, memory, progress) if pending else ():
            if isinstance(came, ClassResult):
                partial.add(came)
                results[name] = came
            else:
                failures[name] = came
            progress.finished(name, came)
    names = [task.class_name for task in tasks]
    ordered = {name: results[name] for name in names if name in results}
    if failures:
        return Optimised(
            out=out, bank=None, results=ordered, failures=failures, partial=partial.folder
        )
    bank = make_bank(ordered, tasks, config, request.preset, request.tau)
    report = None
    if request.report is not None:
        from ovamgen.tokens.report import write_report

        report = write_report(Path(request.report), tasks, ordered, bank, config.classes)
    bank.save(out)
    partial.remove()
    return Optimised(out=out, bank=bank, results=ordered, report=report)


def prepare(request: OptimiseRequest) -> tuple[RunConfig, list[ClassTask]]:
    """The samples' configuration and a task a class, every picture read and checked.

    Raises:
        ConfigError: a folder, class, annotation, preset or model that cannot be used.
        MethodError: the model has no cross-attention.
    """
    chosen = {"steps": request.steps, "learning_rate": request.learning_rate}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = OptimiserSettings(**(load_preset(request.preset, "tokens") | chosen))
    if request.images_per_class < 1:
        raise ConfigError(f"--images-per-class must be positive, got {request.images_per_class}")
    if request.max_memory_gb is not None and not request.max_memory_gb > 0:
        raise ConfigError(f"--max-memory must be positive, got {request.max_memory_gb}")
    if request.tau is not None:
        check_tau(request.tau)
    folder = SampleFolder.open(request.samples)
    names = class_names(request.classes, folder)
    check_annotated(names, folder, request.annotations, "--samples")
    given: dict[str, dict[str, object]] = {
        "model": {"device": request.device},
        "attribution": {"branch": request.branch},
        "runtime": {"workers": request.workers},
    }
    config = drawn_with(folder, request.model, given)
    held_out = None
    if request.validate is not None:
        held_out = SampleFolder.open(request.validate)
        check_held_out(folder, held_out)
        shown = [name for name in class_names((), held_out) if name in names]
        check_annotated(shown, held_out, None, "--validate")
        drawn_with(held_out, config.model.id, given)
    facts = check_model(config.model)
    if facts.cross_attention_layers == 0:
        raise MethodError(
            f"tokens need a model with cross-attention outside its middle block, {config.model.id} "
            "has none: use a text-to-image model such as SD 1.5"
        )
    tasks = [
        ClassTask(
            class_name=name,
            training=read_examples(folder, request.annotations, name, request.images_per_class),
            held_out=() if held_out is None else read_examples(held_out, None, name),
            settings=settings,
        )
        for name in names
    ]
    return config, tasks


def make_bank(
    results: dict[str, ClassResult],
    tasks: Sequence[ClassTask],
    config: RunConfig,
    preset: str,
    tau: float | None = None,
) -> TokenBank:
    """The bank of all classes, with what it was made of; a function of the results alone.

    Where no threshold is given, it names the one of the best mean IoU over the held-out pictures,
    or over the pictures that were learnt from where there are no others.

    Raises:
        ConfigError: the classes were learnt with different weights.
    """
    models = {(r.model, r.revision, r.model_digest) for r in results.values()}
    if len(models) > 1:
        raise ConfigError(
            "every class must be learnt with the same weights, got digests "
            f"{', '.join(sorted(digest[:12] for _, _, digest in models))}: the model's files "
            "changed, or differ between nodes; remove the .partial folder and start again"
        )
    ((model, revision, digest),) = models
    synthesis = config.synthesis.model_dump(mode="json")
    provenance = {
        "kind": "optimised",
        "model": model,
        "model_revision": revision,
        "model_digest": digest,
        "ovamgen_version": __version__,
        "preset": preset,
        "branch": config.attribution.half,
        "synthesis": canonical_json(synthesis),
        **{name: str(value) for name, value in asdict(tasks[0].settings).items()},
    }
    if not is_default(config.classes):
        provenance["class_set"] = canonical_json(config.classes.as_record())
    for task in tasks:
        provenance[f"class {task.class_name}"] = canonical_json(
            _described(task, results[task.class_name])
        )
    bank = TokenBank(
        class_names=tuple(results),
        pairs=np.stack([result.pair for result in results.values()]),
        provenance=provenance,
        source="the optimised bank",
    )
    if tau is not None:
        return bank.with_tau(tau, "given")
    held_out = all(result.held_out for result in results.values())
    counts = [r.held_out[2] if held_out else r.training[2] for r in results.values()]
    pictures = sum(len(task.held_out if held_out else task.training) for task in tasks)
    where = "held-out pictures" if held_out else "pictures that it was learnt from"
    best = FINE_TAUS[int(mean_iou(counts).argmax())]
    return bank.with_tau(round(float(best), 2), f"best mean IoU on the {pictures} {where}")


def _described(task: ClassTask, result: ClassResult) -> dict[str, object]:
    described: dict[str, object] = {
        "samples": [example.sample.key for example in task.training],
        "seeds": [example.sample.seed for example in task.training],
        "prompts": [example.sample.prompt for example in task.training],
        "loss_initial": round(float(result.losses[0]), 6),
        "loss_best": round(float(result.losses.min()), 6),
        "best_step": result.best_step,
        "iou_training": round(result.training[2].at(TOKEN_TAU), 4),
    }
    if result.held_out:
        described["iou_held_out"] = round(result.held_out[2].at(TOKEN_TAU), 4)
        described["held_out_samples"] = len(task.held_out)
    return described


def _check_places(out: Path, report: str | None) -> None:
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out must end in .safetensors, got {out}")
    if out.exists():
        raise ConfigError(f"{out} exists already: name another --out, or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder of --out, {out.parent}, does not exist: make it first")
    if report is not None and Path(report).exists() and not Path(report).is_dir():
        raise ConfigError(f"--report must be a folder, {report} is a file")
