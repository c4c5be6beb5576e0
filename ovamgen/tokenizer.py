"""Tokenizers of texts, as the planner and the text encoder need them: above all CLIP's.

Built from the merges that ship with the package, or read from a model's folder; it knows neither
torch nor transformers.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from ovamgen import mini
from ovamgen.bounds import MAX_TOKENIZER_BYTES
from ovamgen.errors import ConfigError
from ovamgen.storage.plain_files import read_given
from ovamgen.storage.plain_json import load_plain_json

CLIP_MAX_LENGTH = 77
"""Tokens that CLIP's text encoder reads, ``<SoT>`` and ``<EoT>`` among them."""

START = "<|startoftext|>"
END = "<|endoftext|>"

_NO_LIMIT = 2**20
"""transformers writes 1e30 where a model states no length; nothing real comes near this."""
_WORD_END = "</w>"
_WORDS = Regex(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary (49,408 entries, id by token) and its 48,894 merges in order of rank.

    The order of ids is OpenAI's: 256 byte symbols, the same at the end of a word, an entry for each
    merge, the two markers.
    """
    merges = list(_clip_merges())
    symbols = _byte_symbols()
    tokens = [*symbols, *(symbol + _WORD_END for symbol in symbols)]
    tokens += [left + right for left, right in merges]
    tokens += [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def clip_tokenizer() -> Tokenizer:
    """A new CLIP tokenizer: lower-cases, puts ``<SoT>`` and ``<EoT>`` around, cuts nothing off.

    Ids equal those of transformers' ``CLIPTokenizer``; offsets are characters of the text given.
    """
    vocabulary, merges = clip_vocabulary()
    return _build(vocabulary, merges)


def model_tokenizer(model_id: str) -> tuple[Tokenizer, int]:
    """The tokenizer of a model and the most tokens that its text encoder reads, markers included.

    Args:
        model_id: a local folder in diffusers format is read (``tokenizer/tokenizer.json``, or
            ``vocab.json`` with ``merges.txt``, and ``tokenizer_config.json``), as is that of the
            embedded ``mini``; anything else has CLIP's tokenizer and length, as all of Stable
            Diffusion 1.x has.

    Raises:
        ConfigError: the folder's tokenizer is incomplete, damaged or no byte-pair encoding.
    """
    # these two name no folder, even where the working directory holds one called "mini"
    folder = (mini.MODEL if model_id == mini.NAME else Path(model_id)) / "tokenizer"
    if not model_id or not folder.is_dir():
        return clip_tokenizer(), CLIP_MAX_LENGTH
    settings_file = folder / "tokenizer_config.json"
    settings = _read_json(settings_file) if settings_file.exists() else {}
    if tokenizer_kind(folder) == "WordLevel":
        return _read_words(folder / "tokenizer.json"), _max_length(settings, settings_file)
    vocabulary, merges, added = _read_model(folder)
    names = {
        name: _content(settings.get(f"{name}_token"), default, settings_file)
        for name, default in (("bos", START), ("eos", END), ("unk", END))
    }
    for token in added:
        vocabulary.setdefault(str(token["content"]), token["id"])
    missing = sorted({name for name in names.values() if name not in vocabulary})
    if missing:
        raise ConfigError(
            f"tokenizer {folder}: expected '{missing[0]}' in the vocabulary, but it is not there: "
            "save the tokenizer again with save_pretrained"
        )
    tokenizer = _build(vocabulary, merges, **names)
    tokenizer.add_tokens(
        [
            AddedToken(str(token["content"]), normalized=False, special=bool(token.get("special")))
            for token in added
            if token["content"] not in names.values()
        ]
    )
    return tokenizer, _max_length(settings, settings_file)


def last_token_index(tokenizer: Tokenizer, text: str, end_char: int) -> int:
    """Position of the last token that overlaps ``text[:end_char]``; 0, that of ``<SoT>``, if none.

    Args:
        tokenizer: one that marks the start of the text, as CLIP's does.
        text: at any length; nothing is cut off.
        end_char: characters of ``text``, exclusive.
    """
    encoding = tokenizer.encode(text)
    places = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    inside = [i for i, ((start, _), marker) in enumerate(places) if start < end_char and not marker]
    return inside[-1] if inside else 0


def _build(
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
    *,
    bos: str = START,
    eos: str = END,
    unk: str = END,
) -> Tokenizer:
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix=_WORD_END,
            unk_token=unk,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (eos, vocabulary[eos]), (bos, vocabulary[bos]), trim_offsets=False, add_prefix_space=False
    )
    markers = dict.fromkeys([bos, eos, unk])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in markers])
    return tokenizer


@functools.cache
def _clip_merges() -> tuple[tuple[str, str], ...]:
    packed = (resources.files("ovamgen") / "data" / "clip_merges.txt.gz").read_bytes()
    pairs = (line.split(" ") for line in gzip.decompress(packed).decode("utf-8").splitlines())
    return tuple((left, right) for left, right in pairs)


def _byte_symbols() -> list[str]:
    """A printable character for each byte: itself where it is one, else the next above 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(printable))
    return [chr(code) for code in printable] + [chr(256 + n) for n in range(others)]


