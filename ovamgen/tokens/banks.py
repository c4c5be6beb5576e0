"""Banks between people: imported, exported, merged, and shown as text; no pickle is written.

An exported ``.npz`` holds one float32 array (2, ctx) for each class under its name, and the
provenance as JSON text in ``_provenance``; an ``.npy`` one structured array with the fields
``name`` and ``pair``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ovamgen.attribution.token_bank import TAU, TAU_FROM, TokenBank, check_tau
from ovamgen.bounds import MAX_TOKENS_BYTES
from ovamgen.classes.loading import built_in
from ovamgen.config import TOKEN_TAU, ModelConfig, canonical_json
from ovamgen.diffusion.pipeline import check_model, load_pipeline
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import ConfigError
from ovamgen.records import ModelInfo
from ovamgen.storage.damaged_files import BROKEN_ARRAYS
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.whole_files import write_whole
from ovamgen.tokens.authors_tokens import import_authors_tokens

_SHOWN_DIGITS = 12
_PROVENANCE = "_provenance"
_MODEL_KEYS = ("model_digest", "text_encoder")


def import_tokens(
    path: str, model: ModelConfig, out: str, *, named: bool = True, tau: float | None = None
) -> TokenBank:
    """The bank of the authors' pickled tokens, or of plain arrays, saved as safetensors.

    The authors' file holds class rows alone; each is paired with the `<SoT>` row of the model's
    text encoder, and the bank's provenance says so (methods 0.6). Arrays that ``tokens export``
    wrote come back as the bank that they were.

    Args:
        path: ``tokens_VOC.npy``, read through an unpickler that admits numpy arrays alone, or an
            exported ``.npz`` or ``.npy``.
        model: whose text encoder the tokens were optimised for.
        out: the ``.safetensors`` file to write.
        named: the model was asked for; exported pairs need none, and are checked against it then.
        tau: the threshold that the bank is to name; where None, that of an export, and the
            published 0.8 for the authors' file.

    Raises:
        ConfigError: the file is no such file, or its rows are not as wide as the model's.
    """
    if Path(out).suffix != ".safetensors":
        raise ConfigError(f"--out must end in .safetensors, got {out}")
    if holds_plain_arrays(path):
        bank = read_plain_arrays(path)
        if tau is not None:
            bank = bank.with_tau(tau, "given")
        width = check_model(model).context_width if named else None
        if width is not None:
            bank.check_width(width, model.id)
        bank.save(out)
        return bank
    if tau is not None:
        check_tau(tau)
    loaded = load_pipeline(model)
    rows = PipelineAttention(loaded).encode("").rows
    info = loaded.info
    encoder = f"{info.model}@{info.revision}" if info.revision else info.model
    bank = import_authors_tokens(
        path,
        rows[0].float().cpu().numpy(),
        class_names=[entry.name for entry in built_in("voc").classes],
        text_encoder=encoder,
    )
    told = "published with the tokens" if tau is None else "given"
    bank = bank.with_tau(TOKEN_TAU if tau is None else tau, told)
    bank.save(out)
    return bank


def describe(bank: TokenBank, name: str) -> list[str]:
    """A bank as text for people: classes with the norms of their rows, and the provenance."""
    norms = np.linalg.norm(bank.pairs, axis=2)
    backgrounds = ["the model's"] * len(norms)
    if not bank.rows_alone:
        backgrounds = [f"{norm:.2f}" for norm in norms[:, 0]]
    text = [
        f"{name}: {len(bank.class_names)} classes, rows of width {bank.width}",
        f"  sha256 {bank.sha256}",
        f"  {'class':<14} {'background row':>15} {'class row':>10}   (norms)",
    ]
    text += [
        f"  {label:<14} {background:>15} {norm:>10.2f}"
        for label, background, norm in zip(bank.class_names, backgrounds, norms[:, 1], strict=True)
    ]
    return text + [f"  {key}: {value}" for key, value in sorted(bank.provenance.items())]


def model_notice(bank: TokenBank, info: ModelInfo) -> str | None:
    """A warning where the bank was made with other weights than the model's, else None.

    A bank that does not say what it was made with gives none.
    """
    digest = bank.provenance.get("model_digest")
    if digest in (None, info.digest):
        return None
    made_with = bank.provenance.get("model", "another model")
    return (
        f"WARNING: {bank.source} was made with {made_with} (weights {digest[:_SHOWN_DIGITS]}), not "
        f"with {info.model} (weights {info.digest[:_SHOWN_DIGITS]}): widths agree, but its maps "
        "may mean nothing"
    )


def export_bank(bank: TokenBank, out: str | Path) -> Path:
    """Writes the bank for programs that know numpy only; equal banks give equal bytes.

    Args:
        bank: any bank.
        out: a file that ends in ``.npz`` (classes and provenance) or ``.npy`` (classes alone).

    Raises:
        ConfigError: another suffix, class rows alone, or the place cannot be written.
    """
    path = Path(out)
    pairs = np.ascontiguousarray(bank.select(bank.class_names), "<f4")
    if path.suffix not in (".npz", ".npy"):
        raise ConfigError(f"--out must end in .npz or .npy, got {path}")

    def fill(file: BinaryIO) -> None:
        if path.suffix == ".npz":
            arrays: dict[str, Any] = dict(zip(bank.class_names, pairs, strict=True))
            arrays[_PROVENANCE] = np.array(canonical_json(bank.provenance))
            np.savez(file, allow_pickle=False, **arrays)
        else:
            np.save(file, _structured(bank, pairs), allow_pickle=False)

    write_whole(path, fill)
    return path


def holds_plain_arrays(path: str | Path) -> bool:
    """Whether a file is an ``.npz``, or an ``.npy`` of named pairs, rather than the authors'."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(512)
    except OSError:
        return False
    return start.startswith(b"PK") or (start.startswith(b"\x93NUMPY") and b"'pair'" in start)


