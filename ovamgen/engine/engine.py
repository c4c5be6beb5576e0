"""A loaded pipeline and a heatmap method: specs of samples to images and class heatmaps.

The one place where diffusion and attribution meet. It knows neither masks nor shards nor Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from ovamgen.attribution.chosen_attention import check_chosen, chosen
from ovamgen.attribution.interface import HeatmapMethod, HeatmapSink
from ovamgen.attribution.maps import resize
from ovamgen.attribution.method import build_method
from ovamgen.attribution.targets import AttributedClasses
from ovamgen.attribution.trained_head import HeadUse
from ovamgen.classes.class_set import ClassSet
from ovamgen.config import (
    AttributionConfig,
    MaskConfig,
    Normalisation,
    RunConfig,
    check_method,
)
from ovamgen.diffusion.drawing import Drawing
from ovamgen.diffusion.pipeline import check_model
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.labelling import ClassFinder, Labeller
from ovamgen.engine.opened_model import PipelineAttention, open_attribution
from ovamgen.errors import ConfigError
from ovamgen.records import ModelInfo, SampleFailure, SampleSpec, Stage, SynthesisBatch
from ovamgen.storage.pictures import open_picture_source

ALWAYS_RECORDED = 80
"""Sets of at most so many classes are recorded whole for every image; of larger ones, the targets
of the batch: time and memory grow with the classes (docs/results/recording-classes.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recording:
    """What is recorded of a batch."""

    class_ids: tuple[int, ...]
    attributed: AttributedClasses
    method: HeatmapMethod


class Engine:
    """Makes the samples of a run; `Engine.load` is the way to get one.

    Args:
        synthesiser: draws.
        attention: the pipeline, as attribution sees it.
        classes: that the run has.
        attributed: what stands for each of them, in their order.
        attribution: what makes heatmaps of what is drawn, and what of it the method sees.
        head: its trained network, where it has one.
        masks: how its maps are normalised.
        labeller: what reads pictures in the place of drawn images, if any.
        info: what was loaded.
        tokens_digest: digest of the token bank, "" where none was read.
        drop_unsafe: samples that the safety checker flags are failures.
    """

    def __init__(
        self,
        *,
        synthesiser: Synthesiser,
        attention: PipelineAttention,
        classes: ClassSet,
        attributed: AttributedClasses,
        attribution: AttributionConfig,
        head: HeadUse | None,
        masks: MaskConfig,
        labeller: Labeller | None,
        info: ModelInfo,
        tokens_digest: str,
        drop_unsafe: bool,
    ) -> None:
        self.info = info
        self.tokens_digest = tokens_digest
        self.class_ids = tuple(entry.id for entry in classes.classes)
        self._synthesiser = synthesiser
        self._attention = attention
        self._attributed = attributed
        self._attribution = attribution
        self._head = head
        self._masks = masks
        self._labeller = labeller
        self._drop_unsafe = drop_unsafe
        self._drawing = Lock()
        few = len(self.class_ids) <= ALWAYS_RECORDED
        self._always = self._recording(self.class_ids) if few else None

    @classmethod
    def load(cls, config: RunConfig) -> Engine:
        """The engine of a run, its model on its device and every input checked.

        Sets the threads of CPU arithmetic for the process, since sums depend on them, and on CUDA
        asks cuDNN for the kernels that always give the same numbers.

        Raises:
            ConfigError: no such model, device, scheduler, token bank or head, or they do not fit.
            MethodError: no such attribution method, or the model has no cross-attention.
        """
        # what is cheap to find wrong is looked at before gigabytes are loaded
        check_method(config.attribution.method)
        safety = config.synthesis.safety != "off"
        check_model(config.model, safety=safety)
        opened = open_attribution(config, safety=safety)
        config, loaded = opened.config, opened.attention.loaded
        synthesiser = Synthesiser(
            loaded, config.synthesis, decode_images=config.runtime.decode_images
        )
        return cls(
            synthesiser=synthesiser,
            attention=opened.attention,
            classes=config.classes,
            attributed=opened.attributed,
            attribution=config.attribution,
            head=opened.head,
            masks=config.masks,
            labeller=_labeller(config, synthesiser),
            info=loaded.info,
            tokens_digest=opened.tokens_digest,
            drop_unsafe=config.synthesis.safety == "drop",
        )

    def synthesise(self, specs: Sequence[SampleSpec]) -> SynthesisBatch:
        """Images and heatmaps; what fails by itself is in `failures`.

        Images are drawn, or where the run labels pictures, read.

        Of at most `ALWAYS_RECORDED` classes there are maps of all, of more those that are a target
        in the batch.

        May be called from several threads: one batch is drawn at a time, and while its images are
        waited for and checked the next is drawn. On a GPU all work is in one queue, so the batch
        that is handed over keeps no more there than its images and maps.

        Args:
            specs: one batch of the plan, in its order.

        Raises:
            ConfigError: the batch does not fit the device's memory.
        """
        try:
            pictures = None if self._labeller is None else self._labeller.read(specs)
            with self._drawing:
                encoded = None
                if self._labeller is not None and pictures is not None:
                    encoded = self._synthesiser.encode(pictures.images)
                    specs = self._labeller.with_classes(specs, pictures, encoded.latents)
                drawing, unattributed, recording = self._draw(specs, encoded)
            drawn = self._synthesiser.receive(drawing)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            # smaller batches would give other last bits: that is for the plan to decide
            raise ConfigError(
                f"a batch of {len(specs)} images of {self._synthesiser.height}x"
                f"{self._synthesiser.width} pixels does not fit the memory of {self.info.model}'s "
                "device: make plan.batch_size or the images smaller"
            ) from None
        fractions, heatmaps = drawn.beside
        failures: list[SampleFailure] = []
        kept: list[int] = []
        for index, spec in enumerate(specs):
            rows = self._rows(recording, spec)
            unread = None if pictures is None else pictures.errors[index]
            failure = self._failure(
                unread or drawn.errors[index], drawn.unsafe[index], fractions[index][rows]
            )
            failure = failure or unattributed[index]
            if failure is None:
                kept.append(index)
            else:
                stage, reason = failure
                failures.append(SampleFailure(key=spec.key, stage=stage, reason=reason))
        return SynthesisBatch(
            specs=tuple(specs[index] for index in kept),
            images=drawn.images[kept],
            heatmaps=heatmaps[kept],
            heatmap_max=tuple(tuple(fractions[index].tolist()) for index in kept),
            class_ids=recording.class_ids,
            all_classes=recording is self._always,
            unsafe=tuple(drawn.unsafe[index] for index in kept),
            failures=tuple(failures),
            files=() if pictures is None else tuple(pictures.files[index] for index in kept),
        )

    def _recording(self, class_ids: Sequence[int]) -> _Recording:
        places = [self.class_ids.index(class_id) for class_id in class_ids]
        attributed = self._attributed.only(places)
        method = build_method(
            self._attribution.method,
            self._attention,
            attributed.targets,
            self._masks,
            head=self._head,
        )
        return _Recording(tuple(class_ids), attributed, method)

    def _rows(self, recording: _Recording, spec: SampleSpec) -> list[int]:
        """The classes that a sample depends on: all, or its targets where not all are recorded."""
        if recording is self._always:
            return list(range(len(recording.class_ids)))
        return [recording.class_ids.index(target.class_id) for target in spec.targets]

    def _draw(
        self, specs: Sequence[SampleSpec], encoded: Drawing | None
    ) -> tuple[Drawing, list[tuple[Stage, str] | None], _Recording]:
        """A batch on its way to the host, its maps with it, and which samples have no maps."""
        prompts = [spec.prompt for spec in specs]
        wanted = {target.class_id for spec in specs for target in spec.targets}
        # where no sample of a batch is to show a class, some class is recorded all the same
        recording = self._always or self._recording(sorted(wanted) or self.class_ids[:1])
        sink = recording.method.open(prompts)
        fed = chosen(sink, self._attribution)
        listeners = [(fed, self._attribution.half)]
        seeds, probe = [spec.seed for spec in specs], self._attribution.probe
        if encoded is None:
            drawing = self._synthesiser.begin(prompts, seeds, listeners=listeners, probe=probe)
        else:
            drawing = encoded
            self._synthesiser.probe(encoded.latents, prompts, seeds, probe, listeners)
        check_chosen(fed)
        maps, fractions = class_heatmaps(sink, self._masks, recording.attributed)
        drawing.send(fractions, maps.half())
        problems = [
            self._unattributed(sink, recording, index, spec) for index, spec in enumerate(specs)
        ]
        return drawing, problems, recording

    def _failure(
        self, error: Exception | None, unsafe: bool, fractions: Float32[np.ndarray, " K"]
    ) -> tuple[Stage, str] | None:
        if error is not None:
            return "synthesis", str(error)
        if not np.isfinite(fractions).all():
            return "synthesis", "finite heatmaps expected, got NaN or infinite ones: another seed"
        if unsafe and self._drop_unsafe:
            return "safety", "the safety checker flagged the image"
        return None

    def _unattributed(
        self, sink: HeatmapSink, recording: _Recording, index: int, spec: SampleSpec
    ) -> tuple[Stage, str] | None:
        for target in spec.targets:
            place = recording.class_ids.index(target.class_id)
            problem = recording.attributed.problem(sink, index, place)
            if problem is not None:
                return "masks", problem
        return None


def _labeller(config: RunConfig, synthesiser: Synthesiser) -> Labeller | None:
    """What reads and labels the pictures that a run names; None where it draws."""
    label = config.label
    if not label.pictures:
        return None
    finder = ClassFinder(synthesiser, config.classes, label.min_score, config.plan.batch_size)
    return Labeller(source=open_picture_source(label.pictures), finder=finder)


def _is_out_of_memory(error: Exception) -> bool:
    # on CPU torch raises a plain RuntimeError, known by its text alone
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )


