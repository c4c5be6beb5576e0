"""How well CLIP finds a class in an image: the score that the published 20K set was filtered by.

The one module of selecting that imports torch and transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import is_default
from ovamgen.corpus.open import Corpus
from ovamgen.errors import ConfigError
from ovamgen.records import ShardRecord
from ovamgen.shards.arrays import decode_jpeg
from ovamgen.shards.codec import IMAGE
from ovamgen.shards.schema import targets_of

_WEIGHTS = "model.safetensors"
BATCH_SIZE = 32

_NAMES = {"tvmonitor": "tv monitor"}
"""Where the published notebook names a VOC class otherwise than our prompts do (methods 7.4)."""


class ClipScorer:
    """A CLIP model with the texts of a set of classes."""

    def __init__(
        self,
        model: Any,
        inputs: Any,
        processor: Any,
        classes: ClassSet,
        device: str,
        digest: str,
    ) -> None:
        """Takes over loaded parts; use `load`."""
        self._places = {entry.id: place for place, entry in enumerate(classes.classes)}
        self._model = model
        self._inputs = inputs
        self._processor = processor
        self._device = device
        self.digest = digest
        """sha256 (hex) of the weights."""

    @classmethod
    def load(cls, folder: str, classes: ClassSet, device: str = "cpu") -> ClipScorer:
        """The CLIP model in a folder in transformers format, such as ViT-B/32's.

        Args:
            folder: of the model.
            classes: that images are scored for.
            device: cpu or cuda.

        Raises:
            ConfigError: no such folder, or no CLIP model with safetensors weights in it.
        """
        weights = Path(folder) / _WEIGHTS
        if not weights.is_file():
            raise ConfigError(
                f"--clip expects the folder of a CLIP model in transformers format, {_WEIGHTS} "
                f"included, got {folder}: that of openai/clip-vit-base-patch32 is the published one"
            )
        try:
            model = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"{folder} cannot be loaded as a CLIP model: {reason}") from None
        texts = [text for pair in class_texts(classes) for text in pair]
        inputs = tokenizer(texts, padding=True, return_tensors="pt").to(device)
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(model.eval().to(device), inputs, processor, classes, device, digest)

    def probabilities(
        self, images: Sequence[UInt8[np.ndarray, "H W 3"]]
    ) -> Float64[np.ndarray, "B K"]:
        """For each image and class, by id, the probability of its first text against its second.

        See `class_texts`.
        """
        pictures = [Image.fromarray(image) for image in images]
        pixels = self._processor(pictures, return_tensors="pt")["pixel_values"].to(self._device)
        with torch.inference_mode():
            logits = self._model(pixel_values=pixels, **self._inputs).logits_per_image
        pairs = logits.double().reshape(len(images), len(self._places), 2)
        return pairs.softmax(dim=-1)[..., 0].cpu().numpy()

    def score_shard(self, corpus: Corpus, record: ShardRecord) -> list[tuple[str, list[float]]]:
        """Key and scores, one for each target in the order of the metadata, of a shard's samples.

        Scores have 6 decimals, as all measured values of the metadata.
        """
        rows = corpus.metadata(record, ["key", "class_ids"]).to_pylist()
        targets = {row["key"]: targets_of(row) for row in rows}
        found: list[tuple[str, list[float]]] = []
        keys: list[str] = []
        images: list[np.ndarray] = []

        def flush() -> None:
            if not keys:
                return
            for key, row in zip(keys, self.probabilities(images), strict=True):
                scores = [round(float(row[self._places[i]]), 6) for i in targets[key]]
                found.append((key, scores))
            keys.clear()
            images.clear()

        for key, members in corpus.read(record):
            keys.append(key)
            images.append(decode_jpeg(members[IMAGE], name=f"the image of sample {key}"))
            if len(keys) == BATCH_SIZE:
                flush()
        flush()
        return found


def class_texts(classes: ClassSet) -> list[tuple[str, str]]:
    """Two texts for every class, by id: it is in the picture, and it is not.

    Of VOC's they are the notebook's, which has no other article than "a".
    """
    if is_default(classes):
        names = [f"a {_NAMES.get(entry.name, entry.phrase)}" for entry in classes.classes]
    else:
        names = [entry.with_article for entry in classes.classes]
    return [(name, f"not {name}") for name in names]
