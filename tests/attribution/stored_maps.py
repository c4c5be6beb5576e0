"""Raw OVAM maps out of stored queries: the yardstick of sums that are made while it is drawn."""

import torch

from ovamgen.attribution.maps import resize


def evaluate(stored, layers, rows):
    """Maps (B, L, h, w) of one attribution matrix, differentiable in its rows (methods 2.2)."""
    keys = {layer: layers[layer].project_keys(rows) for layer in {c.layer for c in stored.calls}}
    sums: dict[tuple[int, int], Tensor] = {}
    for call in stored.calls:
        scores = layers[call.layer].scale * call.queries.float() @ keys[call.layer].mT
        values = scores.softmax(-1).sum(1)
        sums[call.size] = sums[call.size] + values if call.size in sums else values
    largest = max(sums, key=lambda size: (size[0] * size[1], size))
    maps = [
        resize(total.mT.reshape(*total.mT.shape[:2], *size), largest)
        for size, total in sums.items()
    ]
    return torch.stack(maps).sum(0)