def class_heatmaps(
    sink: HeatmapSink, masks: MaskConfig, classes: AttributedClasses
) -> tuple[Float32[Tensor, "B K h w"], Float32[Tensor, "B K"]]:
    """What a sink recorded as normalised maps, as masks are made of them, and their maxima.

    Args:
        sink: after the drawing.
        masks: its ``normalisation``, and what the received self-attention is scaled to.
        classes: whose targets the sink was opened for.

    Returns:
        Maps in [0, 1] and maxima as fractions, as `normalise` gives them, the maps multiplied by
        the sink's factor where it has one (methods 2.6, in the order of 7.4).

    Raises:
        MethodError: nothing was recorded.
    """
    each, maxima = normalise(sink.class_maps(), sink.maximum, how=masks.normalisation)
    maps, fractions = classes.largest(each), classes.largest(maxima)
    factor = sink.factor()
    if factor is not None:
        # maps of chosen layers may be smaller
        fitted = resize(factor[:, None], (maps.shape[2], maps.shape[3]))
        maps = maps * factor_of(fitted[:, 0], masks)[:, None]
    return maps, fractions


def factor_of(received: Float32[Tensor, "B h w"], masks: MaskConfig) -> Float32[Tensor, "B h w"]:
    """What maps are multiplied by: the received self-attention, from [0, 1] to [low, 1]."""
    low = 1.0 if masks.self_attention_low is None else masks.self_attention_low
    return low + (1 - low) * received


