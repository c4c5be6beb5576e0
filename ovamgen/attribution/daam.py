"""DAAM (arXiv 2210.04885, ACL 2023): where the words of a prompt attend while it is drawn.

The official definition (methods 1.1 to 1.3): a softmax over *all* rows of the padded generation
prompt, the conditional half, a sum over calls for each head of each layer, each of them resized to
the largest layer (bicubic) and clamped, then the mean over heads and layers; a word's map is the
mean over all sub-tokens of all its occurrences. A word that the prompt does not name has no map.

Words are found by whole sub-tokens; the published code, which strips the end-of-word mark, would
also find ``cat`` at the beginning of a longer word. Dimension letters: `ovamgen.attribution.maps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import interpolate

from ovamgen.attribution.interface import (
    AttentionLayer,
    AttributedModel,
    ClassTarget,
    HeatmapSink,
)
from ovamgen.attribution.maps import Count
from ovamgen.attribution.targets import occurrences, phrase_ids
from ovamgen.errors import MethodError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PromptContext:
    """The padded prompt of one image as attribution rows, and the rows whose maps are kept."""

    image: int
    """Index in the batch."""
    rows: Float32[Tensor, "L ctx"]
    kept: tuple[int, ...]


class DaamMaps:
    """A sink for maps of rows of each image's own prompt (methods 1.1, 1.2).

    State: (N, kept rows, P) float32 for each layer and context. It cannot be summed over layers and
    heads before it is resized, since the clamp that follows is not linear.

    Args:
        layers: the cross-attention layers, in the recorder's order.
        contexts: what is attended to; an image may have several.
    """

    def __init__(self, layers: Sequence[AttentionLayer], contexts: Sequence[PromptContext]) -> None:
        self._contexts = contexts
        self._heads = sum(layer.heads for layer in layers)
        self._keys: list[list[Float32[Tensor, "N D L"]]] = [
            [(layer.scale * layer.project_keys(context.rows)).mT.contiguous() for layer in layers]
            for context in contexts
        ]
        # a list as an index would be copied to the device at every use
        kept = [row for context in contexts for row in context.kept]
        device = self._keys[0][0].device if contexts else None
        self._kept = torch.tensor(kept, dtype=torch.int64, device=device).split_with_sizes(
            [len(context.kept) for context in contexts]
        )
        self._sums: list[dict[int, Tensor]] = [{} for _ in contexts]
        self._sizes: dict[int, tuple[int, int]] = {}
        self._updates = Count()
        self._layers = len(layers)

    @property
    def maximum(self) -> float:
        """UNet calls: the maps of all rows of a prompt sum to it, but for what is clamped (1.7)."""
        return self._updates.value / self._layers

    @property
    def nbytes(self) -> int:
        """Bytes of all running sums."""
        return sum(total.nbytes for sums in self._sums for total in sums.values())

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's maps of one UNet call."""
        self._sizes[layer] = size
        self._updates.add(1, queries.device)
        each = zip(self._contexts, self._keys, self._kept, self._sums, strict=True)
        for context, keys, kept, sums in each:
            scores = torch.bmm(queries[context.image].float(), keys[layer])
            values = scores.softmax(-1).index_select(-1, kept).mT
            sums[layer] = sums[layer].add_(values) if layer in sums else values.contiguous()

    def raw(self, context: int) -> list[Float32[Tensor, "N _ h w"]]:
        """One context's sums over calls, for each layer at its own resolution."""
        return [
            total.reshape(*total.shape[:2], *self._sizes[layer])
            for layer, total in sorted(self._sums[context].items())
        ]

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the largest layer, which all maps are resized to.

        Raises:
            MethodError: nothing was recorded.
        """
        if not self._sizes:
            raise MethodError(
                "no attention was recorded: the UNet was not called while the recorder was on, "
                "or its queries are not made by to_q (fused projections)"
            )
        return max(self._sizes.values(), key=lambda size: (size[0] * size[1], size))

    def result(self) -> list[Float32[Tensor, "_ h w"]]:
        """Each context's maps of the rows that are kept, (rows, h, w), in [0, about `maximum`].

        Raises:
            MethodError: nothing was recorded.
        """
        size = self.size
        results = []
        for context in range(len(self._contexts)):
            total = None
            for maps in self.raw(context):
                if tuple(maps.shape[2:]) != size:
                    maps = interpolate(maps, size=size, mode="bicubic", align_corners=False)
                summed = maps.clamp(min=0).sum(0)
                total = summed if total is None else total + summed
            assert total is not None
            results.append(total / self._heads)
        return results


class Daam:
    """The method `daam`: classes as words of the prompt that is drawn.

    Optimised pairs are an extension, since DAAM has no attribution rows of its own (methods 1.6):
    for the capture alone, the pair's class row stands in for every sub-token of every occurrence of
    the class's phrase; the prompt's other rows are as they were, the pair's background row is not
    used, and drawing sees nothing of it.

    Args:
        model: whose attention is read.
        targets: classes with the phrases that name them.

    Raises:
        MethodError: no targets, or one without a phrase.
    """

    def __init__(self, model: AttributedModel, targets: Sequence[ClassTarget]) -> None:
        if not targets:
            raise MethodError("heatmaps need at least one class, got none")
        if nameless := [target.name for target in targets if not target.phrase]:
            raise MethodError(
                "daam looks for a class's words in the prompt, but there are none for "
                f"{', '.join(nameless)}: give each target its phrase"
            )
        self._model = model
        self._layers = model.layers
        self._targets = targets
        texts = [model.encode(target.phrase) for target in targets]
        self._wanted = [phrase_ids(text) for text in texts]
        self._class_rows = [
            target.rows[target.channel].to(text.rows)
            for target, text in zip(targets, texts, strict=True)
        ]

    def open(self, prompts: Sequence[str]) -> DaamSink:
        """A sink for one batch; classes that a prompt does not name are its `problem`."""
        contexts: list[PromptContext] = []
        found: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        for image, prompt in enumerate(prompts):
            text = self._model.encode(prompt, padded=True, cut=True)
            rows_of = {
                index: rows
                for index, wanted in enumerate(self._wanted)
                if (rows := _rows(text.token_ids, wanted))
            }
            words = [index for index in rows_of if not self._targets[index].is_pair]
            kept = tuple(sorted({row for index in words for row in rows_of[index]}))
            for index in words:
                channels = tuple(kept.index(row) for row in rows_of[index])
                found[image, index] = len(contexts), channels
            if words:
                contexts.append(PromptContext(image=image, rows=text.rows, kept=kept))
            for index, rows in rows_of.items():
                if index in words:
                    continue
                changed = text.rows.clone()
                for row in rows:
                    changed[row] = self._class_rows[index]
                found[image, index] = len(contexts), tuple(range(len(rows)))
                contexts.append(PromptContext(image=image, rows=changed, kept=rows))
        return DaamSink(DaamMaps(self._layers, contexts), self._targets, prompts, found)


class DaamSink(HeatmapSink):
    """Class maps of one batch, out of the prompts that name the classes.

    Args:
        maps: takes the queries.
        targets: the classes.
        prompts: of the batch.
        found: for an image and a target, the context and its channels that the class's map is the
            mean of.
    """

    def __init__(
        self,
        maps: DaamMaps,
        targets: Sequence[ClassTarget],
        prompts: Sequence[str],
        found: dict[tuple[int, int], tuple[int, tuple[int, ...]]],
    ) -> None:
        self.maps = maps
        self._targets = targets
        self._prompts = prompts
        self._found = found

    @property
    def maximum(self) -> float:
        """UNet calls."""
        return self.maps.maximum

    @property
    def nbytes(self) -> int:
        """Bytes of the running sums; the number of calls does not change them."""
        return self.maps.nbytes

    def update(self, layer: int, queries: Float[Tensor, "B N P D"], size: tuple[int, int]) -> None:
        """Adds one layer's maps of one UNet call."""
        self.maps.update(layer, queries, size)

    def class_maps(self) -> Float32[Tensor, "B K h w"]:
        """Maps of all targets; zero where a prompt does not name one.

        Raises:
            MethodError: nothing was recorded.
        """
        results = self.maps.result()
        device = results[0].device if results else None
        shape = (len(self._prompts), len(self._targets), *self.maps.size)
        maps = torch.zeros(shape, device=device)
        for (image, target), (context, channels) in self._found.items():
            rows = torch.stack([results[context][channel] for channel in channels])
            maps[image, target] = rows.mean(0)
        return maps

    def problem(self, image: int, target: int) -> str | None:
        """Why there is no map of a target in an image, or None."""
        if (image, target) in self._found:
            return None
        return absent_word(self._targets[target].phrase, self._prompts[image])


def absent_word(phrase: str, prompt: str) -> str:
    """What to say where a prompt does not name what DAAM is asked for."""
    return (
        f"daam has maps of the prompt's own words only, and {phrase!r} is not in the prompt "
        f"{prompt!r}: name it there, or use the method ovam or daam-ovam"
    )


def _rows(token_ids: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """All rows of all occurrences, in order."""
    starts = occurrences(token_ids, wanted)
    return tuple(sorted({start + step for start in starts for step in range(len(wanted))}))
