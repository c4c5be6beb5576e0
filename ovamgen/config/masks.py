"""How heatmaps become label maps: the section ``masks`` of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ovamgen.errors import ConfigError
from ovamgen.storage.section import Section

Normalisation = Literal["max", "min-max", "none"]
SelfAttention = Literal["none", "constant", "received", "affinity", "iterated"]
RECORDED_SELF_ATTENTION = frozenset({"received", "affinity", "iterated"})
"""Kinds that are made of a drawing's self-attention, and so are in its maps."""

WORD_TAU = 0.4
"""The published threshold of word maps (OVAM, supplementary A.2)."""
TOKEN_TAU = 0.8
"""The published threshold of optimised tokens."""


class CrfConfig(Section):
    """Dense CRF; the numbers are SimpleCRF's (methods 3)."""

    came_later: ClassVar = frozenset({"half_resolution"})

    enabled: bool = True
    """Refine masks with the dense CRF."""
    unary: Literal["hard", "soft"] = "hard"
    """Unaries from the binary mask, or from the normalised heatmap as a probability."""
    iterations: int = Field(default=5, ge=1, le=100)
    """Mean-field steps."""
    clip: float = Field(default=0.01, gt=0, lt=0.5)
    """Probabilities are clipped to [clip, 1 - clip]; 1e-5 instead of 0.01 changes a tenth of the
    pixels."""
    bilateral_weight: float = Field(default=10.0, ge=0)
    """Weight of the kernel that joins near pixels of like colour."""
    bilateral_sxy_px: float = Field(default=80.0, gt=0)
    """Its reach in pixels."""
    bilateral_srgb: float = Field(default=13.0, gt=0)
    """Its reach in colour, of 255."""
    gaussian_weight: float = Field(default=3.0, ge=0)
    """Weight of the kernel that joins near pixels of any colour."""
    gaussian_sxy_px: float = Field(default=3.0, gt=0)
    """Its reach in pixels."""
    half_resolution: bool = False
    """Infer on the image at half its height and width, in about a quarter of the time, and resize
    the beliefs to the image; both ``sxy`` stay in pixels of the whole image."""


