"""Corpora with real shards for the tests of pages: drawn scenes, failures of each kind.

``python -m tests.report.corpora FOLDER [COUNT] [SIDE]`` makes one to look at.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ovamgen.config import RunConfig
from ovamgen.records import ModelInfo, SampleFailure, SampleSpec, ShardRecord, SynthesisBatch
from ovamgen.run.local import generate_local
from tests.runs import make, run_config
from tests.voc import class_by_id

CLASS_IDS = tuple(range(1, 21))
PLACES = ("on a meadow", "by the sea", "in front of a wall", "at dusk", "under a grey sky")
HOSTILE = '<script>alert("caption")</script> \' " & a dog <img src=x onerror=alert(1)>'


class SceneEngine:
    """Deterministic scenes with one shape for each target; heatmaps attend to the shapes.

    Words of a prompt make samples fail: ``poison`` while drawing, ``broken`` while masks are made;
    ``unwanted`` is taken out by the safety checker, ``doubtful`` is flagged.
    """

    def __init__(self, config: RunConfig, side: int = 64) -> None:
        self.side = side
        self.cells = 16
        self.info = ModelInfo(
            model=config.model.id,
            revision="",
            digest="0" * 64,
            height=side,
            width=side,
            vae_scale_factor=side // self.cells,
            context_width=8,
            cross_attention_layers=15,
            trained=True,
        )
        self.tokens_digest = "1" * 64
        self.class_ids = CLASS_IDS

    def synthesise(self, specs: Sequence[SampleSpec]) -> SynthesisBatch:
        for spec in specs:
            if "poison" in spec.prompt:
                raise RuntimeError(f'<b>bad luck</b> with {spec.key}: "<script>alert(2)</script>"')
        made = [spec for spec in specs if "unwanted" not in spec.prompt]
        drawn = [self._scene(spec) for spec in made]
        shape = (len(made), self.side, self.side, 3)
        return SynthesisBatch(
            specs=tuple(made),
            images=np.array([image for image, _ in drawn], np.uint8).reshape(shape),
            heatmaps=np.array([maps for _, maps in drawn], np.float16).reshape(
                len(made), len(CLASS_IDS), self.cells, self.cells
            ),
            heatmap_max=tuple((0.5,) * len(CLASS_IDS) for _ in made),
            class_ids=self.class_ids,
            all_classes=True,
            unsafe=tuple("doubtful" in spec.prompt for spec in made),
            failures=tuple(
                SampleFailure(key=spec.key, stage="safety", reason="flagged by the checker")
                for spec in specs
                if spec not in made
            ),
        )

    def _scene(self, spec: SampleSpec) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(spec.seed)
        side = self.side
        y, x = np.mgrid[:side, :side] / side
        horizon = random.uniform(0.5, 0.75) + 0.03 * np.sin(x * random.uniform(5, 12))
        sky, ground = random.uniform((90, 130, 170), (190, 210, 240)), random.uniform(50, 150, 3)
        image = np.where(
            (y < horizon)[..., None], sky + 40 * y[..., None], ground - 30 * y[..., None]
        )
        image += random.normal(0, 5, (side, side, 1))
        maps = np.full((len(CLASS_IDS), self.cells, self.cells), 0.05, np.float32)
        for target in spec.targets:
            inside = self._shape(random, y, x, target.class_id)
            shade = 1 - 0.45 * (y - y[inside].min()) / max(np.ptp(y[inside]), 0.01)
            colour = np.array([(target.class_id * k) % 200 + 40 for k in (37, 91, 53)], float)
            image[inside] = (colour * shade[..., None])[inside]
            maps[target.class_id - 1] = self._attention(random, inside)
        if "broken" in spec.prompt:
            maps[:] = np.nan
        return image.clip(0, 255).astype(np.uint8), maps.astype(np.float16)

    def _shape(
        self, random: np.random.Generator, y: np.ndarray, x: np.ndarray, class_id: int
    ) -> np.ndarray:
        """A blob whose outline has as many lobes as its class says."""
        centre_y, centre_x = random.uniform(0.4, 0.65), random.uniform(0.3, 0.7)
        radius = random.uniform(0.1, 0.3)
        angle = np.arctan2(y - centre_y, x - centre_x)
        wave = 1 + 0.22 * np.sin((class_id % 6 + 2) * angle + random.uniform(0, 6))
        return np.hypot(y - centre_y, (x - centre_x) * random.uniform(0.7, 1.1)) < radius * wave

    def _attention(self, random: np.random.Generator, inside: np.ndarray) -> np.ndarray:
        """The shape out of focus, with uneven attention: scores differ from sample to sample."""
        soft = Image.fromarray((inside * 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(self.side / random.uniform(20, 60))
        )
        cells = np.asarray(soft.resize((self.cells, self.cells), Image.Resampling.BOX)) / 255
        uneven = cells * random.uniform(0.72, 1, cells.shape) ** random.uniform(0, 2)
        maps = np.maximum(uneven, 0.05)
        return maps / maps.max()


def captions(count: int, *, troubles: bool = True) -> list[str]:
    """Captions of all classes, some of two; a few that fail, that are left out, that attack."""
    random = np.random.default_rng(5)
    texts = []
    for index in range(count):
        first = class_by_id(int(random.zipf(1.35)) % 20 + 1)
        second = class_by_id(int(random.integers(1, 21)))
        words = f"a photograph of a {first.phrase}"
        if index % 4 == 3 and second is not first:
            words += f" and a {second.phrase}"
        words += f" {PLACES[index % len(PLACES)]}"
        if troubles:
            words += {17: " with poison", 31: " broken", 43: " unwanted", 58: " doubtful"}.get(
                index % 97, ""
            )
        texts.append(words)
    if troubles and count > 6:
        texts[5] = HOSTILE
        texts[6] = "an empty street in the rain"
    return texts


def make_corpus(
    folder: Path,
    count: int = 60,
    *,
    side: int = 64,
    shard_size: int = 16,
    troubles: bool = True,
    **sections: object,
) -> Path:
    """A finished corpus in ``folder/out``, made by the run itself with `SceneEngine`."""
    config = run_config(
        folder,
        texts=captions(count, troubles=troubles),
        **{"plan": {"shard_size": shard_size, "batch_size": 8}, **sections},
    )
    make(config, generate_local, lambda config: SceneEngine(config, side))
    return folder / "out"


def shard_record(index: int = 0, metadata: bytes = b"") -> ShardRecord:
    """A shard's record, of which only the digest of the metadata says something."""
    return ShardRecord(
        schema_version=1,
        shard_index=index,
        name=f"train-{index:06d}.tar",
        samples=1,
        failed=0,
        size_bytes=0,
        sha256="",
        md5="",
        metadata_size_bytes=len(metadata),
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        fingerprint="",
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    size, edge = (int(text) for text in [*sys.argv[2:], "400", "192"][:2])
    print(make_corpus(target, size, side=edge, shard_size=max(16, size // 10)))
