"""The part that both heads share: features of all levels, merged from the coarsest to the finest.

Names of modules and buffers are those of the published state dicts, so that the authors' weights
load as they are. It does not know where features come from, nor what is made of the pyramid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate, relu

from ovamgen.errors import MethodError

LEVELS = ("low", "mid", "high", "highest")
"""Names of the levels, coarsest first. A UNet with fewer resolutions has the last ones of them."""

Levels = Sequence[Sequence[Float[Tensor, "1 _ _ _"]]]
"""Features of one image: for each level, coarsest first, its items (1, channels, height, width)."""

_REDUCE = "_feature_conv.0.weight"
_BATCH_NORM_EPS = 1e-4
_BATCH_NORM_MOMENTUM = 0.1
_LEAST_NORM = 1e-4


class SpectralConv(nn.Conv2d):
    """A convolution whose weight is divided by its largest singular value (methods 5.2).

    The value is that of one step of power iteration from the buffer ``u0``, which training moves
    and evaluation leaves as it is; the gradient flows through it by the weight alone.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: odd; the output is of the input's size.
    """

    u0: Tensor
    sv0: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.register_buffer("u0", torch.randn(1, out_channels))
        # written for whoever reads the state dict; nothing here reads it
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, x: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B _ h w"]:
        """The convolution with the normalised weight; the bias is not divided."""
        return self._conv_forward(x, self.weight / self._singular_value(), self.bias)

    def _singular_value(self) -> Float[Tensor, ""]:
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            v = _unit(self.u0 @ matrix)
            u = _unit(v @ matrix.T)
        value = (v @ matrix.T @ u.T).squeeze()
        if self.training:
            with torch.no_grad():
                self.u0.copy_(u)
                self.sv0.fill_(value.detach())
        return value


def _unit(x: Float[Tensor, "1 n"]) -> Float[Tensor, "1 n"]:
    return x / x.norm().clamp(min=_LEAST_NORM)


def reducing_weights(state: Mapping[str, Tensor]) -> list[Tensor]:
    """The weights that reduce each level, coarsest first: (width, channels, 1, 1) of each."""
    keys = [f"{level}{_REDUCE}" for level in LEVELS]
    return [state[key] for key in keys if key in state]


class MixBlock(nn.Module):
    """A residual block whose shortcut starts after its first activation (methods 5.2, step 3).

    The published block activates in place, and so adds what it has normalised and activated, not
    its input. Where it changes the number of channels, the shortcut has a convolution of its own.

    Args:
        in_channels: of the input.
        out_channels: of the output.
    """

    stored_mean1: Tensor
    stored_var1: Tensor
    stored_mean2: Tensor
    stored_var2: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = SpectralConv(in_channels, out_channels, 3)
        self.conv2 = SpectralConv(out_channels, out_channels, 3)
        self.conv_sc: SpectralConv | None = None
        if in_channels != out_channels:
            self.conv_sc = SpectralConv(in_channels, out_channels, 1)
        for number, channels in ((1, in_channels), (2, out_channels)):
            self.register_buffer(f"stored_mean{number}", torch.zeros(channels))
            self.register_buffer(f"stored_var{number}", torch.ones(channels))

    def forward(self, x: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B _ h w"]:
        """Features of the same size."""
        activated = relu(self._normalise(x, self.stored_mean1, self.stored_var1))
        y = self.conv1(activated)
        y = self.conv2(relu(self._normalise(y, self.stored_mean2, self.stored_var2)))
        return y + (activated if self.conv_sc is None else self.conv_sc(activated))

    def _normalise(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return batch_norm(
            x,
            mean,
            variance,
            training=self.training,
            momentum=_BATCH_NORM_MOMENTUM,
            eps=_BATCH_NORM_EPS,
        )


class FeaturePyramid(nn.Module):
    """Merges the levels of one image's features; the base of both heads.

    Each level's features are concatenated, reduced by a 1x1 convolution and resized to the next
    finer level; from the second level on, they are mixed with what came from the coarser ones
    (methods 5.2 and 6.2).

    Args:
        channels: of each level, coarsest first, unconditional and conditional ones together.
        widths: channels that each level is reduced to.
        mixed: channels of each level but the first after mixing.
    """

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], mixed: Sequence[int]
    ) -> None:
        super().__init__()
        self.level_names = LEVELS[-len(channels) :]
        carried = 0
        for level, incoming, width, out in zip(
            self.level_names, channels, widths, (widths[0], *mixed), strict=True
        ):
            # a sequence of one, as the published modules have it
            reduce = nn.Sequential(nn.Conv2d(incoming, width, 1, bias=False))
            self.add_module(f"{level}_feature_conv", reduce)
            if carried:
                self.add_module(f"{level}_feature_mix_conv", MixBlock(carried + width, out))
            carried = out

    def pyramid(self, levels: Levels) -> list[Float[Tensor, "1 _ _ _"]]:
        """The merged features of each level, coarsest first.

        Each is resized to the next finer level's size already, since that is what is made of it;
        the last one is of the finest level's own.

        Raises:
            MethodError: levels or channels are not those that the head was made for.
        """
        self._check(levels)
        sizes = [tuple(items[0].shape[2:]) for items in levels]
        finer = [*sizes[1:], sizes[-1]]
        merged: list[Tensor] = []
        for place, level in enumerate(self.level_names):
            # resized after its convolution, not before: both are linear, and pixels are fewer
            x = self.get_submodule(f"{level}_feature_conv")(torch.cat(list(levels[place]), dim=1))
            x = resize(x, finer[place])
            if merged:
                mix = self.get_submodule(f"{level}_feature_mix_conv")
                x = mix(torch.cat([merged[-1], x], dim=1))
            merged.append(resize(x, finer[min(place + 1, len(finer) - 1)]))
        return merged

    def _check(self, levels: Levels) -> None:
        weights = [self.get_parameter(f"{level}{_REDUCE}") for level in self.level_names]
        expected = [weight.shape[1] for weight in weights]
        got = [sum(item.shape[1] for item in items) for items in levels]
        if got != expected:
            raise MethodError(
                f"the head was made for features of {_listed(expected)} channels, coarsest first, "
                f"the model has {_listed(got)}: use the head with the model it was trained on, or "
                "train one for this model"
            )


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        widths: of the input, of each hidden layer and of the output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Float[Tensor, "*rows _"]) -> Float[Tensor, "*rows _"]:
        """Rows of the output's width."""
        for layer in self.layers[:-1]:
            x = relu(layer(x))
        return self.layers[-1](x)


def resize(x: Float[Tensor, "B C _ _"], size: Sequence[int]) -> Float[Tensor, "B C _ _"]:
    """Features of another (height, width): bilinear, not antialiased."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
