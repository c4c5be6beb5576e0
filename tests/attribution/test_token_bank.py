import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.errors import ConfigError
from ovamgen.mini import TOKENS, TOKENS_TAU


def bank(width=4, names=("cat", "dog"), **changes):
    pairs = np.arange(len(names) * 2 * width, dtype=np.float32).reshape(len(names), 2, width)
    return TokenBank(
        **{"class_names": names, "pairs": pairs, "provenance": {"b": "2", "a": "1"}} | changes
    )


def test_a_bank_survives_its_file(tmp_path):
    bank().save(tmp_path / "bank.safetensors")
    again = TokenBank.load(tmp_path / "bank.safetensors")
    assert again.class_names == ("cat", "dog")
    assert again.provenance == {"a": "1", "b": "2"}
    np.testing.assert_array_equal(again.pairs, bank().pairs)
    assert again.sha256 == bank().sha256
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]


def test_a_bank_names_its_threshold(tmp_path):
    assert bank().tau is None
    named = bank().with_tau(0.6, "given")
    named.save(tmp_path / "bank.safetensors")
    assert TokenBank.load(tmp_path / "bank.safetensors").tau == 0.6
    assert named.sha256 == bank().sha256
    for text in ("high", "1.0", "nan"):
        with pytest.raises(ConfigError, match="this token bank must name a threshold between 0"):
            bank(provenance={"tau": text})


def test_minis_bank_keeps_its_bytes_and_its_threshold():
    """Its digest is in the fingerprint of every corpus that was made with it."""
    digest = "06b35e04999ec7f544df3f2e661dbabc2e6aab8117e4f0083c183394c11cda36"
    assert hashlib.sha256(TOKENS.read_bytes()).hexdigest() == digest
    assert TokenBank.load("own").tau == TokenBank.load(TOKENS).tau == TOKENS_TAU == 0.55


@settings(max_examples=20, deadline=None)
@given(
    pairs=arrays(np.float32, (3, 2, 5), elements=st.floats(-99, 99, width=32)),
    provenance=st.dictionaries(st.text(), st.text(), max_size=4),
)
def test_any_bank_survives_its_bytes(tmp_path_factory, pairs, provenance):
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    made = TokenBank(class_names=("a", "b", "c"), pairs=pairs, provenance=provenance)
    path.write_bytes(made.to_bytes())
    again = TokenBank.load(path)
    np.testing.assert_array_equal(again.pairs, pairs)
    assert again.provenance == provenance
    assert again.to_bytes() == made.to_bytes()


def test_bytes_are_the_same_in_other_processes(repository):
    code = (
        "import hashlib, numpy as np; from ovamgen.attribution.token_bank import TokenBank; "
        "pairs = np.arange(16, dtype=np.float32).reshape(2, 2, 4); "
        "bank = TokenBank(class_names=('cat', 'dog'), pairs=pairs, provenance=dict(b='2', a='1')); "
        "print(hashlib.sha256(bank.to_bytes()).hexdigest())"
    )
    expected = hashlib.sha256(bank().to_bytes()).hexdigest()
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True
        )
        assert done.stdout.strip() == expected


def test_neither_torch_nor_diffusers_is_imported(repository):
    code = (
        "import sys, ovamgen.attribution.token_bank, ovamgen.tokens.authors_tokens; "
        "print(sorted({'torch', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True
    )
    assert done.stdout == "[]\n"


def test_the_digest_is_of_names_and_numbers():
    other = bank().pairs.copy()
    other[0, 0, 0] += 1
    digests = {
        bank().sha256,
        bank(names=("dog", "cat")).sha256,
        bank(pairs=other).sha256,
        bank(width=8).sha256,
    }
    assert len(digests) == 4
    assert bank(provenance={}).sha256 == bank().sha256


def test_widths_that_do_not_fit_name_both():
    bank().check_width(4)
    with pytest.raises(
        ConfigError, match=r"tokens.st has rows of width 4, but mini takes rows of width 32"
    ):
        bank(source="token bank tokens.st").check_width(32, "mini")


def test_select_orders_and_names_what_is_missing():
    np.testing.assert_array_equal(bank().select(["dog", "cat"]), bank().pairs[::-1])
    with pytest.raises(ConfigError, match="lacks train, bus"):
        bank().select(["cat", "train", "bus"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"names": ("cat", "cat")}, "names cat more than once"),
        ({"class_names": ("cat",)}, "each of its 2 pairs, got 1"),
        ({"pairs": np.full((2, 2, 4), np.nan, np.float32)}, "not finite"),
    ],
)
def test_banks_that_cannot_be_used(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        bank(**changes)


def npy(array, tmp_path):
    np.save(tmp_path / "array.npy", array, allow_pickle=True)
    return (tmp_path / "array.npy").read_bytes()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: npy(np.array({"cat": 1}), p), "got a numpy pickle; use ovamgen tokens import"),
        (lambda p: npy(np.zeros((2, 2)), p), "got a plain numpy array"),
        (lambda p: pickle.dumps({"cat": 1}, protocol=4), "got a pickle"),
        (lambda p: b"PK\x03\x04" + bytes(80), "got a zip archive"),
        (lambda p: b"", "no token bank of ovamgen"),
        (lambda p: b"hello, I am not a file of tensors", "no token bank of ovamgen"),
        (lambda p: save({"pairs": np.zeros((2, 2, 4), np.float32)}), "no token bank of ovamgen"),
        (lambda p: save({"x": np.zeros(1)}, {"ovamgen": "{}"}), "no token bank of ovamgen"),
        (lambda p: bank().to_bytes()[:-4], "no token bank of ovamgen"),
        (lambda p: bank().to_bytes().replace(b"bank-1", b"bank-9"), "format ovamgen-token-bank-1"),
    ],
)
def test_other_files_are_named_and_refused(tmp_path, make, reason):
    path = tmp_path / "bank.safetensors"
    path.write_bytes(make(tmp_path))
    with pytest.raises(ConfigError, match=reason) as caught:
        TokenBank.load(path)
    assert str(path) in str(caught.value)


def test_pairs_of_another_shape_are_refused(tmp_path):
    metadata = {"ovamgen": '{"classes":["a"],"format":"ovamgen-token-bank-1","provenance":{}}'}
    path = tmp_path / "bank.safetensors"
    for pairs in (
        np.zeros((1, 4), np.float32),
        np.zeros((1, 3, 4), np.float32),
        np.zeros((1, 2, 4)),
    ):
        path.write_bytes(save({"pairs": pairs}, metadata))
        with pytest.raises(ConfigError, match=r"\(classes, 2, width\) expected"):
            TokenBank.load(path)


def test_headers_of_any_length_are_told_from_pickles(tmp_path):
    """A safetensors file begins with its header's length: 384 looks like the start of a pickle."""
    path = tmp_path / "bank.safetensors"
    starts = set()
    for length in range(0, 400, 8):
        made = bank(provenance={"note": "x" * length})
        path.write_bytes(made.to_bytes())
        starts.add(made.to_bytes()[:1])
        assert TokenBank.load(path).provenance == made.provenance
    assert b"\x80" in starts


@pytest.mark.parametrize("path", ["nowhere.safetensors", "nosuchscheme://bank.safetensors"])
def test_places_that_are_not_there(path):
    with pytest.raises(ConfigError, match=path):
        TokenBank.load(path)


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        bank().save(tmp_path / "missing" / "bank.safetensors")
