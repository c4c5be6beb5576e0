"""The loss that a segmentor is trained with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ovamgen.classes.voc import IGNORE
from ovamgen.segmentor.network import normalise


class SegmentationLoss(nn.Module):
    """The network with its loss as one module, which is what DDP wraps."""

    def __init__(self, network: Any, class_weights: tuple[float, ...] | None) -> None:
        """``network`` is an UperNetForSemanticSegmentation."""
        super().__init__()
        self.class_weights: torch.Tensor | None
        self.network = network
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy over the pixels that count; 0 where none does.

        Args:
            images: uint8 (B, 3, H, W).
            labels: uint8 (B, H, W) with 255 where a pixel does not count.
        """
        x = normalise(images).contiguous(memory_format=torch.channels_last)
        features = self.network.backbone(x).feature_maps
        loss = self._cross_entropy(self.network.decode_head(features), labels)
        if self.network.auxiliary_head is not None:
            weight = self.network.config.auxiliary_loss_weight
            loss = loss + weight * self._cross_entropy(
                self.network.auxiliary_head(features), labels
            )
        return loss

    def _cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        target = labels.long()
        logits = nn.functional.interpolate(
            logits, size=target.shape[1:], mode="bilinear", align_corners=False
        )
        total = nn.functional.cross_entropy(
            logits.float(), target, weight=self.class_weights, ignore_index=IGNORE, reduction="sum"
        )
        counted = target != IGNORE
        if self.class_weights is None:
            norm = counted.sum()
        else:
            norm = self.class_weights[target.where(counted, 0)].where(counted, 0.0).sum()
        return total / norm.clamp(min=1)
