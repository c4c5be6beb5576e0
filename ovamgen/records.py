"""What flows between the parts of a run: frozen dataclasses that cross process borders.

They hold numbers, strings and numpy arrays; torch, Ray and file formats are not known here.

Shapes: B images of a batch, K classes, H and W pixels, h and w latent cells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float16, UInt8

from ovamgen.bounds import MAX_KEY_DIGITS

_KEY = re.compile(rf"[0-9]{{{MAX_KEY_DIGITS}}}")

Stage = Literal["synthesis", "safety", "masks", "encoding"]


def is_key(text: object) -> bool:
    """Whether it is a sample's key, `MAX_KEY_DIGITS` digits: keys become names of files."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One class that a sample is to show and that its mask is made for."""

    class_id: int
    """Its label in masks, 1..254."""
    class_name: str
    """One word: ``diningtable``."""
    phrase: str
    """The words that a prompt uses for the class: ``dining table``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What a sample is another attempt at."""

    of: str
    """Key of the sample that failed first."""
    seed: int
    """The seed that the attempt before this one failed with."""
    attempt: int
    """1 for the first attempt after it."""

    def fields(self) -> dict[str, str | int]:
        """As the columns that plans and metadata of retries have beside the others."""
        return {"retry_of": self.of, "retry_of_seed": self.seed, "attempt": self.attempt}

    @staticmethod
    def in_row(row: Mapping[str, Any]) -> Retry | None:
        """The retry that those columns of a row tell of; None where there are none."""
        if "retry_of" not in row:
            return None
        return Retry(of=row["retry_of"], seed=row["retry_of_seed"], attempt=row["attempt"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePicture:
    """A picture that was there before the run, of which a sample is made."""

    name: str
    """Its path in the folder or tar that the run was given (``label.pictures``)."""
    size_bytes: int
    """Size of its file."""
    height: int
    """Pixels, upright; 0, as all four, where the file is no picture that can be opened."""
    width: int
    label_height: int
    """Pixels of the image in the shard, at which it is labelled."""
    label_width: int

    def fields(self) -> dict[str, str | int]:
        """As the columns that plans and metadata of such samples have beside the others."""
        return {
            "picture": self.name,
            "picture_bytes": self.size_bytes,
            "picture_height": self.height,
            "picture_width": self.width,
            "label_height": self.label_height,
            "label_width": self.label_width,
        }

    @staticmethod
    def in_row(row: Mapping[str, Any]) -> SourcePicture | None:
        """The picture that those columns of a row tell of; None where there are none."""
        if "picture" not in row:
            return None
        return SourcePicture(
            name=row["picture"],
            size_bytes=row["picture_bytes"],
            height=row["picture_height"],
            width=row["picture_width"],
            label_height=row["label_height"],
            label_width=row["label_width"],
        )


NO_PICTURE = SourcePicture(name="", size_bytes=0, height=0, width=0, label_height=0, label_width=0)
"""In plans of pictures, of what is no sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """Everything that decides one sample, beside the run's configuration."""

    key: str
    """WebDataset ``__key__``: 6 digits of the shard, 5 of the index, digits only."""
    prompt: str
    """The generation prompt: the caption after cleaning."""
    caption: str
    """The caption as it stands in the source."""
    targets: tuple[Target, ...]
    """None where the sample is to show no class: all of it is background."""
    seed: int
    """0 <= seed < 2**63, from the run's seed and the key."""
    caption_id: int
    image_id: int
    """-1 where the source names no image."""
    word_included: bool
    """Every target is named in the prompt, by our rule (whole words, plurals, synonyms)."""
    word_included_published: bool
    """The published rule: the first target's name is a substring of the prompt (methods 7.2)."""
    retry: Retry | None = None
    """The failed sample in whose place it is; None for samples of captions."""
    picture: SourcePicture | None = None
    """What is labelled; None where the image is to be drawn."""

    @property
    def finds_classes(self) -> bool:
        """Which classes it shows is found out from the picture, and not planned."""
        return self.picture is not None and not self.targets

    @property
    def extra_fields(self) -> dict[str, str | int]:
        """The columns that its row has beside those of every sample."""
        parts = [part for part in (self.retry, self.picture) if part is not None]
        return {name: value for part in parts for name, value in part.fields().items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard's work. Batches never cross a shard, so batch composition is fixed by the plan."""

    shard_index: int
    batches: tuple[tuple[SampleSpec, ...], ...]

    @property
    def specs(self) -> tuple[SampleSpec, ...]:
        """All samples of the shard, in the order of the tar."""
        return tuple(spec for batch in self.batches for spec in batch)


WORKER_DIED = "the worker process died"
"""How the reason of a sample begins that takes its process down whenever it is made.

The metadata of a shard has a column for the stage and one for the reason, and no third: this is the
mark by which such a sample is known again, by whatever writes it and whatever reads it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFailure:
    """A sample that could not be made, and why; it becomes a row of the shard's metadata."""

    key: str
    stage: Stage
    reason: str

    @property
    def took_worker_down(self) -> bool:
        """Whether making it again would end this process."""
        return self.reason.startswith(WORKER_DIED)

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SynthesisBatch:
    """What the GPU side hands to the CPU side for one batch."""

    specs: tuple[SampleSpec, ...]
    """The samples that were made, in the order of the arrays' first axis."""
    images: UInt8[np.ndarray, "B H W 3"]
    heatmaps: Float16[np.ndarray, "B K h w"]
    """Each map divided by its own maximum, in [0, 1], for the K classes of `class_ids`."""
    heatmap_max: tuple[tuple[float, ...], ...]
    """B x K: the maxima the maps were divided by, as fractions of the possible maximum, [0, 1]."""
    class_ids: tuple[int, ...]
    """Ids of the K classes, which hold those of all targets."""
    all_classes: bool
    """They are all classes of the run, whatever the batch's targets are."""
    unsafe: tuple[bool, ...]
    """The safety checker's verdict for each image; all False where none ran."""
    failures: tuple[SampleFailure, ...] = ()
    """The samples of the batch that could not be made."""
    files: tuple[bytes | None, ...] = ()
    """The JPEG of each labelled picture that has its pixels; None where one has to be made."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        files = sum(len(file) for file in self.files if file is not None)
        return self.images.nbytes + self.heatmaps.nbytes + files


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSample:
    """One sample as the bytes of its tar members, with its row of metadata."""

    key: str
    members: tuple[tuple[str, bytes], ...]
    """(extension without the leading dot, content), in the order of the tar."""
    metadata: dict[str, object]
    """The content of ``KEY.json``."""
    previews: tuple[bytes, ...]
    """One 8-bit PNG a target: its heatmap at latent resolution, for sheets and reports."""

    @property
    def nbytes(self) -> int:
        """Bytes of the members."""
        return sum(len(content) for _, content in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """The mark of a finished shard, written last; ``manifests/000000.json``."""

    schema_version: int
    shard_index: int
    name: str
    """``train-000000.tar``."""
    samples: int
    failed: int
    size_bytes: int
    sha256: str
    md5: str
    """For wids, which knows no other digest."""
    metadata_size_bytes: int
    metadata_sha256: str
    fingerprint: str

    @property
    def split(self) -> str:
        """``train``: the beginning of the tar's name."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a loaded pipeline says of itself."""

    model: str
    """As it was asked for: ``mini``, a folder, a hub id, ``random:sd15``."""
    revision: str
    """The commit of a hub id, else ""."""
    digest: str
    """sha256 over the weights of UNet, text encoder and VAE."""
    height: int
    """The model's own image height in pixels."""
    width: int
    vae_scale_factor: int
    context_width: int
    """Width of one row of the text encoder's output (ctx)."""
    cross_attention_layers: int
    """Layers that maps are read from (the middle one is left out): 15 for SD 1.5."""
    trained: bool
    """False for random weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run left behind; counts are of samples unless they say otherwise."""

    out: str
    shards: int
    samples: int
    failed: int
    shards_made_now: int
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    """Without those that were tried again."""
    tried_again: int = 0
    """Failed samples that there is a later attempt at."""
