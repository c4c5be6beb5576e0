"""Banks merged, exported and imported again."""

import numpy as np
import pytest

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import ModelConfig
from ovamgen.errors import ConfigError
from ovamgen.tokens.banks import (
    export_bank,
    holds_plain_arrays,
    import_tokens,
    merge_banks,
    read_plain_arrays,
)
from tests.golden.reference import TINY_SD
from tests.voc import VOC_CLASSES


def bank(*names, seed=0, width=6, **provenance):
    pairs = np.random.default_rng(seed).normal(size=(len(names), 2, width)).astype(np.float32)
    described = {f"class {name}": f"of bank {seed}" for name in names}
    return TokenBank(
        class_names=names,
        pairs=pairs,
        provenance=described | provenance,
        source=f"bank {seed}",
    )


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_an_export_is_plain_and_comes_back(tmp_path, suffix):
    made = bank("cat", "diningtable", model="mini", preset="paper")
    path = export_bank(made, tmp_path / f"bank{suffix}")
    assert path.read_bytes() == export_bank(made, tmp_path / f"again{suffix}").read_bytes()
    content = np.load(path, allow_pickle=False)
    if suffix == ".npz":
        np.testing.assert_array_equal(content["diningtable"], made.pairs[1])
        content.close()
    else:
        assert content["name"].tolist() == ["cat", "diningtable"]
        np.testing.assert_array_equal(content["pair"], made.pairs)
    assert holds_plain_arrays(path)
    back = import_tokens(
        str(path), ModelConfig(id="mini"), str(tmp_path / "back.safetensors"), named=False
    )
    assert back.sha256 == made.sha256 == TokenBank.load(tmp_path / "back.safetensors").sha256
    if suffix == ".npz":
        assert back.provenance == made.provenance


def test_an_export_of_another_width_is_refused_for_a_named_model(tmp_path):
    path = export_bank(bank("cat"), tmp_path / "bank.npz")
    out = tmp_path / "bank.safetensors"
    with pytest.raises(ConfigError, match="rows of width 6, but random:sd15"):
        import_tokens(str(path), ModelConfig(id="random:sd15"), str(out))
    assert not out.exists()


def test_files_that_are_no_pairs(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.npz or \.npy"):
        export_bank(bank("cat"), tmp_path / "bank.txt")
    with pytest.raises(ConfigError, match="cannot be written"):
        export_bank(bank("cat"), tmp_path / "missing" / "bank.npz")
    for name, arrays, reason in (
        ("rows", {"cat": np.zeros(6)}, "shapes"),
        ("mixed", {"cat": np.zeros((2, 6)), "dog": np.zeros((2, 7))}, "shapes"),
        ("whole", {"cat": np.zeros((2, 6), int)}, "float arrays"),
        ("none", {}, "float arrays"),
        ("pickle", {"cat": np.array([{}], object)}, "cannot be read as plain arrays"),
        ("nan", {"cat": np.full((2, 6), np.nan)}, "not finite"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(ConfigError, match=reason):
            read_plain_arrays(tmp_path / f"{name}.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plain_arrays(tmp_path / "torn.npz")
    assert not holds_plain_arrays(tmp_path / "missing.npz")


def test_merged_banks_have_the_classes_of_both_in_voc_order():
    merged = merge_banks(bank("train", "cat", seed=1), bank("bird", "zebra", seed=2))
    assert merged.class_names == ("bird", "cat", "train", "zebra")
    np.testing.assert_array_equal(merged.select(["zebra"]), bank("bird", "zebra", seed=2).pairs[1:])
    assert merged.provenance["class bird"] == "of bank 2"
    assert merged.provenance["class cat"] == "of bank 1"


def test_conflicts_are_named_and_settled_by_preference():
    first, second = bank("cat", "dog", seed=1), bank("cat", "bird", seed=2)
    with pytest.raises(ConfigError, match="other rows for cat: say whose with --prefer"):
        merge_banks(first, second)
    for prefer, winner in (("first", first), ("second", second)):
        merged = merge_banks(first, second, prefer)
        np.testing.assert_array_equal(merged.select(["cat"]), winner.select(["cat"]))
        assert merged.provenance["class cat"] == winner.provenance["class cat"]
    with pytest.raises(ConfigError, match="--prefer must be first or second"):
        merge_banks(first, second, "third")
    # equal rows are no conflict
    assert merge_banks(first, first).sha256 == merge_banks(first, first, "second").sha256


def test_a_threshold_goes_with_its_bank(tmp_path):
    low, high, none = (bank(name, seed=seed) for seed, name in enumerate(("cat", "dog", "bird")))
    low, high = low.with_tau(0.55, "given"), high.with_tau(0.8, "published with the tokens")
    with pytest.raises(ConfigError, match=r"name other thresholds, tau 0.55 and 0.8: say whose"):
        merge_banks(low, high)
    for prefer, winner in (("first", low), ("second", high)):
        merged = merge_banks(low, high, prefer)
        assert merged.tau == winner.tau
        assert merged.provenance["tau_from"] == winner.provenance["tau_from"]
        assert not [name for name in merged.provenance if name.startswith(("first.t", "second.t"))]
    for merged in (merge_banks(low, none), merge_banks(none, low, "first")):
        assert merged.tau == 0.55
    assert merge_banks(none, none).tau is None
    back = import_tokens(
        str(export_bank(low, tmp_path / "low.npz")),
        ModelConfig(id="mini"),
        str(tmp_path / "back.safetensors"),
        named=False,
    )
    assert back.tau == 0.55
    assert (
        import_tokens(
            str(tmp_path / "low.npz"),
            ModelConfig(id="mini"),
            str(tmp_path / "other.safetensors"),
            named=False,
            tau=0.6,
        ).tau
        == 0.6
    )


def test_the_authors_tokens_name_the_published_threshold(tmp_path):
    rows = {voc.name: np.full(24, voc.id, np.float32) for voc in VOC_CLASSES}
    np.save(tmp_path / "tokens.npy", np.array(rows, dtype=object), allow_pickle=True)
    model = ModelConfig(id=str(TINY_SD), device="cpu")
    made = import_tokens(str(tmp_path / "tokens.npy"), model, str(tmp_path / "a.safetensors"))
    assert made.tau == 0.8
    with pytest.raises(ConfigError, match="--tau must name a threshold"):
        import_tokens(str(tmp_path / "tokens.npy"), model, str(tmp_path / "b.safetensors"), tau=2.0)


def test_banks_of_different_models_are_not_merged():
    with pytest.raises(ConfigError, match="rows of one width, but bank 1 has 6 and bank 2 7"):
        merge_banks(bank("cat", seed=1), bank("dog", seed=2, width=7))
    with pytest.raises(ConfigError, match="model_digest is aa in bank 1 and bb in bank 2"):
        merge_banks(bank("cat", seed=1, model_digest="aa"), bank("dog", seed=2, model_digest="bb"))


def test_what_differs_in_the_provenance_is_kept_for_both():
    merged = merge_banks(
        bank("cat", seed=1, preset="paper", model_digest="aa", model="mini"),
        bank("dog", seed=2, preset="released-code", model="mini"),
    )
    assert merged.provenance["first.preset"] == "paper"
    assert merged.provenance["second.preset"] == "released-code"
    assert merged.provenance["model"] == "mini"
    assert merged.provenance["model_digest"] == "aa"
