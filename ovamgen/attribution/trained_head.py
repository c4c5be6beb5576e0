"""The methods `grounded` and `datasetdm`: a trained network looks at what the UNet sees.

Grounded Diffusion (ICCV 2023) and DatasetDM (NeurIPS 2023) find objects with networks on features
of the last UNet call (methods 5 and 6). A heatmap is the network's probability of each pixel, at
the image's size, so that thresholds, competition and dense CRF work on it as on any other; the
published decision is a threshold of a half. Every image starts from the state that was loaded: a
map is a function of its image and not of those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from ovamgen.attribution.heads.datasetdm import DatasetDmHead, select_mask
from ovamgen.attribution.heads.head_file import HEAD_KINDS, Head
from ovamgen.attribution.heads.pyramid import Levels
from ovamgen.attribution.heads.reading import read_head
from ovamgen.attribution.heads.running import HeadMode, as_loaded
from ovamgen.attribution.heads.text import (
    Conditioning,
    datasetdm_words,
    grounded_words,
    token_vector,
)
from ovamgen.attribution.interface import AttributedModel, ClassTarget, HeatmapSink
from ovamgen.config import RunConfig
from ovamgen.errors import ConfigError, MethodError
from ovamgen.storage.plain_json import load_plain_json

LAST_TIMESTEP = 1.0
"""Features are those of the call at this timestep or below: the last one of the schedulers that the
heads were published with."""
_NAMED_CLASSES = 5


@runtime_checkable
class FeatureModel(AttributedModel, Protocol):
    """A model whose block features can be recorded."""

    @property
    def cell_px(self) -> int:
        """Pixels of a latent cell's side."""

    def feature_channels(self, *, before_upsampling: bool, with_attention: bool) -> tuple[int, ...]:
        """Channels of each level's features, coarsest first, both halves of the guided batch.

        Raises:
            MethodError: the UNet has no such features.
        """


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeadUse:
    """A head and how it is run."""

    head: Head
    mode: HeadMode = "official"
    conditioning: Conditioning = "row"
    """What it is asked with where a class has an optimised pair (methods 6.6)."""

    def check_classes(self, names: Sequence[str]) -> None:
        """Checks that a head which knows its classes by their texts was trained on all of them.

        Grounded Diffusion is made for classes that it never saw, and DatasetDM's released weights
        were trained with one text for all; a DatasetDM head that learnt a text for each class
        answers any other text with one of its own classes.

        Raises:
            ConfigError: it was trained on other classes; the first ones that it lacks are named.
        """
        known = self.head.classes
        told = load_plain_json(self.head.provenance.get("settings", "{}"))
        if self.head.kind != "datasetdm" or not known or told.get("asked_for") != "class":
            return
        if missing := [name for name in names if name not in known]:
            shown = ", ".join(missing[:_NAMED_CLASSES])
            more = ", ..." if len(missing) > _NAMED_CLASSES else ""
            raise ConfigError(
                f"{self.head.source} was trained on other classes, it lacks {shown}{more}: use a "
                "head of all classes, or the method grounded, which takes any"
            )


def open_head(config: RunConfig) -> HeadUse | None:
    """The head of a configuration, read and checked; None where its method has none.

    Raises:
        ConfigError: no such file, none of a head, or of another method.
    """
    attribution = config.attribution
    place = attribution.head_file
    if place is None:
        return None
    (kind,) = (kind for kind in HEAD_KINDS if kind == attribution.method)
    head = read_head(place, kind=kind)
    return HeadUse(head=head, mode=attribution.head_mode, conditioning=attribution.head_tokens)


class Grounded:
    """The method `grounded`: one query a class, whatever the prompt says.

    Words are asked for with the prompt's second word, as the released script does (methods 5.3);
    of an optimised pair the class row is asked for (5.6).

    Args:
        model: whose features are read.
        targets: pairs, or anything else as its phrase.
        use: the head.

    Raises:
        ConfigError: the head is one of another model or method.
        MethodError: no targets, no head, or a UNet without such features.
    """

    def __init__(
        self, model: FeatureModel, targets: Sequence[ClassTarget], use: HeadUse | None
    ) -> None:
        self._use = _checked(model, targets, use, "grounded")
        self._model = model
        self._targets = tuple(targets)
        self._asked: dict[tuple[str, str], Float[Tensor, " ctx"]] = {}

    def open(self, prompts: Sequence[str]) -> HeadSink:
        """A sink for one batch."""
        vectors = [
            torch.stack([self._vector(prompt, target) for target in self._targets])
            for prompt in prompts
        ]
        return HeadSink(self._use, vectors, self._model.cell_px)

    def _vector(self, prompt: str, target: ClassTarget) -> Float[Tensor, " ctx"]:
        if target.is_pair:
            return token_vector(target.rows).cpu()
        # the second word is all of the prompt that counts: most batches need no new text
        key = (" ".join(prompt.split()[:2]), target.phrase)
        if key not in self._asked:
            self._asked[key] = grounded_words(self._model, *key).cpu()
        return self._asked[key]


