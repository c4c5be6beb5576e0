"""One image and the raw heatmaps of any texts, pairs or banks, as an .npz for other programs.

For looking at what a token attends to, and for comparing numbers with other implementations:
nothing is normalised.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float32

from ovamgen.attribution.ovam import TextMaps
from ovamgen.attribution.overlay import Panel, write_overlay
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import RunConfig, SynthesisConfig
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine import PipelineAttention, use_repeatable_arithmetic
from ovamgen.errors import ConfigError

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What was written."""

    out: Path
    overlay: Path | None
    shapes: dict[str, tuple[int, ...]]
    """Shape of each array of the file, by name."""
    maximum: int
    """The largest value that a map could have: calls · heads, summed over the layers."""

    def lines(self) -> list[str]:
        """As text for people."""
        text = [f"{self.out} (maps are raw sums of at most {self.maximum})"]
        text += [f"  {name:<14} {shape}" for name, shape in self.shapes.items()]
        return text + ([str(self.overlay)] if self.overlay else [])


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Attribution matrices that end in one array of the file."""

    array: str
    labels: tuple[tuple[str | None, ...], ...]
    """For each matrix, a label for each of its rows; None where its map is not worth a picture."""
    matrices: tuple[Float32[torch.Tensor, "_ ctx"], ...]
    stacked: bool
    """Several matrices of equal length in one array, rather than one alone."""


def attribute(
    config: RunConfig,
    *,
    prompt: str,
    out: str | Path,
    seed: int = 0,
    texts: Sequence[str] = (),
    latents: str | Path | None = None,
    token_pairs: str | Path | None = None,
    tokens: str | Path | None = None,
    overlay: str | Path | None = None,
) -> Attributed:
    """Draws one image and writes its heatmaps: sums over calls, heads and layers (methods 2.2).

    The file holds float32 arrays: ``image`` (H, W, 3) in [0, 1]; for each text ``text_0``,
    ``text_1``, ... (L, h, w), rows of `<SoT>` and `<EoT>` included; ``token_pairs`` (N, 2, h, w);
    with a bank ``bank`` (K, 2, h, w) and the names ``bank_classes`` (K,). Where nothing is asked
    for, the prompt itself is ``text_0``.

    Args:
        config: the sections model, synthesis, attribution (its branch alone) and runtime count.
        prompt: the generation prompt.
        out: the ``.npz`` to write; it is there whole or not at all.
        seed: of the initial noise, where no latents are given.
        texts: attribution texts; they need not be in the prompt.
        latents: an ``.npz`` with ``latents`` (1, 4, h, w): noise to start from, and the image's
            size. Where it has ``token_pairs`` too and no other file is named, they are used.
        token_pairs: an ``.npz`` with ``token_pairs`` (N, 2, ctx): [background row, class row].
        tokens: a token bank, all of whose classes are attributed.
        overlay: a PNG to write, the image beside each map.

    Raises:
        ConfigError: a file that cannot be used, sizes or widths that do not fit, no such model.
        MethodError: a text that is too long.
        SampleError: the image is not finite.
    """
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be in [0, 2**63), got {seed}")
    noise = None if latents is None else _read_array(latents, "latents", (1, None, None, None))
    given = _given_pairs(latents, token_pairs)
    bank = None if tokens is None else TokenBank.load(tokens)
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    loaded = load_pipeline(config.model)
    settings = config.synthesis.model_copy(update={"safety": "off"})
    if noise is not None:
        settings = _sized_by(noise, settings, loaded)
    questions = _questions(loaded, prompt, texts, given, bank)
    synthesiser = Synthesiser(loaded, settings)
    sink = TextMaps(
        PipelineAttention(loaded).layers, [rows for q in questions for rows in q.matrices]
    )
    drawn = synthesiser.draw(
        [prompt],
        [seed],
        sink=sink,
        branch=config.attribution.branch,
        latents=None if noise is None else torch.from_numpy(noise),
    )
    if drawn.errors[0] is not None:
        raise drawn.errors[0]
    maps = iter([result[0].cpu().numpy() for result in sink.result()])
    arrays: dict[str, Any] = {"image": drawn.pixels[0]}
    panels: list[Panel] = []
    for question in questions:
        answers = [next(maps) for _ in question.matrices]
        arrays[question.array] = np.stack(answers) if question.stacked else answers[0]
        for labels, answer in zip(question.labels, answers, strict=True):
            shown = zip(labels, answer, strict=True)
            panels += [Panel(label, row) for label, row in shown if label is not None]
    if bank is not None:
        arrays["bank_classes"] = np.array(bank.class_names)
    _write(Path(out), lambda file: np.savez(file, **arrays))
    if overlay is not None:
        _write(
            Path(overlay),
            lambda file: write_overlay(file, prompt, drawn.pixels[0], panels, sink.sums.maximum),
        )
    return Attributed(
        out=Path(out),
        overlay=None if overlay is None else Path(overlay),
        shapes={name: array.shape for name, array in arrays.items()},
        maximum=sink.sums.maximum,
    )


def _questions(
    loaded: LoadedPipeline,
    prompt: str,
    texts: Sequence[str],
    pairs: Array | None,
    bank: TokenBank | None,
) -> list[_Question]:
    """All that is to be attributed, each matrix fitting the model's text width."""
    attention = PipelineAttention(loaded)
    width, model = loaded.info.context_width, loaded.info.model
    if not texts and pairs is None and bank is None:
        texts = [prompt]
    questions = []
    for index, text in enumerate(texts):
        encoded = attention.encode(text)
        labels = tuple(f"{index}: {word}" for word in encoded.words)
        questions.append(_Question(f"text_{index}", (labels,), (encoded.rows,), stacked=False))
    if pairs is not None:
        if pairs.shape[2] != width:
            raise ConfigError(
                f"token_pairs must have rows of width {width} for {model}, got {pairs.shape[2]}"
            )
        names = [f"pair {index}" for index in range(len(pairs))]
        questions.append(_pair_question("token_pairs", names, pairs, attention))
    if bank is not None:
        bank.check_width(width, model)
        questions.append(_pair_question("bank", bank.class_names, bank.pairs, attention))
    return questions


