"""The cached training pictures: latents and caption tokens of many composites, on disk.

A cache is a function of its settings and the sprites; a digest of both names what it holds.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float16, Int16

from ovamgen.errors import ConfigError
from recipes.mini.composites import Composer, Composite
from recipes.mini.latents import CELLS, LatentSpace, fit_latent_space
from recipes.mini.sprites import Sprites, load_sprites
from recipes.mini.tokenizer import (
    MAX_LENGTH,
    build_tokenizer,
    scatter_unknown_words,
    tokenize,
)

Variety = Literal["core", "all"]
_CHUNK = 500
_PCA_IMAGES = 2000
_KEPT_LATENT_SPACE = Path(__file__).with_name("latent_space.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which pictures a model is trained on."""

    variety: Variety = "core"
    """``core``: three sprites a class, never mirrored, at most two side by side; ``all``: every
    training sprite, in scenes of one to three that overlap."""
    images: int = 60_000
    seed: int = 0
    two_object_share: float = 0.27
    three_object_share: float = 0.08
    """Of ``all`` only."""

    def composer(self, sprites: Sprites, *, held_out: bool = False) -> Composer:
        """The composer of these pictures, or of others like them that no cache holds."""
        core = self.variety == "core"
        return Composer(
            sprites=sprites,
            members=sprites.core() if core else sprites.of_split("train"),
            seed=self.seed + (1_000_003 if held_out else 0),
            two_object_share=self.two_object_share,
            three_object_share=0.0 if core else self.three_object_share,
            overlaps=not core,
            flips=not core,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A cache opened for reading."""

    latents: Float16[np.ndarray, "n channels 16 16"]
    """Mapped from disk."""
    tokens: Int16[np.ndarray, "n length"]
    digest: str
    """sha256 (hex) of settings, sprites and latent space."""

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.tokens)


def build_latent_space(
    sprites: Sprites,
    path: Path,
    *,
    refit_channels: int | None = None,
    kept: Path | None = None,
) -> LatentSpace:
    """The latent space in ``path``, put there first where there is none.

    The recipe keeps the one that the shipped weights were trained in, and `keep_weights` that of a
    run, so that they can be trained on whatever the sprites are by now; ``refit_channels`` fits
    one of so many channels to the composites of all training sprites instead, for networks that
    begin anew.
    """
    if not path.exists():
        if refit_channels is not None:
            composer = DataSettings(variety="all", seed=7).composer(sprites)
            images = np.stack([composer.compose(i).image for i in range(_PCA_IMAGES)])
            fit_latent_space(images, refit_channels).save(path)
        else:
            LatentSpace.load(kept or _KEPT_LATENT_SPACE).save(path)
    return LatentSpace.load(path)


def build_cache(
    folder: Path, settings: DataSettings, sprites_path: Path, space: LatentSpace, processes: int
) -> TrainingData:
    """The cache in ``folder``, made where it is missing or was made from something else."""
    sprites = load_sprites(sprites_path)
    digest = _digest(settings, sprites, space)
    if _recorded(folder) == digest:
        return open_cache(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "cache.json"
    record.unlink(missing_ok=True)
    # Removed, not overwritten: a training that has the old file mapped goes on reading that.
    (folder / "latents.npy").unlink(missing_ok=True)
    shape = (settings.images, space.channels, CELLS, CELLS)
    latents = np.lib.format.open_memmap(
        folder / "latents.npy", mode="w+", dtype=np.float16, shape=shape
    )
    captions: list[str] = []
    work = partial(_encode_chunk, settings, sprites_path, space)
    starts = range(0, settings.images, _CHUNK)
    with _mapper(processes) as imap:
        for start, (chunk, sentences) in zip(starts, imap(work, starts), strict=True):
            latents[start : start + len(chunk)] = chunk
            captions += sentences
    latents.flush()
    tokenizer = build_tokenizer()
    tokens = scatter_unknown_words(tokenizer, tokenize(tokenizer, captions), settings.seed)
    np.save(folder / "tokens.npy", tokens.astype(np.int16))
    record.write_text(json.dumps({"digest": digest, **asdict(settings)}, indent=2) + "\n")
    return open_cache(folder)


def open_cache(folder: Path) -> TrainingData:
    """The finished cache in the folder.

    Raises:
        ConfigError: there is none.
    """
    digest = _recorded(folder)
    if digest is None:
        raise ConfigError(f"{folder} must hold a finished cache, it does not: run 'data' first")
    return TrainingData(
        latents=np.load(folder / "latents.npy", mmap_mode="r"),
        tokens=np.load(folder / "tokens.npy"),
        digest=digest,
    )


def held_out(
    settings: DataSettings, sprites: Sprites, count: int, *, single: bool = False
) -> list[Composite]:
    """Composites of the same kind that are in no cache; with ``single``, of one object only."""
    if single:
        settings = replace(settings, two_object_share=0.0, three_object_share=0.0)
    composer = settings.composer(sprites, held_out=True)
    return [composer.compose(i) for i in range(count)]


def _encode_chunk(
    settings: DataSettings, sprites_path: Path, space: LatentSpace, start: int
) -> tuple[Float16[np.ndarray, "n channels 16 16"], list[str]]:
    composer = settings.composer(load_sprites(sprites_path))
    stop = min(start + _CHUNK, settings.images)
    composites = [composer.compose(i) for i in range(start, stop)]
    latents = space.encode(np.stack([composite.image for composite in composites]))
    return latents.astype(np.float16), [composite.caption for composite in composites]


@contextmanager
def _mapper(processes: int) -> Iterator[Any]:
    """A lazy ``map``: in this process for 0, else in others, the results in order."""
    if not processes:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield pool.imap


def _recorded(folder: Path) -> str | None:
    record = folder / "cache.json"
    return str(json.loads(record.read_text())["digest"]) if record.exists() else None


def _digest(settings: DataSettings, sprites: Sprites, space: LatentSpace) -> str:
    facts: dict[str, Any] = {
        **asdict(settings),
        "sprites": sprites.digest(),
        "basis": hashlib.sha256(space.basis.tobytes()).hexdigest(),
        "words": build_tokenizer().get_vocab(),
        "length": MAX_LENGTH,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