def read_plain_arrays(path: str | Path) -> TokenBank:
    """The bank in a file of `export_bank`, or in any ``.npz`` of pairs under class names.

    Raises:
        ConfigError: the file is damaged, pickled, or holds something else than pairs.
    """
    name = f"token file {path}"
    provenance: dict[str, str] = {}
    try:
        if Path(path).stat().st_size > MAX_TOKENS_BYTES:
            raise ConfigError(f"{name} must be smaller than {MAX_TOKENS_BYTES} bytes")
        # opened here, since numpy leaves a file open where it is no archive
        with Path(path).open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile):
                with zipfile.ZipFile(path) as archive:
                    unpacked = sum(entry.file_size for entry in archive.infolist())
                if unpacked > MAX_TOKENS_BYTES:
                    raise ConfigError(
                        f"{name} must unpack to less than {MAX_TOKENS_BYTES} bytes, got {unpacked}"
                    )
                pairs = {key: content[key] for key in content.files if key != _PROVENANCE}
                if _PROVENANCE in content.files:
                    found = load_plain_json(str(content[_PROVENANCE]))
                    provenance = {str(key): str(value) for key, value in found.items()}
            else:
                pairs = {str(entry["name"]): entry["pair"] for entry in content}
    except BROKEN_ARRAYS as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} cannot be read as plain arrays: {reason}") from None
    except (KeyError, IndexError, AttributeError, zipfile.LargeZipFile) as error:
        raise ConfigError(f"{name} is damaged: {type(error).__name__}: {error}") from None
    shapes = {array.shape for array in pairs.values()}
    floats = all(array.dtype.kind == "f" for array in pairs.values())
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 2 or shape[0] != 2 or not floats:
        raise ConfigError(
            f"{name} must hold float arrays of one shape (2, width), [background row, class row], "
            f"each under its class's name, got shapes {sorted(shapes)}"
        )
    return TokenBank(
        class_names=tuple(pairs),
        pairs=np.stack(list(pairs.values())).astype(np.float32),
        provenance=provenance or {"origin": Path(path).name},
        source=f"the bank in {name}",
    )


