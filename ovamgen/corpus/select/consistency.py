"""How far the masks of a sample and of its mirrored picture agree.

What a mask shows should not depend on the side that a thing is on. The picture is mirrored, noised
and drawn again by the model that drew it (`ovamgen.diffusion.recreate`), a mask is made of that
drawing's attention by the corpus's own settings, mirrored back and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ovamgen.attribution.chosen_attention import check_chosen, chosen
from ovamgen.attribution.method import build_method
from ovamgen.config import RunConfig
from ovamgen.corpus.open import Corpus
from ovamgen.diffusion.recreate import Recreator, check_strength
from ovamgen.engine.engine import class_heatmaps
from ovamgen.engine.opened_model import OpenedAttribution, open_attribution
from ovamgen.errors import ConfigError, SampleError
from ovamgen.masks.binarise import LabelMap, make_label_map
from ovamgen.masks.iou import count_pixels
from ovamgen.records import ShardRecord
from ovamgen.run.files import saved_config
from ovamgen.shards.arrays import decode_jpeg, decode_png
from ovamgen.shards.codec import IMAGE, MASK
from ovamgen.shards.schema import targets_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConsistencyScorer:
    """A model that draws mirrored pictures again, and how their masks are made."""

    opened: OpenedAttribution
    """The run's own model, settings, tokens and head."""
    recreator: Recreator
    request: dict[str, Any]
    """What the scores depend on beside the corpus: strength and sha256 (hex) of what was loaded."""

    @classmethod
    def load(cls, config: RunConfig, strength: float) -> ConsistencyScorer:
        """The model of a run, with its settings.

        Args:
            config: resolved.
            strength: share of the steps that a picture is noised for, in (0, 1].

        Raises:
            ConfigError: no such model, or one that does not fit its tokens or head.
            MethodError: the method cannot be recorded on the model.
        """
        if not config.attribution.probe:
            check_strength(strength, config.synthesis.steps)
        opened = open_attribution(config)
        loaded = opened.attention.loaded
        return cls(
            opened=opened,
            recreator=Recreator(
                loaded, opened.config.synthesis, strength, opened.config.attribution.probe
            ),
            request={
                "strength": strength,
                "weights_sha256": loaded.info.digest,
                "tokens_sha256": opened.tokens_digest,
            },
        )

    def score_shard(self, corpus: Corpus, record: ShardRecord) -> list[tuple[str, list[float]]]:
        """Key and scores, one for each target in the order of the metadata, of a shard's samples.

        Scores have 6 decimals, as all measured values of the metadata.
        """
        found = []
        for key, members, row in corpus.read_with_rows(record):
            size = row["height"], row["width"]
            image = decode_jpeg(members[IMAGE], size, f"the image of sample {key}")
            labels = decode_png(members[MASK], size, f"the mask of sample {key}")
            scores = self.scores(image, labels, row)
            found.append((key, [round(score, 6) for score in scores]))
        return found

    def scores(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        labels: UInt8[np.ndarray, "H W"],
        row: Mapping[str, Any],
    ) -> list[float]:
        """IoU of each target's pixels in the mask and in that of the mirrored picture, [0, 1].

        Pixels that the mask marks 255 count in neither. A target that neither of them shows, or
        that the mirrored picture has no heatmap of, has 0.

        Args:
            image: RGB.
            labels: class ids.
            row: of the sample's metadata: targets, prompt, seed.
        """
        targets = targets_of(row)
        again = self.by_mirrored(image, row, targets)
        if again is None:
            return [0.0] * len(targets)
        pixels = [count_pixels(again.labels == target, labels, target) for target in targets]
        return [both / either if either else 0.0 for both, either in pixels]

    def by_mirrored(
        self, image: UInt8[np.ndarray, "H W 3"], row: Mapping[str, Any], targets: list[int]
    ) -> LabelMap | None:
        """The mask by the mirrored picture, mirrored back; None where there is no such mask."""
        if not targets:
            return None
        opened, config = self.opened, self.opened.config
        ids = [entry.id for entry in config.classes.classes]
        attributed = opened.attributed.only([ids.index(target) for target in targets])
        method = build_method(
            config.attribution.method,
            opened.attention,
            attributed.targets,
            config.masks,
            head=opened.head,
        )
        sink = method.open([row["prompt"]])
        mirrored = np.ascontiguousarray(image[:, ::-1])
        fed = chosen(sink, config.attribution)
        try:
            self.recreator.draw(
                mirrored, row["prompt"], row["seed"], [(fed, config.attribution.half)]
            )
            check_chosen(fed)
            recorded, _ = class_heatmaps(sink, config.masks, attributed)
            maps = recorded[0].float().cpu().numpy()
            for place in range(len(targets)):
                if attributed.problem(sink, 0, place) is not None:
                    maps[place] = 0
            taus = config.masks.taus(row["class_names"])
            made = make_label_map(maps, targets, mirrored, config.masks, taus)
        except SampleError:
            return None
        return replace(made, labels=np.ascontiguousarray(made.labels[:, ::-1]))


def config_of(corpus: Corpus, *, model: str | None, device: str) -> RunConfig:
    """How the samples of a corpus were made; of one that was extended, those added last.

    Args:
        corpus: of a run.
        model: folder or name of the model; by default the one that the run names.
        device: cpu or cuda.

    Raises:
        ConfigError: the corpus does not say it.
    """
    if "identity" not in corpus.run_info:
        raise ConfigError(
            f"--min-consistency makes masks as the run did, and {corpus.store.url} has no "
            "run.yaml that says how: give the folder that 'ovamgen generate' wrote to"
        )
    named = {} if model is None else {"id": model, "revision": None}
    return saved_config(corpus.run_info, corpus.store.url, {"model": {**named, "device": device}})
