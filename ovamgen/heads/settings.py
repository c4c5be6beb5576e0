"""What may be asked of the training of a head: data, schedule, sizes; and the presets of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ovamgen.attribution.heads.datasetdm import DatasetDmShape
from ovamgen.attribution.heads.grounded import GroundedShape
from ovamgen.attribution.heads.head_file import HeadShape
from ovamgen.config import Section, load_preset, validated
from ovamgen.errors import ConfigError


class HeadTrainSettings(Section):
    """One training; all fields but the last two decide what the weights become."""

    kind: Literal["grounded", "datasetdm"]
    """Grounded Diffusion's network or DatasetDM's."""
    steps: int | None = Field(default=None, ge=1)
    """Updates of the weights; or ``epochs``."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the pictures, where ``steps`` is not given."""
    batch_size: int = Field(default=1, ge=1)
    """Pictures in one update. The network sees one at a time whatever their number: batch norms
    take the statistics of a picture."""
    learning_rate: float = Field(gt=0)
    """Learning rate of Adam at the first step."""
    decay: float = Field(default=1.0, gt=0, le=1)
    """The rate is multiplied by this ..."""
    decay_epochs: int = Field(default=1, ge=1)
    """... after every so many passes over the pictures."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Decides first weights, order of pictures, points, augmentation and held-out pictures."""

    prompt: str | None = None
    """Generation prompt of encoded pictures, with ``{class}`` in it; their captions where not
    given. Pictures that are drawn again have their own."""
    names: Literal["phrase", "joined"] = "phrase"
    """Classes are named as people do (``dining table``) or as VOC does (``diningtable``)."""
    asked_for: Literal["class", "aeroplane"] = "class"
    """What DatasetDM is asked for: each picture's class, or always the same one, as the released
    training does by mistake (methods 6.3)."""
    generated: Literal["draw", "encode"] = "draw"
    """Features of generated pictures are those of their last UNet call, for which they are drawn
    again, or of one call on the encoded picture, which real pictures always have."""
    augment: bool = False
    """Encoded pictures are scaled and cropped anew in each step (methods 6.5)."""
    classes: tuple[str, ...] | None = None
    """Names of the classes to learn; all that the pictures show where not given."""
    one_class: bool = False
    """Only pictures whose label map has fewer than three values; 255 counts as one."""
    least_area_px: int = Field(default=0, ge=0)
    """A class of a picture counts if it has more pixels than this."""
    pictures_per_class: int | None = Field(default=None, ge=1)
    """The first so many pictures of each class, by name; all where not given."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the pictures that are not learnt from but scored."""
    validate_steps: int = Field(default=500, ge=1)
    """Steps between two scores of the held-out pictures; the last step is always scored."""

    width: int = Field(default=512, ge=4)
    """Channels of the decoder."""
    feedforward: int = Field(default=2048, ge=1)
    heads: int = Field(default=8, ge=1)
    layers: int = Field(default=3, ge=1, le=64)
    queries: int = Field(default=20, ge=1)
    """Queries of DatasetDM's decoder."""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels that Grounded Diffusion's pyramid reduces each level to, coarsest first; the last
    ones are used where a model has fewer levels."""

    feature_bytes: int = Field(default=2 * 1024**3, ge=0)
    """Features of all pictures are kept in memory if they need no more than this; else one UNet
    call is made for each picture and step."""
    save_seconds: float = Field(default=60.0, gt=0)
    """Time between two checkpoints."""

    @model_validator(mode="after")
    def _check(self) -> HeadTrainSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("one of steps and epochs must be given")
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width must be a multiple of 4 and of heads ({self.heads}), got {self.width}"
            )
        if self.kind == "grounded" and self.augment:
            raise ValueError("augment is of datasetdm's training, grounded's has none")
        if self.kind == "grounded" and self.asked_for != "class":
            raise ValueError("asked_for is of datasetdm's training, grounded asks for each class")
        if self.augment and self.generated == "draw":
            raise ValueError("augment needs encoded pictures: give generated encode")
        if self.prompt is not None and "{class}" not in self.prompt:
            raise ValueError(f"prompt must have {{class}} in it, got {self.prompt!r:.60}")
        return self

    def semantic(self) -> dict[str, Any]:
        """The fields that decide what the weights become, as plain values."""
        return self.model_dump(mode="json", exclude={"feature_bytes", "save_seconds"})

    def total_steps(self, pictures: int) -> int:
        """Updates in all, of so many pictures."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None, "checked by the settings"
        return -(-self.epochs * pictures // self.batch_size)

    def rate(self, step: int, pictures: int) -> float:
        """The learning rate of a step, 0 the first."""
        epoch = step * self.batch_size // pictures
        return self.learning_rate * self.decay ** (epoch // self.decay_epochs)

    def shape(self, channels: tuple[int, ...], text_width: int, cell_px: int = 8) -> HeadShape:
        """The sizes of the network for a model.

        Args:
            channels: of each level of the model's features, coarsest first.
            text_width: of its text encoder's rows.
            cell_px: pixels of a latent cell's side.

        Raises:
            ConfigError: the model has more levels than there are widths.
        """
        common: dict[str, Any] = {
            "channels": channels,
            "text_width": text_width,
            "width": self.width,
            "feedforward": self.feedforward,
            "heads": self.heads,
            "layers": self.layers,
        }
        if self.kind == "datasetdm":
            return DatasetDmShape(**common, queries=self.queries)
        if len(self.widths) < len(channels):
            raise ConfigError(
                f"widths must be {len(channels)} numbers, one for each level of the model's "
                f"features, got {len(self.widths)}"
            )
        return GroundedShape(**common, widths=self.widths[-len(channels) :], cell_px=cell_px)


def load_head_preset(name: str, **given: Any) -> HeadTrainSettings:
    """The settings of a preset, with what was given in their place; None is not given.

    Args:
        name: such as ``grounded-published`` or ``datasetdm-mini``.
        given: fields of `HeadTrainSettings`; steps replace epochs, and epochs steps.

    Raises:
        ConfigError: no preset has that name, an unknown field, or a value that is not allowed.
    """
    values = load_preset(name, "heads")
    asked = {key: value for key, value in given.items() if value is not None}
    if {"steps", "epochs"} & set(asked):
        values.pop("steps", None)
        values.pop("epochs", None)
    return build_head_settings(values | asked)


def build_head_settings(values: dict[str, Any]) -> HeadTrainSettings:
    """The settings of these fields.

    Raises:
        ConfigError: an unknown field (the nearest one is named) or a value that is not allowed.
    """
    return validated(HeadTrainSettings, values, "setting of a head")
