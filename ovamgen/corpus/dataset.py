"""Finished shards as samples: a WebDataset pipeline for training, a strict reader for checks.

Masks are decoded by hand: the decoders that come with webdataset give other numbers for palette
images and divide by 255 for floats (conventions 3.2).
"""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
import webdataset as wds
from jaxtyping import Float32, Int64, UInt8
from webdataset.shardlists import expand_urls
from webdataset.tariterators import group_by_keys, url_opener
from webdataset.utils import pytorch_worker_info

from ovamgen.bounds import MAX_MEMBER_BYTES
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.view import Keys
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.arrays import decode_jpeg, decode_png
from ovamgen.shards.codec import IMAGE, MASK, DecodedSample, decode_sample
from ovamgen.shards.reader import read_tar
from ovamgen.storage.store import Store, open_store
from ovamgen.storage.tars import BROKEN_TAR, BoundedHeader
from ovamgen.storage.urls import STORES, scheme_of

Augment = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(image, mask) to (image, mask); both of the same height and width, the mask still of ids."""


def segmentation_dataset(
    urls: str | Sequence[str],
    *,
    shuffle: int = 0,
    seed: int = 0,
    augment: Augment | None = None,
    resampled: bool = False,
    dtype: Literal["float32", "uint8"] = "float32",
    source: str | None = None,
) -> Any:  # a DataPipeline; its bases are of old typing, which run-time checkers refuse
    """A `webdataset.DataPipeline` of (image, mask) pairs for `torch.utils.data.DataLoader`.

    Images are float32 (3, H, W) in [0, 1], or uint8 in [0, 255]; masks are int64 (H, W) with class
    ids (`Corpus.classes`), 0 background and 255 ignore, exact. Shards are divided between nodes,
    then between the workers of a node: every sample is seen once an epoch, whatever their number,
    but nodes and workers do not get equally many; where they must, use ``resampled`` with
    ``.with_epoch(n)``.

    Args:
        urls: the folder of a run (its finished shards) or of a view of one (`ovamgen select`), or
            tars: a list, or one string with braces such as ``train-{000000..000009}.tar``.
        shuffle: samples in the shuffle buffer; shards are shuffled too. 0 keeps the order.
        seed: of both shuffles. Workers that are started anew each epoch begin with the same order:
            use ``persistent_workers=True`` or another seed for each epoch.
        augment: applied to every pair, in the worker.
        resampled: shards are drawn with replacement, without end.
        dtype: of the images that ``augment`` and the caller get; ``uint8`` is a quarter of the
            bytes to collate and to copy to a GPU, and is divided by 255 there.
        source: of a view, the corpus that it is of; by default the one beside it.

    Raises:
        ConfigError: there is no shard, or another ``dtype``.
        ShardError: while it is read: a tar or a sample is damaged.
    """
    if dtype not in ("float32", "uint8"):
        raise ConfigError(f"dtype of images must be float32 or uint8, got {dtype!r}")
    tars, keys = _tar_urls(urls, source)
    if resampled:
        shards: list[Any] = [wds.ResampledShards(tars, seed=seed, deterministic=True)]
    else:
        shards = [
            wds.SimpleShardList(tars),
            wds.detshuffle(bufsize=len(tars), initial=len(tars), seed=seed) if shuffle else None,
            partial(_warn_of_idle_workers, len(tars)),
            wds.split_by_node,
            wds.split_by_worker,
        ]
    return wds.DataPipeline(
        *shards,
        partial(_samples, None if keys is None else partial(_is_kept, keys)),
        wds.detshuffle(bufsize=shuffle, initial=shuffle, seed=seed) if shuffle else None,
        wds.map(partial(_pair, augment=augment, dtype=dtype)),
    )


def read_samples(root: str, source: str | None = None) -> Iterator[DecodedSample]:
    """Every sample of the finished shards in a run's folder, or of a view, in order, checked.

    Args:
        root: the folder.
        source: of a view, the corpus that it is of; by default the one beside it.

    Raises:
        ConfigError: there is no finished shard.
        ShardError: a tar or a sample is damaged.
    """
    store, names, keys = _finished_tars(root, source)
    for name in names:
        with store.open(name) as file:
            for key, members in read_tar(file, name, keys):
                sample = decode_sample(members)
                if sample.key != key:
                    raise ShardError(f"{name}: sample {key} says that its key is {sample.key}")
                yield sample


def _tar_urls(urls: str | Sequence[str], source: str | None) -> tuple[list[str], Keys | None]:
    """The tars, and which keys of them count where not all do."""
    keys = None
    if not isinstance(urls, str):
        tars = list(urls)
    elif urls.endswith((".tar", ".tar.gz", ".tgz")):
        tars = expand_urls(urls)
    else:
        store, names, keys = _finished_tars(urls, source)
        tars = [f"{store.url}/{name}" for name in names]
    if not tars:
        raise ConfigError("expected at least one shard, got an empty list of urls")
    return tars, keys


def _finished_tars(root: str, source: str | None) -> tuple[Store, list[str], Keys | None]:
    corpus = open_corpus(root, partial=True, source=source)
    names = [record.name for record in corpus.records]
    return corpus.store, names, corpus.view.keys if corpus.view else None


def _is_kept(keys: Keys, name: str) -> bool:
    return name.partition(".")[0] in keys


def _samples(
    select: Callable[[str], bool] | None, source: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Tars to samples, as ``wds.tarfile_to_samples``, from object stores as well."""
    yield from group_by_keys(_files(select, _opened(source)), handler=_refuse)


