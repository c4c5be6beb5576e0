"""What moves the parameters of networks: Muon and AdamW, or AdamW alone.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes the update of every matrix nearly
orthogonal, so that no direction of it is left behind; of a convolution the matrix is one row an
output channel. Scaled as AdamW's updates are (Liu et al. 2025, arXiv 2502.16982, section 2.2), it
takes rates of the same size. Layers that meet pixels or words, gains and biases stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float

from recipes.mini.settings import Settings

_BETAS = (0.9, 0.99)
_ADAMW_SHARE = 0.5
"""Of the rate, beside Muon: what AdamW moves there took 1e-3 well where Muon took 2e-3 and more."""
_NOT_MATRICES = ("conv_in.", "conv_out.", "embeddings.")
"""Parts of the names of weights that stay with AdamW."""


class NetworkOptimizer:
    """Takes steps of all parameters; each group has a ``rate_share`` of the learning rate."""

    def __init__(
        self, networks: Sequence[tuple[torch.nn.Module, float]], settings: Settings
    ) -> None:
        """Readies the optimizers; parameters must stay where they are in memory from here on.

        Args:
            networks: each with its share of the learning rate.
            settings: of the training.
        """
        self._matrices: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []
        """Parameters, each with the matrix that shares its memory."""
        adamw: list[dict[str, Any]] = []
        muon: list[dict[str, Any]] = []
        mixed = settings.optimizer == "muon"
        for network, share in networks:
            named = list(network.named_parameters())
            flat = [p for name, p in named if mixed and _is_matrix(name, p)]
            pairs = [(p, torch.nn.Parameter(_as_matrix(p.detach(), p))) for p in flat]
            self._matrices += pairs
            muon.append({"params": [matrix for _, matrix in pairs], "rate_share": share})
            taken = {id(p) for p in flat}
            rest = [p for _, p in named if id(p) not in taken]
            adamw.append({"params": rest, "rate_share": share * (_ADAMW_SHARE if mixed else 1.0)})
        rate, decay = settings.learning_rate, settings.weight_decay
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(adamw, lr=rate, betas=_BETAS, weight_decay=decay, fused=True)
        ]
        if mixed:
            self._parts.append(
                torch.optim.Muon(muon, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            )

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of the next step."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * group["rate_share"]

    def step(self) -> None:
        """Moves the parameters by their gradients, and forgets the gradients."""
        for parameter, matrix in self._matrices:
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad, parameter)
        for part in self._parts:
            part.step()
            part.zero_grad()
        for parameter, _ in self._matrices:
            parameter.grad = None

    def state_dict(self) -> list[dict[str, Any]]:
        """What ``load_state_dict`` takes."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Goes on from what ``state_dict`` gave of an optimizer with the same settings."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _is_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(part in name for part in _NOT_MATRICES)


def _as_matrix(
    values: torch.Tensor, order_of: torch.nn.Parameter
) -> Float[torch.Tensor, "rows columns"]:
    """One row an output, columns as that parameter has them in memory, be it channels last."""
    if values.ndim == 4 and not order_of.is_contiguous():
        # The order of columns is free: an orthogonal matrix stays one.
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