def _pair_question(
    array: str, names: Sequence[str], pairs: Array, attention: PipelineAttention
) -> _Question:
    rows = torch.tensor(pairs, device=attention.loaded.pipe.device)
    # the background's map is what the class's leaves over
    labels = tuple((None, name) for name in names)
    return _Question(array, labels, tuple(rows), stacked=True)


def _given_pairs(latents: str | Path | None, token_pairs: str | Path | None) -> Array | None:
    path = token_pairs
    if path is None and latents is not None and "token_pairs" in _array_names(latents):
        path = latents
    return None if path is None else _read_array(path, "token_pairs", (None, 2, None))


def _sized_by(noise: Array, settings: SynthesisConfig, loaded: LoadedPipeline) -> SynthesisConfig:
    """The settings with the image size that the latents have."""
    factor = loaded.info.vae_scale_factor
    channels = int(loaded.pipe.unet.config.in_channels)
    if noise.shape[1] != channels:
        raise ConfigError(f"latents must have {channels} channels, got {noise.shape[1]}")
    size = {"height": noise.shape[2] * factor, "width": noise.shape[3] * factor}
    for name, pixels in size.items():
        asked = getattr(settings, name)
        if asked not in (None, pixels):
            raise ConfigError(
                f"the latents are for a {name} of {pixels} pixels, but {asked} was asked for: "
                f"leave {name} away"
            )
    return settings.model_copy(update=size)


def _array_names(path: str | Path) -> list[str]:
    with _open_npz(path) as archive:
        return list(archive.files)


def _read_array(path: str | Path, name: str, shape: tuple[int | None, ...]) -> Array:
    """A float32 array of an .npz, of a shape with free sizes where None stands."""
    with _open_npz(path) as archive:
        if name not in archive.files:
            raise ConfigError(
                f"{path} must hold the array '{name}', got {', '.join(archive.files) or 'none'}"
            )
        try:
            array = archive[name]
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise ConfigError(f"'{name}' in {path} cannot be read: {error}") from None
    fits = len(array.shape) == len(shape) and all(
        size > 0 if wanted is None else size == wanted
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind != "f":
        wanted_shape = ", ".join("any" if size is None else str(size) for size in shape)
        raise ConfigError(
            f"'{name}' in {path} must be floats of shape ({wanted_shape}), got {array.dtype} "
            f"{array.shape}"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"'{name}' in {path} must be finite, got NaN or infinite numbers")
    return np.ascontiguousarray(array, np.float32)


@contextlib.contextmanager
def _open_npz(path: str | Path) -> Iterator[Any]:
    """The archive while it is open; numpy would leave the file open where it is no archive."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: give an .npz file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    with file:
        try:
            archive = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path} must be an .npz file: {reason}") from None
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ConfigError(f"{path} must be an .npz file of named arrays, got a single array")
        yield archive


def _write(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """A file that is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            fill(file)
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