def _structured(bank: TokenBank, pairs: np.ndarray) -> np.ndarray:
    length = max(len(name) for name in bank.class_names)
    kind = np.dtype([("name", f"<U{length}"), ("pair", "<f4", pairs.shape[1:])])
    array = np.empty(len(pairs), kind)
    array["name"], array["pair"] = bank.class_names, pairs
    return array


def merge_banks(first: TokenBank, second: TokenBank, prefer: str | None = None) -> TokenBank:
    """The classes of both, VOC classes in the order of their ids and others after them.

    Entries of the provenance that agree stay; of those that differ, what belongs to a class goes
    with it, and the rest is kept under ``first.`` and ``second.``. A threshold that only one of
    them names is that of the merged bank.

    Args:
        first: a bank.
        second: a bank of the same model.
        prefer: ``first`` or ``second``: whose pair a class gets that both have with other numbers.

    Raises:
        ConfigError: widths, models or thresholds differ, or a class has two pairs, and nothing is
            preferred.
    """
    if prefer not in (None, "first", "second"):
        raise ConfigError(f"--prefer must be first or second, got {prefer}")
    if first.width != second.width:
        raise ConfigError(
            f"banks of one model have rows of one width, but {first.source} has {first.width} and "
            f"{second.source} {second.width}: merge banks of the same model"
        )
    for key in _MODEL_KEYS:
        said = first.provenance.get(key), second.provenance.get(key)
        if None not in said and said[0] != said[1]:
            raise ConfigError(
                f"banks of one model are expected, but {key} is {said[0]} in {first.source} and "
                f"{said[1]} in {second.source}: merge banks of the same model"
            )
    mine = dict(zip(first.class_names, first.pairs, strict=True))
    theirs = dict(zip(second.class_names, second.pairs, strict=True))
    conflicts = [
        name for name in mine if name in theirs and not np.array_equal(mine[name], theirs[name])
    ]
    if conflicts and prefer is None:
        raise ConfigError(
            f"both banks have other rows for {', '.join(conflicts)}: say whose with --prefer first "
            "or --prefer second"
        )
    if None not in (first.tau, second.tau) and first.tau != second.tau and prefer is None:
        raise ConfigError(
            f"the banks name other thresholds, tau {first.tau} and {second.tau}: say whose with "
            "--prefer first or --prefer second"
        )
    winner = second if prefer == "second" else first
    merged = theirs | mine if winner is first else mine | theirs
    order = {entry.name: entry.id for entry in built_in("voc").classes}
    names = sorted(merged, key=lambda name: (order.get(name, len(order) + 1), name))
    return TokenBank(
        class_names=tuple(names),
        pairs=np.stack([merged[name] for name in names]),
        provenance=_provenance(first, second, winner),
        source="the merged bank",
    )


def _provenance(first: TokenBank, second: TokenBank, winner: TokenBank) -> dict[str, str]:
    found = {}
    for key in sorted(first.provenance.keys() | second.provenance.keys()):
        mine, theirs = first.provenance.get(key), second.provenance.get(key)
        if mine == theirs and mine is not None:
            found[key] = mine
        elif key.startswith("class "):
            name = key.removeprefix("class ")
            owner = winner if name in winner.class_names else None
            value = theirs if mine is None else mine
            value = value if owner is None else owner.provenance.get(key)
            if value is not None:
                found[key] = value
        else:
            found |= {
                f"{side}.{key}": value
                for side, value in (("first", mine), ("second", theirs))
                if value is not None
            }
    # a shared digest must stay findable where only one of the banks says it
    for key in _MODEL_KEYS:
        for side in ("first", "second"):
            if key not in found and f"{side}.{key}" in found:
                found[key] = found.pop(f"{side}.{key}")
    # a bank has one threshold: that of the preferred one, where both name one
    owner = next((bank for bank in (winner, first, second) if bank.tau is not None), winner)
    for key in (TAU, TAU_FROM):
        for name in (key, f"first.{key}", f"second.{key}"):
            found.pop(name, None)
        if key in owner.provenance:
            found[key] = owner.provenance[key]
    found["merged_from"] = f"{first.sha256} {second.sha256}"
    return found
