"""One class in one process: its pair learnt, and measured on its own and on held-out pictures.

It knows neither folders nor Ray; what is written and where it runs is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from ovamgen import __version__
from ovamgen.attribution.stored import StoredQueries
from ovamgen.attribution.targets import prompt_target
from ovamgen.config import RunConfig, canonical_json
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.engine.opened_model import use_repeatable_arithmetic
from ovamgen.errors import MethodError, SampleError
from ovamgen.records import ModelInfo
from ovamgen.tokens.drawing import Redrawing
from ovamgen.tokens.examples import Example
from ovamgen.tokens.iou import IouCounts
from ovamgen.tokens.memory import QueryMemory, free_bytes, query_memory
from ovamgen.tokens.optimiser import AnnotatedScores, OptimiserSettings, PairScores, optimise_pair

KINDS = ("words", "initial", "optimised")
"""The maps that are compared: the class's phrase, the pair before training, and after."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClassTask:
    """What is to be learnt of one class."""

    class_name: str
    training: tuple[Example, ...]
    held_out: tuple[Example, ...]
    settings: OptimiserSettings

    def fingerprint(self, config: RunConfig) -> str:
        """Digest of everything that the result depends on, but the model's weights."""
        semantic = config.semantic()
        described = {
            "version": __version__,
            "class": self.class_name,
            "training": [example.digest() for example in self.training],
            "held_out": [example.digest() for example in self.held_out],
            "settings": asdict(self.settings),
            "drawn": [semantic["model"], semantic["synthesis"], semantic.get("runtime")],
            "branch": config.attribution.half,
        }
        return hashlib.sha256(canonical_json(described).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClassResult:
    """What came out for one class."""

    class_name: str
    fingerprint: str
    model: str
    revision: str
    model_digest: str
    initial: Float32[np.ndarray, "2 ctx"]
    pair: Float32[np.ndarray, "2 ctx"]
    best_step: int
    losses: Float64[np.ndarray, " steps"]
    maps: Float32[np.ndarray, "3 h w"]
    """Raw maps of the first training picture, in the order of `KINDS`."""
    training: tuple[IouCounts, ...]
    """Counts of each of `KINDS`, over the training pictures."""
    held_out: tuple[IouCounts, ...]
    """The same over the held-out pictures; empty where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerLimits:
    """What a learner may take."""

    memory_bytes: int | None = None
    """For queries; None for what is free."""
    workers: int = 1
    """Learners that may share the machine's memory."""


class TokenLearner:
    """Learns classes with one loaded model.

    Args:
        config: of the samples: model, synthesis, branch, runtime.
        limits: of the memory.

    Raises:
        ConfigError: the model or its device is not usable.
        MethodError: it has no cross-attention.
    """

    def __init__(self, config: RunConfig, limits: LearnerLimits) -> None:
        use_repeatable_arithmetic(config.runtime.cpu_threads)
        loaded = load_pipeline(config.model)
        self.info: ModelInfo = loaded.info
        self._config = config
        self._limits = limits
        self._device = loaded.pipe.device
        self._redrawing = Redrawing(loaded, config)
        self.memory: QueryMemory = query_memory(
            loaded, config.synthesis, self._redrawing.latent_size
        )

    def check_memory(self, images: int) -> None:
        """Checks that the queries of so many images of a class fit.

        Raises:
            ConfigError: they do not; the message says what would help.
        """
        given = self._limits.memory_bytes
        free = free_bytes(self._config.model.device, self._limits.workers)
        self.memory.check(images, free if given is None else given, given is not None)

    def learn(
        self, task: ClassTask, on_step: Callable[[int, float], None] | None = None
    ) -> ClassResult:
        """The pair of one class.

        Args:
            task: its pictures and settings.
            on_step: told each step's number, from 0, and the loss before it.

        Raises:
            ConfigError: the queries do not fit the memory.
            SampleError: a picture cannot be drawn again, or the loss is not finite.
        """
        self.check_memory(len(task.training))
        initial = self._initial_rows(task)
        try:
            annotated, words = self._record(task)
            found = optimise_pair(annotated, initial, task.settings, on_step)
            maps = self._maps(annotated[0].scores, words, initial, found.best)
            # the queries are let go before more is drawn
            annotated.clear()
            pairs = torch.stack([initial, found.best])
            training = self._redrawing.counts(task.training, task.class_name, pairs)
            held_out: tuple[IouCounts, ...] = ()
            if task.held_out:
                held_out = self._redrawing.counts(task.held_out, task.class_name, pairs)
        except torch.OutOfMemoryError:
            raise SampleError(
                f"the memory of {self._device} ended while {task.class_name} was learnt: use fewer "
                "images a class, fewer steps of drawing, or a larger device"
            ) from None
        return ClassResult(
            class_name=task.class_name,
            fingerprint=task.fingerprint(self._config),
            model=self.info.model,
            revision=self.info.revision,
            model_digest=self.info.digest,
            initial=initial.cpu().numpy(),
            pair=found.best.cpu().numpy(),
            best_step=found.best_step,
            losses=found.losses,
            maps=maps,
            training=training,
            held_out=held_out,
        )

    def _initial_rows(self, task: ClassTask) -> Float32[Tensor, "2 ctx"]:
        """`<SoT>` and the class's last sub-token in the first prompt (methods 2.5)."""
        entry = self._config.classes.by_name(task.class_name)
        sample = task.training[0].sample
        encode = self._redrawing.attention.encode
        for phrase in dict.fromkeys((entry.phrase, *entry.names)):
            try:
                target = prompt_target(entry.name, phrase, sample.prompt, encode)
            except MethodError:
                continue
            return target.rows[[0, target.channel]].to(self._device)
        raise SampleError(
            f"the prompt of sample {sample.key} must name the class, '{entry.phrase}', for its "
            f"rows to start from, got '{sample.prompt[:80]}': put a sample that names it first"
        )

    def _record(self, task: ClassTask) -> tuple[list[AnnotatedScores], Float32[Tensor, "h w"]]:
        """The queries of each training picture, and the word's map of the first."""
        layers = self._redrawing.attention.layers
        annotated, words = [], None
        for example in task.training:
            stored, sink = StoredQueries(), self._redrawing.word_maps(task.class_name)
            self._redrawing.draw([example], stored, sink.sink)
            words = sink.result()[0] if words is None else words
            mask = torch.from_numpy(example.mask.astype(np.float32)).to(self._device)
            annotated.append(AnnotatedScores(PairScores(stored, layers), mask))
        assert words is not None
        return annotated, words

    @torch.no_grad()
    def _maps(
        self,
        scores: PairScores,
        words: Float32[Tensor, "h w"],
        initial: Float32[Tensor, "2 ctx"],
        best: Float32[Tensor, "2 ctx"],
    ) -> Float32[np.ndarray, "3 h w"]:
        maps = [words, scores.class_map(initial), scores.class_map(best)]
        return torch.stack(maps).cpu().numpy()
