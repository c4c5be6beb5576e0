"""Where a training's pictures and first weights are from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ovamgen.errors import ConfigError
from ovamgen.pictures.example import Examples
from ovamgen.pictures.voc import VocFolder
from ovamgen.segmentor.examples import ShardExamples
from ovamgen.segmentor.network import segmentor_file
from ovamgen.segmentor.settings import TrainSettings


def open_sources(settings: TrainSettings) -> list[Examples]:
    """The shards, the real pictures, or both in this order.

    Raises:
        ConfigError: data that are not there or incomplete.
        ShardError: a damaged shard, or one without masks.
    """
    sources: list[Examples] = []
    if settings.shards:
        sources.append(ShardExamples(settings.shards, settings.source))
    if settings.real:
        sources.append(VocFolder.open(settings.real, settings.real_split))
    return sources


def source_digests(settings: TrainSettings, sources: list[Examples]) -> dict[str, str]:
    """SHA-256 of the data and of the first weights, under the names that messages use.

    Raises:
        ConfigError: the first weights cannot be read.
    """
    names = [name for name in ("shards", "real") if getattr(settings, name)]
    digests = {f"the data of --{n}": s.digest() for n, s in zip(names, sources, strict=True)}
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
