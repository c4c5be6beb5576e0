"""Banks from the outside: files of others made into banks, and a bank made into text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovamgen.attribution.token_bank import TokenBank, check_tau
from ovamgen.classes.voc import VOC_CLASSES
from ovamgen.config import TOKEN_TAU, ModelConfig
from ovamgen.diffusion.pipeline import check_model, load_pipeline
from ovamgen.engine.engine import PipelineAttention
from ovamgen.errors import ConfigError
from ovamgen.records import ModelInfo
from ovamgen.tokens.authors_tokens import import_authors_tokens
from ovamgen.tokens.export import holds_plain_arrays, read_plain_arrays

_SHOWN_DIGITS = 12


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
        class_names=[voc.name for voc in VOC_CLASSES],
        text_encoder=encoder,
    )
    told = "published with the tokens" if tau is None else "given"
    bank = bank.with_tau(TOKEN_TAU if tau is None else tau, told)
    bank.save(out)
    return bank


def describe(bank: TokenBank, name: str) -> list[str]:
    """A bank as text for people: classes with the norms of their rows, and the provenance."""
    norms = np.linalg.norm(bank.pairs, axis=2)
    text = [
        f"{name}: {len(bank.class_names)} classes, rows of width {bank.width}",
        f"  sha256 {bank.sha256}",
        f"  {'class':<14} {'background row':>15} {'class row':>10}   (norms)",
    ]
    text += [
        f"  {label:<14} {background:>15.2f} {row:>10.2f}"
        for label, (background, row) in zip(bank.class_names, norms, strict=True)
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