class DatasetDm:
    """The method `datasetdm`: the mask of one query for each class.

    Words are asked for with the mean over all rows of the class's phrase, padding included (methods
    6.3); of an optimised pair the class row or the mean of both is asked for (6.6).

    Args:
        model: whose features and attention are read.
        targets: pairs, or anything else as its phrase.
        use: the head.

    Raises:
        ConfigError: the head is one of another model or method.
        MethodError: no targets, no head, or a UNet without such features.
    """

    def __init__(
        self, model: FeatureModel, targets: Sequence[ClassTarget], use: HeadUse | None
    ) -> None:
        self._use = _checked(model, targets, use, "datasetdm")
        self._cell_px = model.cell_px
        self._vectors = torch.stack(
            [
                token_vector(target.rows, self._use.conditioning).cpu()
                if target.is_pair
                else datasetdm_words(model, target.phrase).cpu()
                for target in targets
            ]
        )

    def open(self, prompts: Sequence[str]) -> HeadSink:
        """A sink for one batch; prompts count by the attention that they had."""
        return HeadSink(self._use, [self._vectors] * len(prompts), self._cell_px)


class HeadSink(HeatmapSink):
    """Probabilities of one batch, each image by itself; made while the last UNet call returns.

    State: (B, K, H, W) float32. Features are let go of as soon as the maps are there.

    Args:
        use: the head.
        vectors: for each image what is asked for, one vector a class.
        cell_px: pixels of a latent cell's side.
    """

    def __init__(
        self, use: HeadUse, vectors: Sequence[Float[Tensor, "K ctx"]], cell_px: int
    ) -> None:
        self._use = use
        self._vectors = vectors
        self._cell_px = cell_px
        self._maps: Float32[Tensor, "B K H W"] | None = None

    @property
    def before_upsampling(self) -> bool:
        """DatasetDM takes what an up block upsamples as well."""
        return self._use.head.kind == "datasetdm"

    @property
    def with_attention(self) -> bool:
        """DatasetDM takes the prompt's attention as well."""
        return self._use.head.kind == "datasetdm"

    @property
    def maximum(self) -> float:
        """Maps are probabilities."""
        return 1.0

    @property
    def nbytes(self) -> int:
        """Bytes of the maps."""
        return 0 if self._maps is None else self._maps.nbytes

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Takes no queries: features are what it looks at."""

    def wants_features(self, timestep: float) -> bool:
        """Only the last call's, at timestep 1 or 0 (methods 5.1 and 6.1)."""
        return timestep <= LAST_TIMESTEP

    @torch.no_grad()
    def take_features(
        self,
        features: Sequence[Sequence[Float[Tensor, "B _ _ _"]]],
        attention: Sequence[Sequence[Float[Tensor, "B _ _ _"]]],
    ) -> None:
        """Makes the maps of the call; those of a call before it are replaced."""
        items = [[*some, *maps] for some, maps in zip(features, attention, strict=True)]
        device = items[0][0].device
        self._use.head.network.to(device)
        self._maps = torch.stack(
            [
                self._image([[item[index : index + 1] for item in level] for level in items], rows)
                for index, rows in enumerate(self._vectors)
            ]
        )

    def class_maps(self) -> Float32[Tensor, "B K H W"]:
        """The probability of each class in each pixel of the images.

        Raises:
            MethodError: the drawing had no call at the last timestep.
        """
        if self._maps is None:
            raise MethodError(
                f"a head reads the UNet call at timestep {LAST_TIMESTEP:g}, the drawing made none: "
                "use a scheduler that ends there, such as PNDM or DDIM"
            )
        return self._maps

    def _image(self, levels: Levels, rows: Float[Tensor, "K ctx"]) -> Float32[Tensor, "K H W"]:
        network = self._use.head.network
        weight = next(network.parameters())
        given = [[item.to(weight) for item in level] for level in levels]
        asked = rows.to(weight)
        finest = levels[-1][0].shape[2:]
        size = (finest[0] * self._cell_px, finest[1] * self._cell_px)
        # what is merged is the same for all classes, and is most of the work
        with as_loaded(network, self._use.mode):
            merged = network.pyramid(given)
        logits = []
        for vector in asked:
            if isinstance(network, DatasetDmHead):
                said = network.answer(merged, vector)[-1]
                logits.append(select_mask(said, size).winning_logits)
            else:
                # alone: queries of one call would see each other (methods 5.6)
                logits.append(network.answer(merged[-1], vector[None])[0])
        return torch.stack(logits).float().sigmoid()


def _checked(
    model: FeatureModel, targets: Sequence[ClassTarget], use: HeadUse | None, method: str
) -> HeadUse:
    if not targets:
        raise MethodError("heatmaps need at least one class, got none")
    if use is None:
        raise MethodError(
            f"the method {method} needs a head, got none: give attribution.head (--head FILE)"
        )
    if use.head.kind != method:
        raise ConfigError(
            f"{use.head.source} is a {use.head.kind} head, the method is {method}: give one of "
            "that method"
        )
    attended = method == "datasetdm"
    channels = model.feature_channels(before_upsampling=attended, with_attention=attended)
    use.head.check_model(channels, model.context_width, model.name)
    return use
