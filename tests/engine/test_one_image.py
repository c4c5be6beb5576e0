import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import build_config
from ovamgen.engine import one_image as drawing
from ovamgen.engine.one_image import attribute
from ovamgen.errors import ConfigError, MethodError
from tests.golden.reference import DAAM_FILE, OVAM_FILE, TINY_SD, reference

PROMPT = "a photograph of a cat"


def config(branch="auto", method="ovam", masks=None, **synthesis):
    return build_config(
        {
            "model": {"id": str(TINY_SD), "device": "cpu"},
            "synthesis": {"steps": 1, "height": 64, "width": 128} | synthesis,
            "attribution": {"branch": branch, "method": method},
            "masks": masks or {},
            "runtime": {"cpu_threads": 1},
        }
    )


def read(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def bank(width=24):
    draws = np.random.default_rng(0)
    return TokenBank(
        class_names=("cat", "dog"), pairs=draws.normal(size=(2, 2, width)).astype(np.float32)
    )


@pytest.mark.parametrize("branch", ["unconditional", "conditional"])
def test_golden_reference(tmp_path, branch):
    """The published library's arrays from its own latents and pairs."""
    golden = reference(OVAM_FILE)
    done = attribute(
        config(branch, steps=5, height=None, width=None),
        prompt=PROMPT,
        out=tmp_path / "maps.npz",
        latents=OVAM_FILE,
        texts=[PROMPT, "cat"],
        token_pairs=OVAM_FILE,
    )
    arrays = read(tmp_path / "maps.npz")
    assert {name: array.shape for name, array in arrays.items()} == done.shapes
    assert sorted(arrays) == ["image", "text_0", "text_1", "token_pairs"]
    assert done.maximum == 6 * 4 * 15
    for ours, theirs in [
        ("image", "image"),
        ("text_0", f"{branch}/text_prompt"),
        ("text_1", f"{branch}/text_word"),
        ("token_pairs", f"{branch}/token_pairs"),
    ]:
        assert arrays[ours].dtype == np.float32
        np.testing.assert_allclose(
            arrays[ours], golden[theirs], rtol=0, atol=1e-4 * np.abs(golden[theirs]).max()
        )


def test_pairs_beside_the_latents_are_used(tmp_path):
    settings = config(height=None, width=None)
    done = attribute(settings, prompt="a cat", out=tmp_path / "a.npz", latents=OVAM_FILE)
    assert done.shapes == {"image": (128, 128, 3), "token_pairs": (3, 2, 16, 16)}


def test_bank_text_and_overlay(tmp_path, monkeypatch):
    drawn = []
    draw = Text.draw
    monkeypatch.setattr(
        Text, "draw", lambda self, *a, **k: (drawn.append(self.get_text()), draw(self, *a, **k))
    )
    bank().save(tmp_path / "bank.safetensors")
    done = attribute(
        config(),
        prompt="a $cat$ \U0001f408",
        out=tmp_path / "maps.npz",
        seed=3,
        texts=["dog"],
        tokens=tmp_path / "bank.safetensors",
        overlay=tmp_path / "maps.png",
    )
    arrays = read(tmp_path / "maps.npz")
    assert arrays["bank"].shape == (2, 2, 8, 16)
    assert arrays["bank_classes"].tolist() == ["cat", "dog"]
    np.testing.assert_allclose(arrays["bank"].sum(1), done.maximum, rtol=1e-5)
    np.testing.assert_allclose(arrays["text_0"].sum(0), done.maximum, rtol=1e-5)
    assert done.overlay == tmp_path / "maps.png"
    assert {"image", "lowest", "highest"} <= set(drawn), "the colours are explained"
    with Image.open(tmp_path / "maps.png") as picture:
        picture.load()
        assert picture.width > picture.height > 200
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bank.safetensors",
        "maps.npz",
        "maps.png",
    ]
    assert "text_0" in "\n".join(done.lines())


def test_the_prompt_is_attributed_where_nothing_is_asked(tmp_path):
    done = attribute(config(), prompt="a cat", out=tmp_path / "maps.npz")
    assert done.shapes == {"image": (64, 128, 3), "text_0": (4, 8, 16)}


