"""Running sums of attention maps by resolution, and how they become one heatmap.

Dimension letters, here and in the whole package: B images of a batch, T UNet calls, N heads,
P = h·w positions, D head_dim, L tokens, K targets, ctx width of a text encoder's row. Sizes are
(height, width). This module does not know where maps come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float32
from torch import Tensor, contiguous_format
from torch.nn.functional import interpolate

from ovamgen.errors import MethodError


class Count:
    """A sum of whole numbers that can be added to in compiled code.

    torch.compile compiles anew for each value of a number that it reads, so compiled code adds to
    a tensor on the device instead, which is read when the sum is asked for.
    """

    def __init__(self) -> None:
        self._counted = 0
        self._compiled: Tensor | None = None

    @property
    def value(self) -> int:
        """What was added."""
        return self._counted + (0 if self._compiled is None else int(self._compiled))

    def add(self, number: int, device: torch.device) -> None:
        """Adds a number, the same in every call of compiled code."""
        if not torch.compiler.is_compiling():
            self._counted += number
        elif self._compiled is None:
            self._compiled = torch.full((), number, dtype=torch.int64, device=device)
        else:
            self._compiled.add_(number)


class MapSums:
    """Sums over UNet calls, heads and layers, one tensor for each resolution.

    Bilinear resizing is linear, so layers of equal size are summed before they are resized: the
    state is as large as one map per resolution, however many calls and layers there are.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._maximum = Count()

    @property
    def maximum(self) -> int:
        """The most that a cell can hold: calls · heads, summed over the layers (methods 2.2)."""
        return self._maximum.value

    @property
    def by_size(self) -> Mapping[tuple[int, int], Float32[Tensor, "B P K"]]:
        """The running sums of each (height, width), before any resizing."""
        return MappingProxyType(self._sums)

    @property
    def nbytes(self) -> int:
        """Bytes of all running sums."""
        return sum(total.nbytes for total in self._sums.values())

    def add(self, values: Float32[Tensor, "B P K"], size: tuple[int, int], heads: int) -> None:
        """Adds one layer's maps of one UNet call.

        Args:
            values: softmax values summed over the heads; kept and added to in place, so they must
                belong to nobody else.
            size: (h, w) with h·w = P.
            heads: how many heads were summed.
        """
        if size in self._sums:
            self._sums[size].add_(values)
        else:
            self._sums[size] = values
        self._maximum.add(heads, values.device)

    def total(self) -> Float32[Tensor, "B K h w"]:
        """All sums resized (bilinear, align_corners=False) to the largest size, and added.

        Methods 2.2, steps 4 and 5. Raw values in [0, maximum].

        Raises:
            MethodError: nothing was recorded.
        """
        if not self._sums:
            raise MethodError(
                "no attention was recorded: the UNet was not called while the recorder was on, "
                "or its queries are not made by to_q (fused projections)"
            )
        return add_resized(
            [
                total.mT.reshape(*total.mT.shape[:2], *size)
                for size, total in sorted(self._sums.items(), reverse=True)
            ]
        )


def add_resized(maps: Sequence[Float32[Tensor, "B K _ _"]]) -> Float32[Tensor, "B K h w"]:
    """The sum of maps of different sizes, all resized to the largest (methods 2.2, steps 4, 5)."""
    largest = max(
        ((one.shape[2], one.shape[3]) for one in maps), key=lambda size: (size[0] * size[1], size)
    )
    resized = [resize(one, largest) for one in maps]
    result = resized[0].clone(memory_format=contiguous_format)
    for other in resized[1:]:
        result += other
    return result


def resize(maps: Float32[Tensor, "B K h w"], size: tuple[int, int]) -> Float32[Tensor, "B K H W"]:
    """The maps at another (height, width), bilinear with align_corners=False (methods 2.2)."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return interpolate(maps, size=size, mode="bilinear", align_corners=False)
