"""What may be asked: the sections of a run's configuration, as pydantic models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from ovamgen import mini
from ovamgen.bounds import MAX_SHARD_SIZE
from ovamgen.classes.class_entry import MOST_CLASSES
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import as_class_set, default_classes, is_default
from ovamgen.config.attribution import AttributionConfig
from ovamgen.config.head_source import choose_head
from ovamgen.config.label import DEFAULT_PROBE, HEAD_PROBE, LabelConfig, check_plan_of_pictures
from ovamgen.config.masks import RECORDED_SELF_ATTENTION, MaskConfig
from ovamgen.config.methods import METHODS, uses_head
from ovamgen.config.model import DEFAULT_MODEL, DEFAULT_REVISION, ModelConfig
from ovamgen.config.token_source import AUTO, TokenSource
from ovamgen.storage.section import Section

MOST_PIXELS_A_SIDE = 8192
"""The longest side: eight times the largest that models of this family were trained for."""


_MOST_SIZE_ID = 2**16
"""Pixels that a model may be told of: far more than pictures it was trained on had."""


class PlanConfig(Section):
    """Which captions become samples, and how they are cut into shards."""

    came_later: ClassVar = frozenset({"empty_share", "wanted"})

    captions: str = ""
    """File or fsspec URL: COCO captions JSON, CSV, JSONL, Parquet or text; ``.gz`` too."""
    instances: str | None = None
    """COCO instances JSON of the same images, or nothing."""
    preset: Literal["general", "coco-cap"] = "general"
    """Which captions are taken; ``coco-cap`` is the published selection (methods 7.2)."""
    classes: tuple[str, ...] = ()
    """Only these of the classes, by name, phrase or synonym; all where empty."""
    per_class: int | None = Field(default=None, ge=1)
    """At most this many samples of each class."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many samples in all."""
    wanted: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Only captions with one of these classes, by name, until there are so many samples of it; what
    ``--until-per-class`` adds is planned so."""
    max_targets: int = Field(default=4, ge=1, le=MOST_CLASSES)
    """Captions that name more classes than this are left out."""
    empty_share: float = Field(default=0.0, ge=0, le=1)
    """Share of samples of captions that name no class, all background: from them networks learn
    what is none of the classes."""
    min_area: float = Field(default=0.0, ge=0)
    """Instances of at most this area (square pixels) do not make a target."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """The run's seed; each sample's own is hash(seed, key)."""
    shard_size: int = Field(default=1000, ge=1, le=MAX_SHARD_SIZE)
    """Samples in a shard; the last one may hold fewer."""
    batch_size: int = Field(default=8, ge=1, le=1024)
    """Samples in one call of the model; batches never cross a shard."""

    @field_validator("classes", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """Names with commas between them are a list: ``--set plan.classes=cat`` is meant so."""
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class SynthesisConfig(Section):
    """How an image is drawn."""

    came_later: ClassVar = frozenset({"append_class_words", "original_size", "crop"})

    steps: int = Field(default=30, ge=1, le=1000)
    """num_inference_steps; PNDM makes one UNet call more."""
    guidance: float = Field(default=7.5, ge=0)
    """guidance_scale; at most 1 switches classifier-free guidance off."""
    scheduler: str = "PNDM"
    """Any diffusers scheduler by class name, with or without ``Scheduler``."""
    height: int | None = Field(default=None, ge=8)
    """Pixels, a multiple of 8; the model's own where not given."""
    width: int | None = Field(default=None, ge=8)
    """Pixels, a multiple of 8; the model's own where not given."""
    original_size: tuple[int, int] | None = None
    """Height and width, ``[1024, 1024]``, that Stable Diffusion XL is told its training picture
    had; the image's own where not given. Other models take none."""
    crop: tuple[int, int] | None = None
    """Pixels, from the top and from the left, that XL is told were cut off; none where not given,
    which makes centred pictures."""
    negative_prompt: str = ""
    """What the image is led away from; the same for every sample. Needs guidance above 1."""
    append_class_words: bool = False
    """The prompt is the caption with its targets' words behind it, ``caption; bus person`` (Dataset
    Diffusion, NeurIPS 2023), so that every class of the mask is asked for."""
    safety: Literal["flag", "drop", "off"] = "flag"
    """What the checker's verdict does: a flag in the metadata, no sample, or no check at all."""

    @model_validator(mode="after")
    def _sizes(self) -> SynthesisConfig:
        for name in ("height", "width"):
            size = getattr(self, name)
            if size is not None and size > MOST_PIXELS_A_SIDE:
                raise ValueError(f"{name} must be at most {MOST_PIXELS_A_SIDE} pixels, got {size}")
            if size is not None and size % 8:
                down, up = size // 8 * 8, (size // 8 + 1) * 8
                raise ValueError(
                    f"synthesis.{name} must be a multiple of 8, got {size}: try {down} or {up}"
                )
        for name in ("original_size", "crop"):
            pair = getattr(self, name)
            if pair is not None and not all(0 <= side <= _MOST_SIZE_ID for side in pair):
                raise ValueError(
                    f"synthesis.{name} must be two numbers from 0 to {_MOST_SIZE_ID}, got "
                    f"{list(pair)}"
                )
        return self