def test_equal_calls_write_equal_bytes_and_the_seed_counts(tmp_path):
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        attribute(config(), prompt="a cat", out=tmp_path / f"{name}.npz", seed=seed)
        contents.append((tmp_path / f"{name}.npz").read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.slow  # tests/attribution/test_daam.py has the same numbers
def test_daam_is_the_published_heat_map(tmp_path):
    """The published library's global heat map from its own latents."""
    golden = reference(DAAM_FILE)
    done = attribute(
        config(method="daam", steps=4, height=None, width=None),
        prompt=PROMPT,
        out=tmp_path / "maps.npz",
        latents=DAAM_FILE,
        texts=[PROMPT],
    )
    arrays = read(tmp_path / "maps.npz")
    assert arrays["text_0"].shape == (7, 64, 64)
    assert arrays["text_0"].dtype == np.float32
    np.testing.assert_allclose(
        arrays["text_0"], golden["heat_maps"], rtol=0, atol=1e-4 * golden["heat_maps"].max()
    )
    assert done.maximum == 5
    assert "sums over 5 UNet calls, means over heads and layers" in done.lines()[0]


def test_daam_takes_the_prompt_and_the_classes_that_it_names(tmp_path):
    settings, out = config(method="daam"), tmp_path / "maps.npz"
    bank().save(tmp_path / "bank.safetensors")
    given = {"prompt": "a cat", "out": out, "tokens": tmp_path / "bank.safetensors"}
    attribute(settings, **given, texts=["A cat"], overlay=tmp_path / "maps.png")
    arrays = read(out)
    assert arrays["text_0"].shape == (4, 8, 16)
    assert arrays["bank"].shape == (1, 1, 8, 16)
    assert arrays["bank_classes"].tolist() == ["cat"]
    assert (arrays["bank"][0, 0] != arrays["text_0"][2]).any()
    # pairs that only lie beside the latents are left alone
    sized = config(method="daam", height=None, width=None)
    attribute(sized, prompt="a cat", out=out, latents=OVAM_FILE)
    assert sorted(read(out)) == ["image", "text_0"]
    out.unlink()
    for options, reason in [
        ({"texts": ["cat"]}, "--text must be the prompt itself"),
        ({"token_pairs": OVAM_FILE}, "give a bank"),
        ({"prompt": "a horse"}, "'cat or dog' is not in the prompt 'a horse'"),
    ]:
        with pytest.raises(MethodError, match=reason):
            attribute(settings, **given | options)
    assert not out.exists()


def test_other_methods(tmp_path):
    arrays = {}
    for method in ("ovam", "daam-ovam", "attn2mask"):
        done = attribute(
            config(method=method, steps=2),
            prompt="a cat",
            out=tmp_path / "maps.npz",
            texts=["cat"],
            token_pairs=OVAM_FILE,
        )
        arrays[method] = read(tmp_path / "maps.npz")
    for name, array in arrays["ovam"].items():
        np.testing.assert_array_equal(array, arrays["daam-ovam"][name])
        assert array.shape == arrays["attn2mask"][name].shape
    assert done.maximum == 4 * 15
    assert "UNet call 0 (timestep 501) alone" in done.lines()[0]
    np.testing.assert_allclose(arrays["attn2mask"]["text_0"].sum(0), 60, rtol=1e-5)
    np.testing.assert_allclose(arrays["attn2mask"]["token_pairs"].sum(1), 60, rtol=1e-5)


@pytest.mark.parametrize("kind", ["constant", "received", "affinity", "iterated"])
def test_self_attention(tmp_path, kind):
    out, made = tmp_path / "maps.npz", []
    for masks in ({}, {"self_attention": kind, "self_attention_low": 0.5}):
        done = attribute(config(masks=masks), prompt="a cat", out=out)
        made.append((done, read(out)))
    plain, refined = made
    assert (plain[1]["image"] == refined[1]["image"]).all()
    same = (plain[1]["text_0"] == refined[1]["text_0"]).all()
    matrix = kind in ("affinity", "iterated")
    assert same == (not matrix)
    if kind != "iterated":
        # rounds of iteration keep the peaks of maps and not their sum
        total = refined[1]["text_0"].sum(0)
        np.testing.assert_allclose(total, refined[0].maximum, rtol=1e-5)
    if matrix:
        assert "self_attention" not in refined[1]
    else:
        factor = refined[1]["self_attention"]
        assert factor.shape == (8, 16)
        expected = (0.5, 1.0) if kind == "received" else (0.5, 0.5)
        assert (factor.min(), factor.max()) == pytest.approx(expected)


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "given.npz", **arrays)
    return tmp_path / "given.npz"


