"""What a training run is asked for; recorded in its checkpoints. Knows no networks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every training has: batches, a seed, and a learning rate that can go on or end.

    The rate warms up and then stays, so that a run goes on for as long as there is time; a branch
    that decays it to zero (``decay_from``) can leave the run at any checkpoint.
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_from: int | None = None
    """Step that the decay starts at; the trunk of a run has none."""
    decay_steps: int = 0
    ema_decay: float = 0.999
    gradient_norm: float = 1.0
    optimizer: Literal["muon", "adamw"] = "muon"
    weight_decay: float = 0.01
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, constant, then 1 - sqrt of the decay's part.

        The form of the decay is that of Haegele et al. 2024 (arXiv 2405.18392, section 4).
        """
        rate = self.learning_rate * min(1.0, (step + 1) / self.warmup_steps)
        if self.decay_from is None or step < self.decay_from:
            return rate
        done = min(1.0, (step - self.decay_from) / self.decay_steps)
        return rate * (1.0 - done**0.5)

    def last_step(self) -> int | None:
        """The step that the decay ends at, where there is one."""
        return None if self.decay_from is None else self.decay_from + self.decay_steps

    def differences(self, other: Settings) -> list[str]:
        """``name old -> new`` for every field that the other settings have another value of."""
        pairs: list[tuple[str, Any, Any]] = [
            (field.name, getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        ]
        return [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Settings):
    """How the text encoder and the UNet are trained."""

    learning_rate: float = 3e-3
    """Muon's; with AdamW alone 1e-3 trained well."""
    text_rate_share: float = 0.6
    """The text encoder's learning rate, as a share of the UNet's."""
    caption_drop_share: float = 0.1
    """Samples trained with the empty caption, for guidance."""
    timestep_slope: float = 0.0
    """How much more often noisy timesteps are trained on than clean ones, in [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSettings(Settings):
    """How the decoder of the latents is trained."""

    batch_size: int = 8
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    latent_noise: float = 0.2
    """Most noise added to the latents, so that the decoder forgives what the UNet leaves over."""
