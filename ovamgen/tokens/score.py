"""How well a bank's pairs, and the class words, find annotated objects: IoU over the threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ovamgen.attribution.targets import bank_of_model
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.errors import ConfigError
from ovamgen.masks.iou import FINE_TAUS
from ovamgen.pictures.sample_folder import SampleFolder
from ovamgen.records import ModelInfo
from ovamgen.tokens.banks import model_notice
from ovamgen.tokens.drawing import Redrawing
from ovamgen.tokens.examples import (
    annotated,
    check_annotated,
    class_names,
    drawn_with,
    read_examples,
)
from ovamgen.tokens.iou import PUBLISHED_TAUS, IouCounts, curve_values, index_of, mean_iou


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BankScores:
    """Counts of every class, of the bank's pairs and of the class words."""

    bank: str
    model: ModelInfo
    samples: dict[str, int]
    """Pictures of each class."""
    optimised: dict[str, IouCounts]
    words: dict[str, IouCounts]
    """Empty where words were not asked for."""
    without_samples: tuple[str, ...]
    """Classes of the bank that no sample shows."""

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; numbers have four digits."""
        kinds = {"optimised": self.optimised} | ({"words": self.words} if self.words else {})
        return {
            "bank": self.bank,
            "model": self.model.model,
            "model_digest": self.model.digest,
            "samples": self.samples,
            "classes_without_samples": list(self.without_samples),
            "taus": list(FINE_TAUS),
            "maps": {kind: _kind_json(counts) for kind, counts in kinds.items()},
        }

    def lines(self) -> list[str]:
        """A table for people, IoU in percent."""
        heads = [("pair", self.optimised)] + ([("word", self.words)] if self.words else [])
        columns = [*(f"{tau:g}" for tau in PUBLISHED_TAUS), "best (tau)"]
        top = f"{'':<14} {'':>7}" + "".join(f"  | {head:^26}" for head, _ in heads)
        row = f"{'class':<14} {'samples':>7}" + "".join(
            f"  | {columns[0]:>6} {columns[1]:>6} {columns[2]:>12}" for _ in heads
        )
        text = [f"IoU in percent at tau {', '.join(columns)}", top, row]
        for name, count in self.samples.items():
            cells = "".join(_cells(kind[name].iou()) for _, kind in heads)
            text.append(f"{name:<14} {count:>7}{cells}")
        cells = "".join(_cells(mean_iou(kind.values())) for _, kind in heads)
        text.append(f"{'mean':<14} {sum(self.samples.values()):>7}{cells}")
        if self.without_samples:
            text.append(f"no samples: {', '.join(self.without_samples)}")
        return text


def score_bank(
    bank: TokenBank,
    *,
    samples: str,
    model: str | None = None,
    annotations: str | None = None,
    words: bool = False,
    device: str | None = None,
    branch: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> BankScores:
    """The scores of a bank on annotated samples, drawn once more with its own settings.

    Per class, intersections and unions are summed over its samples; the mean is over classes,
    without background (methods 7.3). Maps are divided by their maximum and no CRF follows.

    Args:
        bank: of the model that drew the samples.
        samples: a folder of samples.
        model: must be the samples' own; they decide where None.
        annotations: another folder than the samples' own.
        words: score the class words too.
        device: cpu or cuda; that of the samples where None.
        branch: half of the guided batch; as generation reads it where None.
        say: told what happens.

    Raises:
        ConfigError: bank, model, samples or annotations do not fit together.
        SampleError: a picture cannot be drawn again.
    """
    folder = SampleFolder.open(samples)
    there = class_names((), folder)
    painted = {s.class_name for s in annotated(folder, annotations)}
    names = tuple(name for name in there if name in bank.class_names)
    if not names:
        raise ConfigError(
            f"{bank.source} has {', '.join(bank.class_names)}, the samples of {samples} show "
            f"{', '.join(there)}: give samples of the bank's classes"
        )
    if others := [name for name in there if name not in names]:
        say(f"left out, since the bank lacks their classes: samples of {', '.join(others)}")
    if bare := [name for name in names if name not in painted]:
        say(f"left out, since no sample of theirs is annotated: {', '.join(bare)}")
    names = tuple(name for name in names if name in painted)
    if not names:
        check_annotated(bare, folder, annotations, "--samples")
    given = {"model": {"device": device}, "attribution": {"branch": branch}}
    config = drawn_with(folder, model, given)
    examples = {name: read_examples(folder, annotations, name) for name in names}
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    say(f"loading {config.model.id} on {config.model.device}")
    loaded = load_pipeline(config.model)
    bank = bank_of_model(bank, PipelineAttention(loaded))
    if notice := model_notice(bank, loaded.info):
        say(notice)
    redrawing = Redrawing(loaded, config)
    pairs = torch.from_numpy(bank.select(names)).to(loaded.pipe.device)
    found: dict[str, tuple[IouCounts, ...]] = {}
    for index, name in enumerate(names):
        found[name] = redrawing.counts(examples[name], name, pairs[index : index + 1])
        say(f"{index + 1}/{len(names)} {name}: {len(examples[name])} samples")
    return BankScores(
        bank=bank.sha256,
        model=loaded.info,
        samples={name: len(examples[name]) for name in names},
        optimised={name: counts[1] for name, counts in found.items()},
        words={name: counts[0] for name, counts in found.items()} if words else {},
        without_samples=tuple(name for name in bank.class_names if name not in names),
    )


def _kind_json(by_class: dict[str, IouCounts]) -> dict[str, Any]:
    mean = mean_iou(by_class.values())
    return {
        "classes": {name: curve_values(counts.iou()) for name, counts in by_class.items()},
        "mean": curve_values(mean),
    }


def _cells(iou: Any) -> str:
    low, high = (100 * float(iou[index_of(tau)]) for tau in PUBLISHED_TAUS)
    best = int(iou.argmax())
    peak = f"{100 * float(iou[best]):.1f} ({FINE_TAUS[best]:.2f})"
    return f"  | {low:>6.1f} {high:>6.1f} {peak:>12}"
