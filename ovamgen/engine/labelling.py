"""Pictures that are there already: a batch of them read and sized, and their classes found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import default_classes
from ovamgen.diffusion.recreate import fit
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import SampleError
from ovamgen.records import SampleSpec
from ovamgen.storage.pictures import PictureSource

FINDING_TIMESTEPS = (801, 601, 401, 201)
"""At which noise is added to find classes; docs/results/label.md has what fewer come to."""
_SMALLEST_PX = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReadPictures:
    """The pictures of one batch."""

    images: UInt8[np.ndarray, "B H W 3"]
    """At the size that was planned; black where there is an error."""
    files: tuple[bytes | None, ...]
    """The files that have these pixels; None where one has to be made."""
    errors: list[SampleError | None]
    """Why a picture is not usable, or None."""


def read_pictures(source: PictureSource, specs: Sequence[SampleSpec]) -> ReadPictures:
    """The pictures of a batch, all of one size.

    Args:
        source: that the run names.
        specs: of the batch, each with its picture.
    """
    sizes = {(p.label_height, p.label_width) for spec in specs if (p := spec.picture) is not None}
    assert len(sizes) == 1, "the plan puts pictures of one size into a batch"
    size = sizes.pop()
    # what cannot be opened has no size: the smallest that any model can look at
    images = np.zeros((len(specs), *(side or _SMALLEST_PX for side in size), 3), np.uint8)
    files: list[bytes | None] = [None] * len(specs)
    errors: list[SampleError | None] = [None] * len(specs)
    for index, spec in enumerate(specs):
        picture = spec.picture
        assert picture is not None, "a run draws all of its samples, or none"
        try:
            opened = source.read(picture.name, picture.size_bytes)
            found = opened.image.shape[:2]
            if found != (picture.height, picture.width):
                raise SampleError(_unlike(picture.name, found, (picture.height, picture.width)))
            images[index] = fit(opened.image, size)
            files[index] = opened.jpeg if found == size else None
        except SampleError as error:
            errors[index] = error
    return ReadPictures(images=images, files=tuple(files), errors=errors)


def _unlike(name: str, found: tuple[int, ...], planned: tuple[int, int]) -> str:
    sizes = f"{found[0]} x {found[1]} pixels"
    if not any(planned):
        return f"picture {name} of {sizes} cannot be labelled: it is far longer than wide"
    return f"picture {name} has {sizes}, {planned[0]} x {planned[1]} were planned"


class ClassFinder:
    """Finds which classes pictures show, from how well their names explain noise on the picture.

    A diffusion model is a zero-shot classifier (Li et al., ICCV 2023): told what a picture shows it
    predicts the noise that was added to it better than told anything else. Maxima of heatmaps say
    nothing of it: an optimised token attends to whatever thing there is.

    Names are compared with each other, so that a class can be absent where others explain more: of
    sets smaller than VOC's, VOC's classes stand beside their own.

    Args:
        synthesiser: of the model.
        classes: that are looked for.
        min_score: from which on a class is kept, as `scores` gives them.
        batch_size: images in one call of the model.
    """

    def __init__(
        self, synthesiser: Synthesiser, classes: ClassSet, min_score: float, batch_size: int
    ) -> None:
        self._synthesiser = synthesiser
        self._min_score = min_score
        self._batch_size = batch_size
        self._classes = classes
        known = {entry.phrase for entry in classes.classes}
        voc = default_classes().classes
        others = [entry for entry in voc if entry.phrase not in known]
        others = others[: max(0, len(voc) - len(known))]
        self._prompts = [f"A photograph of {e.with_article}" for e in (*classes.classes, *others)]

    def scores(self, latents: Float[Tensor, "C h w"], seed: int) -> Float32[np.ndarray, " K"]:
        """Standard deviations by which the error of each class is below the mean of all names.

        The mean over `FINDING_TIMESTEPS`; every name is tried with the same noise.

        Args:
            latents: of one picture.
            seed: of the noise.
        """
        parts = []
        for start in range(0, len(self._prompts), self._batch_size):
            prompts = self._prompts[start : start + self._batch_size]
            same = latents.expand(len(prompts), *latents.shape)
            seeds = [seed] * len(prompts)
            parts.append(self._synthesiser.noise_errors(same, prompts, seeds, FINDING_TIMESTEPS))
        errors = torch.cat(parts, 1)
        spread = errors.std(1, keepdim=True, correction=0)
        better = errors.mean(1, keepdim=True) - errors
        # without a difference no name says more than another
        each = torch.where(spread > 0, better / torch.where(spread > 0, spread, 1.0), 0.0)
        found: Float32[np.ndarray, " K"] = each.mean(0)[: len(self._classes.classes)].cpu().numpy()
        return found

    def find(self, spec: SampleSpec, latents: Float[Tensor, "C h w"]) -> SampleSpec:
        """The sample with the classes that score enough as its targets.

        Args:
            spec: of a picture whose classes are not known.
            latents: of the picture.

        Raises:
            SampleError: no class scores enough; the nearest one is named.
        """
        scores = self.scores(latents, spec.seed)
        entries = self._classes.classes
        kept = [
            e for e, score in zip(entries, scores.tolist(), strict=True) if score >= self._min_score
        ]
        if not kept:
            best = int(np.argmax(scores))
            raise SampleError(
                f"no class scores {self._min_score:g} (label.min_score): the nearest is "
                f"{entries[best].name} with {scores[best]:.2f}"
            )
        return replace(spec, targets=tuple(map(target_of, kept)))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Labeller:
    """Pictures in the place of drawn images."""

    source: PictureSource
    finder: ClassFinder

    def read(self, specs: Sequence[SampleSpec]) -> ReadPictures:
        """The pictures of a batch; see `read_pictures`."""
        return read_pictures(self.source, specs)

    def with_classes(
        self, specs: Sequence[SampleSpec], pictures: ReadPictures, latents: Float[Tensor, "B C h w"]
    ) -> list[SampleSpec]:
        """The samples with their classes; where none is found, that is the picture's error."""
        found = list(specs)
        for index, spec in enumerate(specs):
            if spec.finds_classes and pictures.errors[index] is None:
                try:
                    found[index] = self.finder.find(spec, latents[index])
                except SampleError as error:
                    pictures.errors[index] = error
        return found
