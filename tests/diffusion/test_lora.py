"""LoRAs: fused as an independent sum has it, under every trainer's names, and what is refused."""

import copy
import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ovamgen.config import Lora, ModelConfig, SynthesisConfig, build_config, parse_overrides
from ovamgen.config.fingerprint import fingerprint, identity
from ovamgen.diffusion.families import FAMILIES
from ovamgen.diffusion.lora import FILE_IN_FOLDER
from ovamgen.diffusion.lora_fusing import fuse_loras, layers_of, module_of
from ovamgen.diffusion.pipeline import check_model, digest_weights, load_pipeline
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError
from ovamgen.run.inputs import inputs_of
from tests.command_line import ovamgen
from tests.diffusion.compvis import blocks_with_attention, unet_name
from tests.diffusion.small import small_pipeline

RANK, ALPHA = 4, 2
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
UNET_LAYERS = {
    f"{BLOCK}.attn1.to_q": (24, 24),
    f"{BLOCK}.attn2.to_k": (24, 32),
    f"{BLOCK}.attn2.to_out.0": (24, 24),
    f"{BLOCK}.ff.net.0.proj": (192, 24),
}
CONVOLUTION = "down_blocks.1.resnets.0.conv1"
TEXT_LAYERS = {
    "encoder.layers.0.self_attn.q_proj": (32, 32),
    "encoder.layers.0.self_attn.out_proj": (32, 32),
    "encoder.layers.1.mlp.fc1": (64, 32),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The miniature of 1.x in diffusers' format."""
    root = tmp_path_factory.mktemp("model")
    small_pipeline("sd15").save_pretrained(root)
    return root


def matrices(seed=0):
    """A and B of every layer, by component and name; a convolution of 3 x 3 among them."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(shape, generator=generator) / 8

    found = {("unet", n): (numbers(RANK, c), numbers(r, RANK)) for n, (r, c) in UNET_LAYERS.items()}
    found["unet", CONVOLUTION] = numbers(RANK, 24, 3, 3), numbers(24, RANK, 1, 1)
    texts = {n: (numbers(RANK, c), numbers(r, RANK)) for n, (r, c) in TEXT_LAYERS.items()}
    return found | {("text_encoder", name): pair for name, pair in texts.items()}


def kohya(layers, alpha=ALPHA):
    """As kohya-ss writes them: the layer's name with underscores, and alpha."""
    tensors = {}
    for (component, name), (down, up) in layers.items():
        start = "lora_unet_" if component == "unet" else "lora_te_text_model_"
        start += name.replace(".", "_")
        tensors |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up}
        # an integer where the user gave one
        tensors[f"{start}.alpha"] = torch.tensor(alpha)
    return tensors


def peft(layers):
    return {
        f"{component}.{'text_model.' * (component != 'unet')}{name}.lora_{letter}.weight": matrix
        for (component, name), pair in layers.items()
        for letter, matrix in zip("AB", pair, strict=True)
    }


def diffusers_names(layers):
    """As diffusers wrote them before PEFT."""
    tensors = {}
    for (component, name), pair in layers.items():
        inner, layer = "", "lora"
        if component != "unet":
            inner, layer = "text_model.", "lora_linear_layer"
        for way, matrix in zip(("down", "up"), pair, strict=True):
            tensors[f"{component}.{inner}{name}.{layer}.{way}.weight"] = matrix
    return tensors


def fused_by_hand(folder, new, layers, factor):
    """A copy of the folder with W + factor · B A, made with numpy and nothing of ovamgen."""
    shutil.copytree(folder, new)
    files = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
    for component, stem in files.items():
        path = new / component / f"{stem}.safetensors"
        tensors = load_file(path)
        for (owner, name), (down, up) in layers.items():
            if owner != component:
                continue
            (key,) = [k for k in tensors if k.removeprefix("text_model.") == f"{name}.weight"]
            weights = tensors[key].numpy().astype(np.float64)
            product = np.einsum(
                "or,ri->oi",
                up.flatten(1).numpy().astype(np.float64),
                down.flatten(1).numpy().astype(np.float64),
            )
            fused = weights + factor * product.reshape(weights.shape)
            tensors[key] = torch.from_numpy(fused.astype(np.float32))
        save_file(tensors, path, {"format": "pt"})
    return new


def load(folder, *loras, **changes):
    return load_pipeline(ModelConfig(id=str(folder), device="cpu", loras=loras, **changes))


def fused(*loras, name="sd15", dtype=None):
    """A copy of a miniature with the LoRAs in its weights."""
    pipe = copy.deepcopy(small_pipeline(name)).to(dtype)
    fuse_loras(pipe, build_config({"model": {"loras": list(loras)}}).model.loras)
    return pipe


