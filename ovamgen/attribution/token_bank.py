"""Token banks: the rows that stand for each class, as safetensors with their provenance.

numpy only; where the rows come from (the authors' file, an optimiser, the text encoder itself) is
said in the bank and decided elsewhere. No pickle is ever read here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ovamgen.bounds import MAX_TOKENS_BYTES
from ovamgen.classes.class_entry import ClassEntry
from ovamgen.config import SHIPPED, RunConfig, bank_file, canonical_json, lacks
from ovamgen.config.token_source import Missing
from ovamgen.console.wording import listed
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_files import NotPlainError, check_given
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.reading import read_file
from ovamgen.storage.retrying import RemoteError
from ovamgen.storage.urls import check_no_credentials
from ovamgen.storage.whole_files import write_whole

FORMAT = "ovamgen-token-bank-1"
TAU = "tau"
"""The entry of the provenance that names the threshold."""
TAU_FROM = "tau_from"
"""The entry that says where it is from."""
_METADATA_KEY = "ovamgen"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TokenBank:
    """K classes as pairs of rows [background, class] of one text encoder (methods 2.4)."""

    class_names: tuple[str, ...]
    pairs: Float32[np.ndarray, "K 2 ctx"]
    provenance: dict[str, str] = field(default_factory=dict)
    """What the rows are and where they are from; text by name."""
    source: str = "this token bank"
    """The file it was read from, for messages."""
    rows_alone: bool = False
    """Its file has class rows alone: the background rows are zero here until `paired_with`."""

    def __post_init__(self) -> None:
        """Refuses banks that cannot be used.

        Raises:
            ConfigError: names and pairs do not fit, a name stands twice, or a number is not finite.
        """
        names = self.class_names
        if len(names) != len(self.pairs) or not names:
            raise ConfigError(
                f"{self.source} must name each of its {len(self.pairs)} pairs, got {len(names)} "
                "names"
            )
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ConfigError(f"{self.source} names {', '.join(twice)} more than once")
        if not np.isfinite(self.pairs).all():
            raise ConfigError(f"{self.source} holds numbers that are not finite: make it again")
        _ = self.tau

    @property
    def width(self) -> int:
        """Width of a row (ctx), that of the text encoder it was made for."""
        return self.pairs.shape[2]

    @property
    def tau(self) -> float | None:
        """The threshold that suits its maps, where it names one.

        Raises:
            ConfigError: what it names is no threshold.
        """
        if (text := self.provenance.get(TAU)) is None:
            return None
        try:
            return check_tau(float(text), self.source)
        except ValueError:
            return check_tau(math.nan, self.source)

    def paired_with(self, start_row: Float32[np.ndarray, " ctx"]) -> TokenBank:
        """The same with that background row, the constant `<SoT>` row of the model's text encoder.

        What the authors' tokens are paired with (methods 0.6).
        """
        pairs = self.pairs.copy()
        pairs[:, 0] = start_row
        return replace(self, pairs=pairs, rows_alone=False)

    def with_tau(self, tau: float, told: str) -> TokenBank:
        """The same with another threshold.

        Args:
            tau: between 0 and 1.
            told: where it is from, in words.
        """
        return replace(self, provenance=self.provenance | {TAU: f"{tau:g}", TAU_FROM: told})

    @property
    def sha256(self) -> str:
        """Digest (hex) of the names and the rows' numbers; provenance does not count."""
        digest = hashlib.sha256(canonical_json([self.class_names, self.pairs.shape]).encode())
        digest.update(np.ascontiguousarray(self.pairs, "<f4").tobytes())
        return digest.hexdigest()

    def check_width(self, width: int, model: str = "the model") -> None:
        """Checks that the rows fit a text encoder of that width.

        Raises:
            ConfigError: they do not; both widths and both names are given.
        """
        if width != self.width:
            raise ConfigError(
                f"{self.source} has rows of width {self.width}, but {model} takes rows of width "
                f"{width}: use a bank made for that model, or tokens 'words'"
            )

    def select(self, names: Sequence[str]) -> Float32[np.ndarray, "K 2 ctx"]:
        """The pairs of these names, in this order.

        Raises:
            ConfigError: the bank lacks one of them, or has class rows alone.
        """
        if self.rows_alone:
            raise ConfigError(
                f"{self.source} has class rows alone, which a model's text encoder completes"
            )
        missing = [name for name in names if name not in self.class_names]
        if missing:
            raise ConfigError(
                f"{self.source} lacks {', '.join(missing)} (it has {', '.join(self.class_names)}): "
                "use a bank of all classes, or tokens 'words'"
            )
        return self.pairs[[self.class_names.index(name) for name in names]]

    def to_bytes(self) -> bytes:
        """The bank as a safetensors file; equal banks give equal bytes."""
        description = {
            "format": FORMAT,
            "classes": list(self.class_names),
            "provenance": self.provenance,
        }
        # one entry: safetensors writes several in an order that changes from process to process
        metadata = {_METADATA_KEY: canonical_json(description)}
        name, rows = ("rows", self.pairs[:, 1]) if self.rows_alone else ("pairs", self.pairs)
        return save_tensors({name: np.ascontiguousarray(rows, np.float32)}, metadata)

    def save(self, path: str | Path) -> None:
        """Writes the bank; the file is there whole or not at all.

        Raises:
            ConfigError: the place cannot be written.
        """
        write_whole(Path(path), self.to_bytes(), name=f"token bank {path}")

    @classmethod
    def load(cls, path: str | Path) -> TokenBank:
        """The bank in a safetensors file, local or at an fsspec URL; or a shipped one by its name.

        Raises:
            ConfigError: no such file, or it is no token bank; a pickle is named and refused.
        """
        check_no_credentials(str(path))
        name = f"token bank {path}"
        place = bank_file(str(path))
        data = _read(place, name)
        try:
            tensors = load_tensors(data)
            header = load_plain_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
            described = load_plain_json(header["__metadata__"][_METADATA_KEY])
            if described["format"] != FORMAT:
                raise ConfigError(f"{name}: format {FORMAT} expected, got {described['format']}")
            names = tuple(str(entry) for entry in described["classes"])
            provenance = {str(key): str(value) for key, value in described["provenance"].items()}
            for shipped in SHIPPED.values():
                if place == str(shipped.file):
                    provenance.setdefault(TAU, str(shipped.tau))
            rows_alone = "rows" in tensors
            if rows_alone:
                # each behind a background row that the model's text encoder is to give
                rows = tensors["rows"]
                pairs = np.stack([np.zeros_like(rows), rows], axis=1)
            else:
                pairs = tensors["pairs"]
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            if kind := _foreign_kind(data):
                raise ConfigError(f"{name}: safetensors expected, got {kind}") from None
            raise ConfigError(
                f"{name} is no token bank of ovamgen (safetensors with 'pairs' and a description "
                f"expected; {type(error).__name__}: {error}): make one with ovamgen tokens import"
            ) from None
        if pairs.ndim != 3 or pairs.shape[1] != 2 or pairs.dtype != np.float32:
            raise ConfigError(
                f"{name}: float32 pairs of shape (classes, 2, width) expected, got {pairs.dtype} "
                f"{pairs.shape}"
            )
        return cls(
            class_names=names,
            pairs=pairs,
            provenance=provenance,
            source=name,
            rows_alone=rows_alone,
        )