def normalise(
    maps: Float32[Tensor, "B K h w"], maximum: float, *, how: Normalisation = "max"
) -> tuple[Float32[Tensor, "B K h w"], Float32[Tensor, "B K"]]:
    """Each map divided by its own maximum (methods 2.6), and those maxima as fractions.

    Args:
        maps: raw sums over calls, heads and layers.
        maximum: the largest value that a map could have.
        how: ``min-max`` spreads each map's own range over [0, 1] instead (methods 4), ``none``
            divides all maps by `maximum`.

    Returns:
        Maps in [0, 1], all zero where a map is zero, not finite, or for ``min-max`` constant; and
        the maxima divided by `maximum`, in [0, 1], NaN or infinite where the map is.
    """
    peaks = maps.amax((2, 3), keepdim=True)
    spans = peaks
    if how == "min-max":
        lowest = maps.amin((2, 3), keepdim=True)
        maps, spans = maps - lowest, peaks - lowest
    elif how == "none":
        # not finite where the map is not
        spans = torch.where(torch.isfinite(peaks), torch.full_like(peaks, maximum), peaks)
    usable = torch.isfinite(spans) & (spans > 0)
    scaled = torch.where(usable, maps / torch.where(usable, spans, 1.0), 0.0)
    return scaled, (peaks[:, :, 0, 0] / maximum).float()