def drawn(loaded):
    settings = SynthesisConfig(steps=1, height=64, width=64)
    return Synthesiser(loaded, settings).draw(["a cat"], [1]).images


def test_a_model_with_a_lora_is_the_folder_it_was_fused_into(folder, tmp_path):
    layers, path = matrices(), tmp_path / "style.safetensors"
    save_file(kohya(layers), path)
    ours = load(folder, {"path": str(path), "weight": 0.75})
    by_hand = load(fused_by_hand(folder, tmp_path / "fused", layers, 0.75 * ALPHA / RANK))
    plain = load(folder)
    assert ours.info.digest == by_hand.info.digest != plain.info.digest
    images = [drawn(one) for one in (ours, by_hand, plain)]
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).mean() > 0.05
    assert not any(p.requires_grad for p in ours.pipe.unet.parameters())


def test_every_trainers_names_are_read(tmp_path):
    """The same matrices: with alpha in tensors, with PEFT's settings, and with alpha = rank."""
    layers = matrices()
    path = tmp_path / FILE_IN_FOLDER
    save_file(kohya(layers, alpha=RANK), path)
    expected = digest_weights(fused(str(path)))
    for names in (peft, diffusers_names):
        save_file(names(layers), path)
        assert digest_weights(fused(str(tmp_path))) == expected, names
    settings = {"unet.lora_alpha": 2 * RANK, "text_encoder.lora_alpha": 2 * RANK}
    settings |= {"unet.alpha_pattern": {"attn2.to_k": RANK}}
    save_file(peft(layers), path, {"lora_adapter_metadata": json.dumps(settings)})
    pipe, known = fused({"path": str(path), "weight": 0.5}), small_pipeline("sd15")
    for name in UNET_LAYERS:
        down, up = layers["unet", name]
        change = pipe.unet.get_submodule(name).weight - known.unet.get_submodule(name).weight
        factor = 0.5 if name.endswith("attn2.to_k") else 1
        torch.testing.assert_close(change, factor * up @ down, atol=1e-6, rtol=1e-4)
    settings = {"unet.lora_alpha": RANK, "unet.use_rslora": True}
    save_file(peft(layers), path, {"lora_adapter_metadata": json.dumps(settings)})
    name = f"{BLOCK}.attn1.to_q"
    own = fused(str(path)).unet.get_submodule(name).weight
    down, up = layers["unet", name]
    change = own - known.unet.get_submodule(name).weight
    torch.testing.assert_close(change, math.sqrt(RANK) * up @ down, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_layer_is_found_under_every_trainers_name(family):
    """Those of kohya-ss are of diffusers for 1.x, and of the first release for XL."""
    pipe, checked = small_pipeline(family), 0
    with_attention = blocks_with_attention(pipe.unet)
    starts = {"text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
    for component in ("unet", *FAMILIES[type(pipe).__name__].text_encoders):
        for name, module in getattr(pipe, component).named_modules():
            if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                continue
            if component != "unet":
                inner = "" if name.startswith("text_") else "text_model."
                short = starts[component] + (inner + name).replace(".", "_")
            elif family == "sd15":
                short = "lora_unet_" + name.replace(".", "_")
            else:
                released = unet_name(f"{name}.weight", with_attention).removesuffix(".weight")
                short = "lora_unet_" + released.replace(".", "_")
            one = torch.zeros(1, 1)
            kohya = {f"{short}.lora_{way}.weight": one for way in ("down", "up")}
            kohya[f"{short}.alpha"] = one[0, 0]
            peft = {f"{component}.{name}.lora_{letter}.weight": one for letter in "AB"}
            for tensors in (kohya, peft):
                ((key, parts),) = layers_of(pipe, tensors).items()
                assert len(parts) == len(tensors)
                assert module_of(pipe, *key) is module, (name, key)
            checked += 1
    assert checked > 290


def sgm_name(name):
    """A layer of XL's UNet as kohya-ss knows it: by the first release's names."""
    released = unet_name(f"{name}.weight", set()).removesuffix(".weight")
    return released.replace(".", "_")


def test_loras_of_xl_reach_both_text_encoders(tmp_path):
    unet = "down_blocks.2.attentions.1.transformer_blocks.2.attn2.to_v"
    text = "text_model.encoder.layers.1.self_attn.k_proj"
    layers = {
        f"lora_unet_{sgm_name(unet)}": (32, 80),
        f"lora_te1_{text.replace('.', '_')}": (32, 32),
        f"lora_te2_{text.replace('.', '_')}": (48, 48),
    }
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, (rows, columns) in layers.items():
        tensors[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=generator)
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=generator)
    save_file(tensors, tmp_path / "a.safetensors")
    pipe, exact = fused(str(tmp_path / "a.safetensors"), name="sdxl"), small_pipeline("sdxl")
    changed = {}
    for part in ("unet", "text_encoder", "text_encoder_2", "vae"):
        other = getattr(exact, part).state_dict()
        for name, tensor in getattr(pipe, part).state_dict().items():
            if not torch.equal(tensor, other[name]):
                changed[part, name.removeprefix("text_model.")] = tensor - other[name]
    inner = text.removeprefix("text_model.")
    assert list(changed) == [
        ("unet", f"{unet}.weight"),
        ("text_encoder", f"{inner}.weight"),
        ("text_encoder_2", f"{inner}.weight"),
    ]
    for name, change in zip(layers, changed.values(), strict=True):
        product = tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"]
        torch.testing.assert_close(change, product, atol=1e-5, rtol=1e-4)


def test_halves_are_rounded_once_and_may_not_overflow(tmp_path):
    layers, path = matrices(), tmp_path / "a.safetensors"
    save_file({name: tensor.half() for name, tensor in kohya(layers).items()}, path)
    name = f"{BLOCK}.attn1.to_q"
    own = fused(str(path), dtype=torch.float16).unet.get_submodule(name).weight
    base = small_pipeline("sd15").unet.get_submodule(name).weight.half()
    down, up = (one.half().double() for one in layers["unet", name])
    assert torch.equal(own, (base.double() + ALPHA / RANK * up @ down).half())
    huge = {n: tensor * (1 if "alpha" in n else 1000) for n, tensor in kohya(layers).items()}
    save_file(huge, path)
    with pytest.raises(ConfigError, match=r"beyond what torch\.float16 holds"):
        fused(str(path), dtype=torch.float16)


class TestConfiguration:
    def test_how_they_are_named(self):
        wanted = [{"path": "a.safetensors", "weight": 1.0}]
        for given in ("a.safetensors", "[a.safetensors]", "[{path: a.safetensors}]"):
            model = build_config(parse_overrides([f"model.loras={given}"])).model
            assert model.model_dump(mode="json")["loras"] == wanted
        model = build_config({"model": {"loras": ["a=b.safetensors=0.5", "c"]}}).model
        assert [(lora.path, lora.weight) for lora in model.loras] == [
            ("a=b.safetensors", 0.5),
            ("c", 1),
        ]
        assert "loras" not in build_config().model_dump(mode="json")["model"]
        for wrong in (
            "a=b",
            "a=11",
            "[{path: a, weight: 11}]",
            "[{path: a, weight: .nan}]",
            "[{weight: 1}]",
        ):
            with pytest.raises(ConfigError, match=r"model\.loras\.0"):
                build_config(parse_overrides([f"model.loras={wrong}"]))
        with pytest.raises(ConfigError, match="did you mean 'weight'"):
            build_config(parse_overrides(["model.loras=[{path: a, wieght: 1}]"]))

    def test_files_and_weights_and_their_order_are_in_the_fingerprint(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).write_text(name)
        (tmp_path / "copy").write_text("a")

        def of(*loras):
            given = [{"path": str(tmp_path / name), "weight": weight} for name, weight in loras]
            config = build_config({"model": {"id": "mini", "loras": given}})
            return fingerprint(config, inputs_of(config, {}))

        assert of(("a", 1)) == of(("copy", 1))
        different = [of(), of(("a", 1)), of(("b", 1)), of(("a", 0.5))]
        different += [of(("a", 1), ("b", 1)), of(("b", 1), ("a", 1))]
        assert len(set(different)) == len(different)
        assert "model.loras" not in identity(build_config({"model": {"id": "mini"}}), {})
        with pytest.raises(ConfigError, match="gone"):
            of(("gone", 1))


KOHYA = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
PEFT = f"unet.{BLOCK}.attn2.to_k"
REFUSED = {
    "another family": (
        {f"{KOHYA}.lora_down.weight": (4, 768), f"{KOHYA}.lora_up.weight": (24, 4)},
        "of another family than .*: it takes rows of text of width 768, the model's have 32",
    ),
    "another family, PEFT": (
        {f"{PEFT}.lora_A.weight": (4, 2048), f"{PEFT}.lora_B.weight": (24, 4)},
        "it takes rows of text of width 2048",
    ),
    "another family, older names": (
        {f"unet.{BLOCK}.attn2.processor.to_v_lora.down.weight": (4, 1024)},
        "it takes rows of text of width 1024",
    ),
    "FLUX": ({"transformer.double_blocks.0.lora_A.weight": (4, 8)}, "draws with a transformer"),
    "DoRA": ({f"{KOHYA}.lora_down.weight": (4, 32), f"{KOHYA}.dora_scale": (1,)}, "is a DoRA"),
    "LoHa": ({f"{KOHYA}.hada_w1_a": (4, 32)}, "is a LoHa"),
    "a model": ({"model.diffusion_model.out.2.bias": (4,)}, "is a whole model: give it with --mod"),
    "something else": ({"a": (1,)}, "is no LoRA.*got 'a'"),
    "nothing": ({}, "is no LoRA.*got 'no tensor'"),
}


class TestRefused:
    def check(self, folder, tmp_path, tensors, message):
        """From the header alone."""
        path = tmp_path / "a.safetensors"
        save_file(tensors, path)
        with pytest.raises(ConfigError, match=message) as caught:
            check_model(ModelConfig(id=str(folder), device="cpu", loras=str(path)))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("kind", REFUSED)
    def test_from_the_header(self, folder, tmp_path, kind):
        shapes, message = REFUSED[kind]
        self.check(folder, tmp_path, {n: torch.zeros(s) for n, s in shapes.items()}, message)

    def test_other_numbers(self, folder, tmp_path):
        eighths = torch.zeros(4, 32).to(torch.float8_e5m2)
        self.check(folder, tmp_path, {f"{KOHYA}.lora_down.weight": eighths}, "got F8_E5M2")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({f"{PEFT}.lora_A.weight": torch.full((4, 32), math.nan)}, "infinite or none"),
            ({f"{PEFT}.lora_A.weight": torch.full((4, 32), math.inf)}, "infinite or none"),
            ({f"{PEFT}.lora_B.weight": torch.zeros(48, 4)}, r"\[4, 32\] and \[48, 4\], which do"),
            ({f"{PEFT}.lora_B.weight": torch.zeros(24, 5)}, "do not fit weights of"),
            ({f"{PEFT}.lora_B.weight": torch.zeros(24)}, "do not fit weights of"),
            ({f"{PEFT}.lora_B.weight": torch.zeros(0, 4)}, "do not fit weights of"),
            ({f"{PEFT}.lora_B.weight": None}, "has one matrix of two"),
            ({"unet.mid_block.nothing.lora_A.weight": torch.zeros(4, 8)}, "1 of its 2 layers are"),
            ({"unet.conv_norm_out.lora_A.weight": torch.zeros(4, 8)}, "1 of its 2 layers are none"),
            ({"controlnet.a.lora_A.weight": torch.zeros(4, 8)}, "first controlnet.a"),
            ({"unet.__class__.lora_A.weight": torch.zeros(4, 8)}, "first unet.__class__"),
            ({"unet.a.lora_C": torch.zeros(4, 8)}, "unet.a.lora_C is of no layer"),
            ({f"{PEFT}.alpha": torch.zeros(3)}, "must be one number"),
        ],
    )
    def test_of_what_was_read(self, tmp_path, change, message):
        tensors = {f"{PEFT}.lora_A.weight": torch.zeros(4, 32)}
        tensors |= {f"{PEFT}.lora_B.weight": torch.zeros(24, 4)} | change
        path = tmp_path / "a.safetensors"
        save_file({name: one for name, one in tensors.items() if one is not None}, path)
        with pytest.raises(ConfigError, match=message) as caught:
            fuse_loras(small_pipeline("sd15"), [Lora(path=str(path))])
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize(
        "settings",
        [
            "[1]",
            "{",
            '{"unet.use_dora": true}',
            '{"unet.lora_alpha": "x"}',
            '{"unet.alpha_pattern": 3}',
        ],
    )
    def test_settings_that_are_none(self, tmp_path, settings):
        path = tmp_path / "a.safetensors"
        tensors = {f"{PEFT}.lora_A.weight": (4, 32), f"{PEFT}.lora_B.weight": (24, 4)}
        tensors = {name: torch.zeros(shape) for name, shape in tensors.items()}
        save_file(tensors, path, {"lora_adapter_metadata": settings})
        with pytest.raises(ConfigError, match="layers or settings cannot be read"):
            fuse_loras(small_pipeline("sd15"), [Lora(path=str(path))])

    def test_files(self, folder, tmp_path):
        for name, message in (
            ("gone.safetensors", "does not exist"),
            ("old.pt", "is a pickle"),
            (".", "pytorch_lora_weights.safetensors does not exist"),
        ):
            with pytest.raises(ConfigError, match=message):
                check_model(ModelConfig(id=str(folder), loras=str(tmp_path / name)))

    @pytest.mark.slow
    def test_the_command_line_says_it_in_one_line(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save_file({f"{KOHYA}.lora_down.weight": torch.zeros(4, 768)}, path)
        asked = ("--model", "mini", "--lora", f"{path}=0.5", "--out", str(tmp_path / "out"))
        result = ovamgen("attribute", "--prompt", "a cat", *asked)
        assert result.returncode == 2
        assert "of another family than mini" in result.stderr
        assert len(result.stderr.splitlines()) == 1
