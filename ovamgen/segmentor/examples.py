"""Where a training's pictures and first weights are from; a corpus's samples, read by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64
from webdataset.shardlists import expand_urls

from ovamgen.bounds import MAX_MEMBERS, MAX_SHARD_SIZE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import check_labels
from ovamgen.classes.loading import is_default
from ovamgen.corpus.open import classes_of, open_corpus, run_info_of
from ovamgen.corpus.view import Keys
from ovamgen.errors import ConfigError, ShardError
from ovamgen.pictures.example import Example, Examples
from ovamgen.pictures.voc import VocFolder
from ovamgen.segmentor.network import segmentor_file
from ovamgen.segmentor.settings import TrainSettings
from ovamgen.shards.arrays import decode_jpeg, decode_png
from ovamgen.shards.codec import IMAGE, MASK
from ovamgen.storage.store import Store, open_store
from ovamgen.storage.tars import plain_members


class ShardExamples:
    """The samples of a corpus, read by number out of its tars.

    The headers of all tars are read once, at the beginning; then a sample costs two short reads.
    """

    def __init__(self, urls: str, source: str | None = None) -> None:
        """Reads the headers of all tars.

        Args:
            urls: the folder of a run (its finished shards), of a view, or tars with braces.
            source: of a view, the corpus that it is of; by default the one beside it.

        Raises:
            ConfigError: there is no shard, or shards are of different classes.
            ShardError: a tar is damaged, or has a sample without a picture or a mask.
        """
        self._tars, kept, self.classes = _find_tars(urls, source)
        self._keys: list[str] = []
        places: list[tuple[int, ...]] = []
        for number, tar in enumerate(self._tars):
            for key, members in _members(tar.store, tar.name, tar.samples * MAX_MEMBERS):
                if kept is None or key in kept:
                    self._keys.append(key)
                    places.append((number, *members))
        if not places:
            raise ConfigError(f"the shards of {urls} must hold at least one sample, got none")
        # the tar's number, then first byte and length of the picture and of the mask
        self._places: Int64[np.ndarray, "N 5"] = np.array(places, np.int64)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._keys)

    def read(self, index: int) -> Example:
        """One sample.

        Raises:
            ShardError: it is damaged, or its mask is no label map of `classes`.
        """
        number, *members = self._places[index].tolist()
        tar = self._tars[number]
        contents = []
        with tar.store.open(tar.name) as file:
            for start, length in (members[:2], members[2:]):
                file.seek(start)
                contents.append(file.read(length))
        name = f"sample {self._keys[index]} in {tar.name}"
        image = decode_jpeg(contents[0], name=f"the image of {name}")
        height, width, _ = image.shape
        labels = decode_png(contents[1], size=(height, width), name=f"the mask of {name}")
        check_labels(labels, self.classes, f"the mask of {name}", ShardError)
        return Example(name=self._keys[index], image=image, labels=labels)

    def digest(self) -> str:
        """SHA-256 of the tars' names, and of the places and sizes of all members."""
        sums = hashlib.sha256("\n".join(tar.name for tar in self._tars).encode())
        sums.update("\n".join(self._keys).encode())
        sums.update(self._places.tobytes())
        return sums.hexdigest()


class _Tar(NamedTuple):
    store: Store
    name: str
    samples: int = MAX_SHARD_SIZE
    """Most samples that it may hold: those of its record, where it is of a corpus."""


def _find_tars(urls: str, source: str | None) -> tuple[list[_Tar], Keys | None, ClassSet]:
    """The tars, which keys of them count where not all do, the classes."""
    if urls.endswith((".tar.gz", ".tgz")):
        raise ConfigError(
            f"samples are read by number, which needs plain tars, got {urls}: unpack it with gunzip"
        )
    if urls.endswith(".tar"):
        split = [url.rpartition("/") for url in expand_urls(urls)]
        tars = [_Tar(open_store(folder or "."), name) for folder, _, name in split]
        if missing := [f"{t.store.url}/{t.name}" for t in tars if not t.store.exists(t.name)]:
            raise ConfigError(f"the shard {missing[0]} does not exist")
        # of tars that are elsewhere than their corpus nothing is known
        found = {tar.store.url: tar.store for tar in tars}.values()
        (first, classes), *others = [
            (store.url, classes_of(run_info_of(store), store.url)) for store in found
        ]
        for url, other in others:
            if other != classes:
                raise ConfigError(
                    f"shards to train on must be of the same classes: those in {first} are of "
                    f"{classes.identity}, those in {url} of {other.identity}"
                )
        return tars, None, classes
    corpus = open_corpus(urls, partial=True, source=source)
    tars = [_Tar(corpus.store, record.name, record.samples) for record in corpus.records]
    return tars, corpus.view.keys if corpus.view else None, corpus.classes


def _members(store: Store, name: str, most: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Every key with first byte and length of its picture and of its mask, by key."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with store.open(name) as file:
        for header in plain_members(file, f"{store.url}/{name}", most):
            key, _, extension = header.name.rpartition("/")[2].partition(".")
            found.setdefault(key, {})[extension] = (header.offset_data, header.size)
    for key, members in sorted(found.items()):
        for wanted, what in ((IMAGE, "picture"), (MASK, "mask")):
            if wanted not in members:
                raise ShardError(
                    f"{store.url}/{name}: sample {key} must have the member {wanted} (its {what}) "
                    f"for training, it has {', '.join(sorted(members))}"
                )
        yield key, (*members[IMAGE], *members[MASK])


def open_sources(settings: TrainSettings) -> tuple[list[Examples], ClassSet]:
    """The shards, the real pictures, or both in this order; and the classes of their labels.

    Raises:
        ConfigError: data that are not there or incomplete, or real pictures whose labels cannot
            tell the classes of the shards.
        ShardError: a damaged shard, or one without masks.
    """
    sources: list[Examples] = []
    classes: ClassSet | None = None
    if settings.shards:
        shards = ShardExamples(settings.shards, settings.source)
        sources.append(shards)
        classes = shards.classes
    if settings.real:
        real = VocFolder.open(settings.real, settings.real_split, classes)
        sources.append(real)
        classes = real.classes
    assert classes is not None, "the settings have one of the two"
    return sources, classes


def source_digests(
    settings: TrainSettings, sources: list[Examples], classes: ClassSet
) -> dict[str, str]:
    """SHA-256 of the data and of the first weights, under the names that messages use.

    And the set of the classes, where it is not the default one.

    Raises:
        ConfigError: the first weights cannot be read.
    """
    names = [name for name in ("shards", "real") if getattr(settings, name)]
    digests = {f"the data of --{n}": s.digest() for n, s in zip(names, sources, strict=True)}
    if not is_default(classes):
        digests["the classes"] = classes.identity
    files = {}
    if settings.backbone is not None:
        files["the backbone"] = Path(settings.backbone)
    if settings.init is not None:
        files["the weights of --init"] = segmentor_file(settings.init)
    for name, path in files.items():
        try:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"{name}, {path}, cannot be read: {error}") from None
    return digests