class ShardConfig(Section):
    """The bytes of a sample."""

    split: str = Field(default="train", pattern=r"^[a-z][a-z0-9]*$")
    """First part of the shards' names: ``train-000000.tar``."""
    jpeg_quality: int = Field(default=95, ge=1, le=100)
    """Quality of ``KEY.jpg``; always with full chroma."""
    heatmaps: bool = False
    """Store ``KEY.heatmaps.npz``: 8-bit maps of all classes of the bank, for the whole run."""


class RuntimeConfig(Section):
    """Where and how fast; samples depend on ``decode_images`` alone, and on CPU ``cpu_threads``."""

    runner: Literal["ray", "local"] = "ray"
    """``ray``, or ``local``: one process, no Ray, the same bytes."""
    workers: int | None = Field(default=None, ge=1)
    """Pipelines held at once; by default one a GPU; on CPU one, or for the small ``mini`` one for
    every ``cpu_threads`` cores."""
    cpu_threads: int | None = Field(default=None, ge=1)
    """Threads of CPU arithmetic, the same in every runner, since sums depend on it; by default 1
    for ``mini`` and 4 for every other model."""
    decode_images: int = Field(default=1, ge=1)
    """Images that the VAE decodes at once; more take more memory and give other last bits."""
    worker_batches: int | None = Field(default=None, ge=1, le=2)
    """Batches in a worker at once: with 2, one is drawn while another is handed over; by default 2
    on a GPU, and 1 on a CPU, where they would share the cores."""
    refine_images: int = Field(default=4, ge=1)
    """Images in one refine task."""
    queue_depth: int = Field(default=2, ge=1)
    """Batches handed to a worker ahead of time."""
    open_shards: int | None = Field(default=None, ge=1)
    """Shards begun and not yet written, at most; by default 8, or as many as all workers need."""
    in_flight_bytes: int | None = Field(default=None, ge=1)
    """Bytes of images, heatmaps and encoded samples that wait for a later stage, at most, over all
    nodes; by default 2 GiB, or three times what fills the queues of all workers, and no more than
    half of what Ray's object stores hold."""
    ready_timeout_seconds: float = Field(default=600.0, gt=0)
    """How long a worker may take to load the model."""
    gpu_wait_seconds: float = Field(default=20.0, ge=0)
    """How long a cluster without enough GPUs is waited for; an autoscaling one needs minutes."""
    crash_budget: int = Field(default=3, ge=0)
    """Worker processes that may die before becoming ready, in a row, before the run gives up."""
    batch_attempts: int = Field(default=3, ge=1)
    """Times that a batch may take its worker down before its samples are probed one by one."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """After SIGTERM or Ctrl-C: time for the open shards to be finished."""


class RunConfig(Section):
    """One run."""

    classes: Annotated[ClassSet, BeforeValidator(as_class_set)] = Field(
        default_factory=default_classes
    )
    """The classes of masks: a built-in set, a class file (.yaml), names, or a set written out."""
    plan: PlanConfig = PlanConfig()
    model: ModelConfig = ModelConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    attribution: AttributionConfig = AttributionConfig()
    masks: MaskConfig = MaskConfig()
    shards: ShardConfig = ShardConfig()
    label: LabelConfig = LabelConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    out: str = ""
    """Folder or fsspec URL that the run writes to."""

    @model_validator(mode="after")
    def _resolve(self) -> RunConfig:
        model = self.model
        if "@" in model.id and not Path(model.id).exists():
            name, _, revision = model.id.rpartition("@")
            if model.revision not in (None, revision):
                raise ValueError(
                    f"model.id names revision {revision}, model.revision {model.revision}: give one"
                )
            model = model.model_copy(update={"id": name, "revision": revision})
        if model.id == DEFAULT_MODEL and model.revision is None:
            model = model.model_copy(update={"revision": DEFAULT_REVISION})
        if model.device == "auto":
            device = "cpu" if model.id == mini.NAME else "cuda"
            model = model.model_copy(update={"device": device})
        if model.dtype == "auto":
            dtype = "float32" if model.device == "cpu" else "float16"
            model = model.model_copy(update={"dtype": dtype})
        tokens = TokenSource.choose(
            self.attribution.tokens, model.id, self.classes, self.attribution.missing
        )
        head = choose_head(self.attribution.head, self.attribution.method, model.id)
        attribution = self.attribution.model_copy(
            update={"tokens": tokens.name, "branch": self.attribution.half, "head": head}
        )
        if self.label.pictures:
            check_plan_of_pictures(self.plan)
            if not attribution.probe:
                # a head reads the last call of a drawing, and was trained on pictures at that
                probe = HEAD_PROBE if uses_head(attribution.method) else DEFAULT_PROBE
                attribution = attribution.model_copy(update={"probe": probe})
            synthesis = self.label.drawn(self.synthesis, len(attribution.probe))
            object.__setattr__(self, "synthesis", synthesis)
        if self.synthesis.guidance <= 1 and attribution.branch == "unconditional":
            if self.attribution.branch != "auto" or uses_head(attribution.method):
                raise ValueError(
                    "attribution.branch unconditional needs synthesis.guidance above 1, got "
                    f"{self.synthesis.guidance}: without guidance there is only the conditional "
                    "half"
                )
            attribution = attribution.model_copy(update={"branch": "conditional"})
        if uses_head(attribution.method) and self.masks.self_attention in RECORDED_SELF_ATTENTION:
            raise ValueError(
                f"masks.self_attention {self.masks.self_attention} is for methods that read "
                f"attention, {attribution.method} reads features: use none or constant"
            )
        masks = self.masks
        if tokens.kind != AUTO:
            taken = tokens.tau(self.masks.token_tau)
            masks = masks.resolved(
                words=tokens.words,
                bank_tau=taken,
                model_word_tau=_word_tau(model.id, attribution.method),
            )
        else:
            # for what it refuses: the choice brings the values
            masks.resolved(words=True)
        if unknown := sorted(set(masks.class_tau) - {e.name for e in self.classes.classes}):
            raise ValueError(
                f"masks.class_tau must name classes of {self.classes.name}, got '{unknown[0]}'"
            )
        runtime = self.runtime
        if runtime.cpu_threads is None:
            threads = 1 if model.id == mini.NAME else 4
            runtime = runtime.model_copy(update={"cpu_threads": threads})
        object.__setattr__(self, "runtime", runtime)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "attribution", attribution)
        object.__setattr__(self, "masks", masks)
        return self

    @model_serializer(mode="wrap")
    def _written(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Classes as a class file has them; left out where they are the default ones.

        So the files and fingerprints of runs that name no classes stay what they were.
        """
        data = dump(self)
        if not data.get("label"):
            # of runs that draw
            data.pop("label", None)
        if data.pop("classes", None) and not is_default(self.classes):
            data = {"classes": self.classes.as_record(), **data}
        return data

    def with_tokens(self, source: TokenSource) -> RunConfig:
        """The same with a choice in place of ``auto``, and the threshold as far as it is known."""
        attribution = self.attribution.model_copy(update={"tokens": source.name})
        masks = self.masks.resolved(words=source.words, bank_tau=source.tau(self.masks.token_tau))
        return self.model_copy(update={"attribution": attribution, "masks": masks})

    def with_bank(self, tau: float | None, by_words: Sequence[str]) -> RunConfig:
        """The same with the thresholds that its token bank decides, where they were left open.

        Args:
            tau: that the bank names; ``masks.token_tau`` where it names none.
            by_words: names of the classes that the bank lacks.

        Raises:
            ValueError: classes by words beside others by tokens, and a background channel.
        """
        masks = self.masks
        if by_words and masks.beta is not None:
            raise ValueError(
                "masks.beta is one for all classes, and words need another than tokens: give "
                "masks.tau, or a bank of all classes"
            )
        is_named = masks.tau_is_named
        if masks.tau is None:
            masks = masks.resolved(words=False, bank_tau=tau or masks.token_tau)
        if not is_named and by_words:
            tau_of_words = masks.tau_of_words(_word_tau(self.model.id, self.attribution.method))
            words = dict.fromkeys(by_words, tau_of_words)
            masks = masks.model_copy(update={"class_tau": words | dict(masks.class_tau)})
        return self.model_copy(update={"masks": masks})

    def semantic(self) -> dict[str, Any]:
        """The fields that decide what the samples are, as nested plain values."""
        data = self.model_dump(mode="json", exclude={"classes", "runtime", "out"})
        if not is_default(self.classes):
            data["classes"] = self.classes.identity
        runtime = {}
        if self.model.device == "cpu":
            runtime["cpu_threads"] = self.runtime.cpu_threads
        if self.runtime.decode_images != 1:
            runtime["decode_images"] = self.runtime.decode_images
        return data | ({"runtime": runtime} if runtime else {})


def _word_tau(model: str, method: str) -> float | None:
    """The threshold of class words that suits a model's maps, where one is known."""
    # the attention of a single call has other values: the published threshold suits mini's too
    summed = method in METHODS and not METHODS[method].chooses("calls")
    return mini.WORDS_TAU if model == mini.NAME and summed else None