def _files(
    select: Callable[[str], bool] | None, source: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Members as webdataset's expander gives them, which reads names and contents of any size."""
    for entry in source:
        try:
            with tarfile.open(fileobj=entry["stream"], mode="r|*", tarinfo=BoundedHeader) as tar:
                for header in tar:
                    name = header.name
                    if header.isreg() and (select is None or select(name)):
                        if header.size > MAX_MEMBER_BYTES:
                            raise ValueError(
                                f"a member of {header.size} bytes, at most {MAX_MEMBER_BYTES}"
                            )
                        file = tar.extractfile(header)
                        assert file is not None, "of a regular file there is a content"
                        yield {"fname": name, "data": file.read(), "__url__": entry["url"]}
                    tar.members.clear()  # type: ignore[attr-defined]  # or headers pile up
        except BROKEN_TAR as error:
            error.args = (*error.args, entry["url"])
            _refuse(error)
        # so that samples of two shards are not taken for one
        yield {}


def _opened(source: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in source:
        url = entry["url"]
        if scheme_of(url) in STORES:
            # webdataset would call a command line tool for these, or knows none
            folder, _, name = url.rpartition("/")
            with open_store(folder).open(name) as stream:
                yield {**entry, "stream": stream}
        else:
            for opened in url_opener([entry], handler=_refuse):
                # who reads it does not close it
                with opened["stream"]:
                    yield opened


def _refuse(error: Exception) -> bool:
    """What webdataset is to do about a tar that cannot be read: end, with the reason and no file.

    It appends the stream and the URL to the error's arguments.
    """
    for argument in error.args:
        if hasattr(argument, "close"):
            argument.close()
    told = [str(argument) for argument in error.args if not hasattr(argument, "close")]
    raise ShardError(f"a shard cannot be read: {type(error).__name__}: {': '.join(told)}") from None


def _warn_of_idle_workers(shards: int, source: Iterable[Any]) -> Iterator[Any]:
    rank, nodes, worker, workers = pytorch_worker_info()
    if shards < nodes * workers and rank == worker == 0:
        warnings.warn(
            f"{shards} shards for {nodes} nodes with {workers} workers each: "
            f"{nodes * workers - shards} workers get nothing; use fewer workers or smaller shards",
            stacklevel=2,
        )
    yield from source


def _pair(
    sample: dict[str, Any], augment: Augment | None, dtype: str
) -> tuple[
    Float32[torch.Tensor, "3 H W"] | UInt8[torch.Tensor, "3 H W"], Int64[torch.Tensor, "H W"]
]:
    name = f"{sample['__key__']} in {sample['__url__']}"
    for member in (IMAGE, MASK):
        if member not in sample:
            raise ShardError(f"sample {name} has no member {member}")
    pixels = decode_jpeg(sample[IMAGE], name=f"the image of sample {name}")
    labels = decode_png(sample[MASK], name=f"the mask of sample {name}")
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    if dtype == "float32":
        image = image.float().div_(255)
    mask = torch.from_numpy(labels).long()
    if augment is not None:
        image, mask = augment(image, mask)
    if mask.dtype != torch.int64 or mask.shape != image.shape[1:]:
        raise ShardError(
            f"sample {name}: expected an int64 mask of the image's height and width, got "
            f"{mask.dtype} {tuple(mask.shape)} for an image {tuple(image.shape)}: see to augment"
        )
    return image, mask