NOISE = np.zeros((1, 4, 8, 16), np.float32)


@pytest.mark.parametrize(
    ("option", "arrays", "reason"),
    [
        ("latents", {"noise": NOISE}, "must hold the array 'latents', got noise"),
        ("latents", {"latents": NOISE[0]}, r"shape \(1, any, any, any\), got float32 \(4, 8, 16\)"),
        ("latents", {"latents": NOISE[:, :3]}, "latents must have 4 channels, got 3"),
        ("latents", {"latents": NOISE.astype(int)}, "must be floats"),
        ("latents", {"latents": NOISE + np.nan}, "must be finite"),
        ("latents", {"latents": NOISE.mT.copy()}, "height of 128 pixels, but 64 was asked for"),
        ("latents", {"latents": np.array([NOISE, None], object)}, "cannot be read"),
        ("token_pairs", {"pairs": NOISE}, "must hold the array 'token_pairs', got pairs"),
        ("token_pairs", {"token_pairs": np.zeros((2, 3, 24))}, r"\(any, 2, any\)"),
        ("token_pairs", {"token_pairs": np.zeros((0, 2, 24))}, r"\(any, 2, any\)"),
        ("token_pairs", {"token_pairs": np.zeros((1, 2, 768))}, "width 24 .* got 768"),
    ],
)
def test_files_that_do_not_fit(tmp_path, option, arrays, reason):
    given = npz(tmp_path, **arrays)
    with pytest.raises(ConfigError, match=reason):
        attribute(config(), prompt="a cat", out=tmp_path / "maps.npz", **{option: given})
    assert not (tmp_path / "maps.npz").exists()


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 not a zip", b"text", "npy"])
@pytest.mark.parametrize("option", ["latents", "token_pairs"])
def test_files_that_are_no_npz(tmp_path, option, content):
    path = tmp_path / "given.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, NOISE)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"given.npz (must be an .npz|does not exist)"):
        attribute(config(), prompt="a cat", out=tmp_path / "maps.npz", **{option: path})


def test_what_else_is_wrong(tmp_path):
    out = tmp_path / "maps.npz"
    bank(768).save(tmp_path / "bank.safetensors")
    with pytest.raises(ConfigError, match="rows of width 768"):
        attribute(config(), prompt="a cat", out=out, tokens=tmp_path / "bank.safetensors")
    with pytest.raises(MethodError, match="75 tokens"):
        attribute(config(), prompt="a cat", out=out, texts=["a " * 80])
    with pytest.raises(MethodError, match="'attn2msk': did you mean 'attn2mask'"):
        attribute(config(method="attn2msk"), prompt="a cat", out=out)
    with pytest.raises(ConfigError, match="seed must be in"):
        attribute(config(), prompt="a cat", out=out, seed=-1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("option", ["out", "overlay"])
@pytest.mark.parametrize("place", ["missing/maps.npz", "file/maps.npz", "folder"])
def test_a_place_that_cannot_be_written_is_found_before_anything_is_loaded(
    tmp_path, monkeypatch, option, place
):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(drawing, "load_pipeline", None)
    places = {"out": tmp_path / "maps.npz", option: tmp_path / place}
    with pytest.raises(ConfigError, match=f"{place} cannot be written"):
        attribute(config(), prompt="a cat", **places)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