def check_tau(tau: float, source: str = "--tau") -> float:
    """The threshold.

    Raises:
        ConfigError: it is none.
    """
    if not 0 < tau < 1:
        raise ConfigError(f"{source} must name a threshold between 0 and 1, got {tau:g}")
    return tau


def open_bank(config: RunConfig, *, width: int | None = None) -> tuple[RunConfig, TokenBank | None]:
    """The bank of a configuration, and the configuration with the thresholds that it decides.

    Without a bank (words, untrained pairs) there is none, and the configuration is as it was.

    Args:
        config: resolved, tokens chosen.
        width: of the rows that the model takes, where that is known.

    Raises:
        ConfigError: as `TokenBank.load`, or the bank is of another width.
    """
    source = config.attribution.token_source
    if source.file is None:
        return config, None
    bank = TokenBank.load(source.name)
    if width is not None:
        bank.check_width(width, config.model.id)
    lacking = lacks(bank.class_names, config.classes.classes)
    by_words = lacking if config.attribution.missing == "words" else ()
    try:
        return config.with_bank(bank.tau, by_words), bank
    except ValueError as error:
        raise ConfigError(str(error)) from None


def check_covers(bank: TokenBank, classes: Iterable[ClassEntry], missing: Missing) -> None:
    """Checks that a bank has all of these classes, or that words may stand for those it lacks.

    Raises:
        ConfigError: it lacks some, or has none of them.
    """
    entries = tuple(classes)
    lacking = lacks(bank.class_names, entries)
    if lacking and (missing == "refuse" or len(lacking) == len(entries)):
        advice = ", let words stand for those with --set attribution.missing=words"
        raise ConfigError(
            f"{bank.source} lacks {listed(lacking)} (it has {listed(bank.class_names)}): use a "
            f"bank of all classes{advice * (len(lacking) < len(entries))}, or tokens 'words'"
        )


def _read(path: str, name: str) -> bytes:
    try:
        check_given(path)
        data = read_file(path, lambda file: file.read(MAX_TOKENS_BYTES + 1))
    except NotPlainError as error:
        raise ConfigError(f"{name} cannot be read: {error}") from None
    except RemoteError as error:
        if error.failure.kind == "missing":
            raise ConfigError(
                f"{name} does not exist: give a .safetensors file, 'words' or 'untrained'"
            ) from None
        raise ConfigError(f"{name} cannot be read: {error.explanation}") from None
    if len(data) > MAX_TOKENS_BYTES:
        raise ConfigError(f"{name} is larger than {MAX_TOKENS_BYTES} bytes: not a token bank")
    return data


def _foreign_kind(data: bytes) -> str | None:
    """What a file is that could not be read as safetensors, and what to do about it."""
    if data.startswith(b"\x93NUMPY"):
        kind = "a numpy pickle" if b"|O" in data[:128] else "a plain numpy array"
        return f"{kind}; use ovamgen tokens import"
    if data.startswith(b"PK"):
        return "a zip archive (.npz, or a torch pickle); use ovamgen tokens import on an .npy"
    if data.startswith(b"\x80"):
        return "a pickle; use ovamgen tokens import on the authors' .npy"
    return None