def tokenizer_kind(folder: Path) -> str:
    """The kind of a tokenizer folder: ``BPE`` as CLIP's, or ``WordLevel``.

    Raises:
        ConfigError: the file cannot be read.
    """
    whole = folder / "tokenizer.json"
    model = _read_json(whole).get("model") if whole.exists() else None
    return str(model.get("type", "BPE")) if isinstance(model, Mapping) else "BPE"


def _read_words(file: Path) -> Tokenizer:
    """A tokenizer of whole words, as the embedded model has; the file says all of it."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing more special
        raise ConfigError(f"{file} cannot be read as a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_model(
    folder: Path,
) -> tuple[dict[str, int], list[tuple[str, str]], list[dict[str, Any]]]:
    """Vocabulary, merges and added tokens (by id) of a tokenizer's folder."""
    whole = folder / "tokenizer.json"
    if whole.exists():
        data = _read_json(whole)
        model = data.get("model")
        if not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
            raise ConfigError(f"{whole}: expected a BPE model as CLIP's, found something else")
        vocabulary = _checked_vocabulary(model.get("vocab"), whole)
        merges = _checked_merges(model.get("merges"), vocabulary, whole)
        return vocabulary, merges, _checked_added(data.get("added_tokens", []), whole)
    vocabulary = _checked_vocabulary(_read_json(folder / "vocab.json"), folder / "vocab.json")
    lines = _read_text(folder / "merges.txt").split("\n")
    kept = [line for line in lines if line and not line.startswith("#version")]
    return vocabulary, _checked_merges(kept, vocabulary, folder / "merges.txt"), []


def _checked_vocabulary(data: Any, file: Path) -> dict[str, int]:
    """The vocabulary, or ConfigError; `tokenizers` would raise a bare Exception later."""
    ids = data.values() if isinstance(data, dict) else ()
    if not ids or not all(type(index) is int and 0 <= index < 2**31 for index in ids):
        raise ConfigError(f"{file}: expected a vocabulary of ids by token, found none")
    return dict(data)


def _checked_merges(data: Any, vocabulary: Mapping[str, int], file: Path) -> list[tuple[str, str]]:
    """The merges as pairs, or ConfigError naming the first that the vocabulary does not hold."""
    if not isinstance(data, list):
        raise ConfigError(f"{file}: expected a list of merges, found a {type(data).__name__}")
    merges = []
    for rank, item in enumerate(data):
        parts = item.split(" ") if isinstance(item, str) else item
        known = (
            isinstance(parts, Sequence)
            and len(parts) == 2
            and all(isinstance(part, str) for part in parts)
            and all(part in vocabulary for part in (*parts, "".join(parts)))
        )
        if not known:
            raise ConfigError(
                f"{file}: merge {rank} is {item!r}, which the vocabulary does not hold: "
                "the two files are not of the same tokenizer"
            )
        merges.append((parts[0], parts[1]))
    return merges


def _checked_added(data: Any, file: Path) -> list[dict[str, Any]]:
    entries = data if isinstance(data, list) else [None]
    for entry in entries:
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("content"), str)
            and type(entry.get("id")) is int
            and 0 <= entry["id"] < 2**31
        ):
            raise ConfigError(f"{file}: expected added tokens with content and id, found {entry!r}")
    return sorted(entries, key=lambda entry: entry["id"])


def _content(value: Any, default: str, file: Path) -> str:
    """The text of a special token, which may be written as an object; the default if absent."""
    if isinstance(value, Mapping):
        value = value.get("content")
    if value is None:
        return default
    if not isinstance(value, str):
        raise ConfigError(f"{file}: expected a special token as text, found {value!r}")
    return value


def _max_length(settings: Mapping[str, Any], file: Path) -> int:
    length = settings.get("model_max_length", CLIP_MAX_LENGTH)
    if type(length) not in (int, float) or not length >= 3:
        raise ConfigError(f"{file}: expected model_max_length of at least 3, found {length!r}")
    return CLIP_MAX_LENGTH if length >= _NO_LIMIT else int(length)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = load_plain_json(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: expected a JSON object, found a {type(data).__name__}")
    return data


def _read_text(file: Path) -> str:
    try:
        return read_given(file, MAX_TOKENIZER_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{file} does not exist: a model's tokenizer is tokenizer.json, or vocab.json and "
            "merges.txt"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
