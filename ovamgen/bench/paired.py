"""What a step costs beside the plain way to do it, both by turns in one process."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import webdataset as wds
from jaxtyping import Float32, UInt8
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from ovamgen.bench.timing import Spread, time_by_turns
from ovamgen.config import RunConfig
from ovamgen.corpus.dataset import segmentation_dataset
from ovamgen.masks.crf import dense_crf
from ovamgen.records import EncodedSample
from ovamgen.shards.arrays import encode_jpeg, encode_png
from ovamgen.shards.codec import IMAGE, MASK
from ovamgen.shards.writer import write_tar


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One step, by what it is compared with."""

    step: str
    beside: str
    ratio: Spread
    """Processor time of the step by that of the other, round by round."""


def paired(
    inputs: Sequence[tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "L H W"]]],
    config: RunConfig,
    rounds: int,
) -> list[Pair]:
    """Ratios of processor time: tar, JPEG and PNG, reading for a training, dense CRF.

    Args:
        inputs: images with their labels' probabilities.
        config: its quality of JPEG and its dense CRF, which need not be switched on.
        rounds: how often both sides are timed.
    """
    images = [image for image, _ in inputs]
    masks = [probabilities.argmax(axis=0).astype(np.uint8) for _, probabilities in inputs]
    quality, crf = config.shards.jpeg_quality, config.masks.crf
    full, half = (crf.model_copy(update={"half_resolution": on}) for on in (False, True))
    samples = [
        EncodedSample(
            key=f"{number:011d}",
            members=((IMAGE, encode_jpeg(image, quality)), (MASK, encode_png(mask))),
            metadata={},
            previews=(),
        )
        for number, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    with tempfile.TemporaryDirectory(prefix="ovamgen-bench-") as folder:
        ours, theirs = Path(folder, "ours.tar"), Path(folder, "theirs.tar")

        def read(dtype: str) -> Callable[[], object]:
            return lambda: list(segmentation_dataset([str(ours)], dtype=dtype))  # type: ignore[arg-type]  # both are allowed

        steps: Mapping[tuple[str, str], tuple[Callable[[], object], Callable[[], object]]] = {
            ("tar with sha256 and md5", "webdataset's TarWriter without"): (
                lambda: write_tar(ours, samples),
                lambda: _webdataset_tar(theirs, samples),
            ),
            ("tar with sha256 and md5", "webdataset's TarWriter, then both"): (
                lambda: write_tar(ours, samples),
                lambda: _digests(_webdataset_tar(theirs, samples)),
            ),
            ("jpg", "Pillow's save"): (
                lambda: [encode_jpeg(image, quality) for image in images],
                lambda: [_save(i, "JPEG", quality=quality, subsampling=0) for i in images],
            ),
            ("mask png", "Pillow's save"): (
                lambda: [encode_png(mask) for mask in masks],
                lambda: [_save(mask, "PNG") for mask in masks],
            ),
            ("dataset in uint8", "in float32"): (read("uint8"), read("float32")),
            ("dataset, with its checks", "webdataset and Pillow, without"): (
                read("uint8"),
                lambda: _webdataset_arrays(ours),
            ),
            ("dense CRF at half resolution", "at full"): (
                lambda: [dense_crf(*given, half) for given in inputs],
                lambda: [dense_crf(*given, full) for given in inputs],
            ),
        }
        found = []
        for (step, beside), (one, other) in steps.items():
            cpu = time_by_turns({"one": one, "other": other}, rounds).cpu
            ratio = Spread.of_ratios(cpu["one"], cpu["other"])
            found.append(Pair(step=step, beside=beside, ratio=ratio))
    return found


def _save(pixels: UInt8[np.ndarray, ...], kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


def _webdataset_tar(path: Path, samples: Sequence[EncodedSample]) -> Path:
    with path.open("wb") as file, wds.TarWriter(file, mtime=0) as tar:
        for sample in samples:
            tar.write({"__key__": sample.key, **dict(sample.members)})
    return path


def _webdataset_arrays(path: Path) -> None:
    with path.open("rb") as file:
        opened = [{"url": str(path), "stream": file}]
        for sample in group_by_keys(tar_file_expander(opened)):
            for name in (IMAGE, MASK):
                np.asarray(Image.open(io.BytesIO(sample[name])))


def _digests(path: Path) -> None:
    for kind in ("sha256", "md5"):
        with path.open("rb") as file:
            hashlib.file_digest(file, kind)