class MaskConfig(Section):
    """How heatmaps become a label map."""

    came_later: ClassVar = frozenset(
        {"class_tau", "self_attention_iterations", "self_attention_entropy_step"}
    )

    preset: str = "paper"
    """Values for this section from a publication, on which all other keys are laid."""
    tau: float | None = Field(default=None, gt=0, lt=1)
    """Threshold on the normalised map; by default ``word_tau`` for words, and for tokens the
    preset's ``token_tau`` where it names one, else that of the token bank."""
    token_tau: float = Field(default=TOKEN_TAU, gt=0, lt=1)
    """``tau`` of optimised tokens where nobody names it: for banks that say nothing of one."""
    word_tau: float = Field(default=WORD_TAU, gt=0, lt=1)
    """``tau`` of class words; where nobody names it, 0.7 for ``mini`` (but for ``attn2mask``)."""
    class_tau: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """``tau`` of single classes, by name, in place of ``tau``: ``{cat: 0.7}``. Classes that a bank
    lacks have ``word_tau`` here where nobody names another."""
    beta: float | None = Field(default=None, gt=-1, lt=1)
    """Instead of a threshold: a background channel ``1 - map - beta`` that the classes compete with
    (methods 4), for one class ``tau = (1 - beta) / 2``; by default ``token_beta`` or ``word_beta``
    where the preset has them and no ``tau`` is given."""
    token_beta: float | None = Field(default=None, gt=-1, lt=1)
    """``beta`` of optimised tokens."""
    word_beta: float | None = Field(default=None, gt=-1, lt=1)
    """``beta`` of class words."""
    normalisation: Normalisation = "max"
    """A map is divided by its maximum, or its range is spread over [0, 1], or with
    ``none`` by the largest value that any map could have: for maps that are probabilities."""
    normalised_at: Literal["map", "image"] = "map"
    """Before the map is resized to the image, or afterwards."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How a map is resized to the image."""
    self_attention: SelfAttention = "none"
    """``constant``: the published factor as it is in exact arithmetic (methods 2.6); ``received``:
    the attention that each position receives, in [low, 1]; ``affinity``: maps are multiplied by a
    power of the self-attention matrix (Dataset Diffusion, NeurIPS 2023); ``iterated``: again and
    again by that matrix with less entropy (iSeg, arXiv 2409.03209)."""
    self_attention_low: float | None = Field(default=None, gt=0, le=1)
    """The constant, or the lower end of the received factor's range; by default
    ``token_self_attention_low`` or ``word_self_attention_low``."""
    token_self_attention_low: float = Field(default=1.0, gt=0, le=1)
    """``self_attention_low`` of optimised tokens."""
    word_self_attention_low: float = Field(default=1.0, gt=0, le=1)
    """``self_attention_low`` of class words."""
    self_attention_power: int = Field(default=4, ge=1, le=64)
    """Exponent of the matrix of ``affinity``."""
    self_attention_positions: int = Field(default=1024, ge=1, le=16384)
    """The matrix of ``affinity`` and ``iterated`` is that of the largest layers of at most so many
    positions (h·w): 32x32 for Stable Diffusion 1.5 at 512x512."""
    self_attention_iterations: int = Field(default=10, ge=1, le=100)
    """Rounds of ``iterated``."""
    self_attention_entropy_step: float = Field(default=0.015, ge=0, le=1)
    """Step of ``iterated`` down the gradient of the matrix's entropy: iSeg takes 0.015 on VOC and
    0.1 on COCO."""
    ignore_low: float | None = Field(default=None, gt=0, lt=1)
    """Pixels whose largest target score is in [ignore_low, ignore_high) become 255."""
    ignore_high: float | None = Field(default=None, gt=0, lt=1)
    """The upper end of that range."""
    crf: CrfConfig = CrfConfig()

    @model_validator(mode="after")
    def _agree(self) -> MaskConfig:
        low, high = self.ignore_low, self.ignore_high
        if (low is None) != (high is None):
            raise ValueError("ignore_low and ignore_high go together: give both or neither")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"ignore_low must be below ignore_high, got {low} and {high}")
        if (self.token_beta is None) != (self.word_beta is None):
            raise ValueError("token_beta and word_beta go together: give both or neither")
        if self.normalised_at == "image":
            # both are made of normalised maps before anything is resized (methods 4 and 7.4)
            if self.self_attention == "received":
                raise ValueError(
                    "masks.self_attention received needs masks.normalised_at map, got image"
                )
            if self.beta is not None or (self.tau is None and self.word_beta is not None):
                raise ValueError("masks.beta needs masks.normalised_at map, got image")
        return self

    def taus(self, class_names: Iterable[str]) -> list[float]:
        """The threshold of each class.

        Raises:
            ConfigError: ``tau`` is not resolved.
        """
        if self.tau is None:
            raise ConfigError("masks.tau has no value: build the configuration with build_config")
        return [self.class_tau.get(name, self.tau) for name in class_names]

    @property
    def tau_is_named(self) -> bool:
        """Whether somebody names one threshold for whatever stands for the classes."""
        return bool(self.model_fields_set & {"tau", "beta"}) and self.tau is not None

    def tau_of_words(self, model_word_tau: float | None) -> float:
        """``word_tau`` as somebody names it, else what suits the model, else the published one."""
        named = "word_tau" in self.model_fields_set
        return self.word_tau if named else model_word_tau or self.word_tau

    @property
    def tau_from(self) -> str:
        """Who named the threshold of tokens, in words for people."""
        if self.tau_is_named:
            return "as masks.tau says"
        if self.model_fields_set & {"token_tau", "token_beta"}:
            return f"of the preset {self.preset}"
        return f"of the tokens ({self.token_tau:g} where they name none)"

    def resolved(
        self, *, words: bool, bank_tau: float | None = None, model_word_tau: float | None = None
    ) -> MaskConfig:
        """The same with ``tau``, ``beta`` and ``self_attention_low`` for words or for tokens.

        Args:
            words: classes are natural text.
            bank_tau: the threshold of the tokens, for where no other is named; None leaves it open
                until the bank is read.
            model_word_tau: that of words, for where no other is named; None: the published one.

        Raises:
            ValueError: ``tau`` and ``beta`` are both given and do not say the same.
        """
        tau, beta, low = self.tau, self.beta, self.self_attention_low
        if beta is None and tau is None:
            beta = self.word_beta if words else self.token_beta
        if beta is not None:
            meant = (1 - beta) / 2
            if tau is not None and abs(tau - meant) > 1e-9:
                raise ValueError(
                    f"masks.beta {beta} means masks.tau {meant:g}, got {tau}: give one of them"
                )
            tau = meant
        elif tau is None and words:
            tau = self.tau_of_words(model_word_tau)
        elif tau is None:
            tau = self.token_tau if "token_tau" in self.model_fields_set else bank_tau
        if low is None:
            low = self.word_self_attention_low if words else self.token_self_attention_low
        # what was found out here is not marked as given, for tau_from to tell them apart
        values = dict(self) | {"tau": tau, "beta": beta, "self_attention_low": low}
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        return MaskConfig.model_construct(given, **values)
