"""Models in one file: the same weights as a folder's, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ovamgen.config import ModelConfig, SynthesisConfig
from ovamgen.diffusion import single_file
from ovamgen.diffusion.pipeline import check_model, load_pipeline
from ovamgen.diffusion.single_file import check_file
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.errors import ConfigError
from tests.command_line import ovamgen
from tests.diffusion.compvis import save_single_file
from tests.diffusion.small import FAMILIES, small_model, small_pipeline

UNET = "model.diffusion_model."
CONV_IN = f"{UNET}input_blocks.0.0.weight"
TO_K = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(scope="module", autouse=True)
def miniatures():
    """The miniatures are published: their widths of a row are what a file is known by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_file, "PUBLISHED", tuple(FAMILIES.values()))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The miniatures in one file each; that of 2.x says that it predicts velocities."""
    root = tmp_path_factory.mktemp("files")
    for name, architecture in FAMILIES.items():
        said = {"modelspec.prediction_type": "v"} if name == "sd21" else None
        prefixes, path = architecture.text_prefixes, root / f"{name}.safetensors"
        save_single_file(small_pipeline(name), prefixes, path, metadata=said)
    return root


def model(path, **changes):
    return ModelConfig(**{"id": str(path), "device": "cpu", **changes})


def drawn(loaded):
    settings = SynthesisConfig(steps=1, height=64, width=64)
    return Synthesiser(loaded, settings).draw(["a cat"], [1]).images


def change(path, new, **changes):
    """A copy of a file with other tensors: None takes one away."""
    tensors = load_file(path) | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, new)
    return new


@pytest.mark.parametrize(
    "name", ["sd15", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sd21", "sdxl"))]
)
def test_a_file_and_a_folder_give_the_same_digest_and_bytes(files, tmp_path, name):
    small_pipeline(name).save_pretrained(tmp_path)
    ways = [load_pipeline(model(place)) for place in (files / f"{name}.safetensors", tmp_path)]
    assert ways[0].info.digest == ways[1].info.digest == small_model(name).info.digest
    assert type(ways[0].pipe) is type(ways[1].pipe)
    # bytes as they reach a shard; before rounding they differ by 1e-6 on a CPU, whose libraries
    # sum otherwise where a folder's weights lie in memory as they lie in its files
    images = [drawn(one) for one in ways]
    assert (images[0] == images[1]).all()
    assert images[0].dtype == np.uint8
    assert np.ptp(images[0]) > 50
    facts = [check_model(model(place)) for place in (files / f"{name}.safetensors", tmp_path)]
    assert facts[0].context_width == facts[1].context_width
    assert facts[0].cross_attention_layers == facts[1].cross_attention_layers
    assert ways[0].info.trained


@pytest.mark.slow
def test_precision_is_the_configurations_and_not_the_files(files, tmp_path):
    halves = {k: t.half() for k, t in load_file(files / "sdxl.safetensors").items()}
    save_file(halves, tmp_path / "a.safetensors")
    loaded = load_pipeline(model(tmp_path / "a.safetensors", dtype="float32")).pipe
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.float32}
    exact = small_pipeline("sdxl")
    assert torch.equal(loaded.unet.conv_in.weight, exact.unet.conv_in.weight.half().float())
    loaded = load_pipeline(model(files / "sdxl.safetensors", dtype="float16")).pipe
    assert loaded.unet.dtype == loaded.text_encoder_2.dtype == torch.float16
    # in float16 the VAE of XL overflows
    assert torch.equal(loaded.vae.decoder.conv_in.weight, exact.vae.decoder.conv_in.weight)


def test_who_writes_to_the_file_later_changes_no_model(files, tmp_path):
    path = shutil.copy(files / "sd15.safetensors", tmp_path)
    pipe = load_pipeline(model(path)).pipe
    with open(path, "r+b") as file:
        file.seek(100_000)
        file.write(b"\x7f" * (Path(path).stat().st_size - 100_000))
    exact = small_pipeline("sd15").unet.parameters()
    for own, expected in zip(pipe.unet.parameters(), exact, strict=True):
        assert torch.equal(own, expected)


class TestPrediction:
    def architecture(self, path, **changes):
        return check_file(model(path, **changes)).architecture

    def test_a_file_says_it_itself(self, files, tmp_path):
        assert self.architecture(files / "sd21.safetensors") == FAMILIES["sd21"]
        assert self.architecture(files / "sd15.safetensors") == FAMILIES["sd15"]
        marked = tmp_path / "a.safetensors"
        change(files / "sdxl.safetensors", marked, v_pred=torch.ones(1))
        assert self.architecture(marked).noise["prediction_type"] == "v_prediction"
        assert load_pipeline(model(marked)).pipe.scheduler.config.prediction_type == "v_prediction"

    def test_one_of_2_that_does_not_is_asked_for(self, files, tmp_path, monkeypatch):
        silent = change(files / "sd21.safetensors", tmp_path / "a.safetensors")
        with pytest.raises(ConfigError, match=r"give --set model\.prediction=v_prediction"):
            check_model(model(silent))
        assert self.architecture(silent, prediction="v_prediction") == FAMILIES["sd21"]
        monkeypatch.setattr(single_file, "_BASE_CELLS", 8)
        base = self.architecture(silent, prediction="epsilon")
        assert base.noise["prediction_type"] == "epsilon"
        # the "base" of 2.x is of 512 pixels, and not of 768
        assert base.facts("a").height == 64

    def test_folders_say_it_themselves(self):
        with pytest.raises(ConfigError, match=r"is for a model in one file"):
            check_model(ModelConfig(id="mini", prediction="epsilon"))


def write(path, tensors):
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, path)
    return path


REFUSED = {
    "a LoRA": ({"lora_unet_a.lora_down.weight": (4, 8)}, "is a LoRA.*model.loras"),
    "Stable Diffusion 3": (
        {f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (8, 8)},
        r"StableDiffusion3Pipeline, which draws with a transformer.*\(Stable Diffusion 1\.x, 2\.x",
    ),
    "FLUX": (
        {"double_blocks.0.img_attn.qkv.weight": (8, 8)},
        r"FluxPipeline, which draws with a transformer.*\(Stable Diffusion 1\.x, 2\.x and XL\)",
    ),
    "another network": ({"layer.0.weight": (8, 8)}, "holds no Stable Diffusion.*got 'layer"),
    "nothing": ({}, "holds no Stable Diffusion.*got 'no tensor'"),
    "a part of a folder": ({"down_blocks.0.a.weight": (8, 8)}, "one of the parts of a folder"),
    "inpainting": ({CONV_IN: (320, 9, 3, 3)}, "takes 9 channels, 4 expected"),
    "the refiner": (
        {CONV_IN: (320, 4, 3, 3), TO_K: (640, 1280)},
        "takes rows of text of width 1280; those of 1.x have 768",
    ),
    "no cross-attention": ({CONV_IN: (320, 4, 3, 3)}, "since it has no cross-attention"),
    "Playground": ({CONV_IN: (320, 4, 3, 3), "edm_mean": (4,)}, "another noise schedule"),
    "a UNet alone": ({CONV_IN: (24, 4, 3, 3), TO_K: (24, 32)}, r"no VAE \(no tensor begins with"),
    "no text encoder": (
        {CONV_IN: (24, 4, 3, 3), TO_K: (24, 32), "first_stage_model.a": (1,)},
        "no text_encoder",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_are_no_stable_diffusion_are_refused(tmp_path, kind):
    tensors, message = REFUSED[kind]
    path = write(tmp_path / "a.safetensors", tensors)
    with pytest.raises(ConfigError, match=message) as caught:
        check_model(model(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_says_it_in_one_line(tmp_path):
    write(tmp_path / "flux.safetensors", REFUSED["FLUX"][0])
    (tmp_path / "old.ckpt").touch()
    for name, why in (
        ("flux.safetensors", "draws with a transformer"),
        ("old.ckpt", "is a pickle"),
        ("models/gone.safetensors", "does not exist"),
    ):
        asked = ("--model", str(tmp_path / name), "--device", "cpu")
        result = ovamgen("attribute", "--prompt", "a cat", "--out", str(tmp_path / "out"), *asked)
        assert result.returncode == 2
        assert why in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no whole safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"\x80\x02}q\x00.", "no whole safetensors file"),
    ],
)
def test_other_files_are_no_models(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        check_model(model(path))


def test_truncated_files_and_other_precisions(files, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes((files / "sd15.safetensors").read_bytes()[:-1])
    with pytest.raises(ConfigError, match="no whole safetensors file"):
        check_model(model(path))
    eighths = torch.zeros(24, 32).to(torch.float8_e4m3fn)
    change(files / "sd15.safetensors", path, **{TO_K: eighths})
    with pytest.raises(ConfigError, match=r"attn2\.to_k\.weight must be of float16.* got F8_E4M3"):
        check_model(model(path))
    with pytest.raises(ConfigError, match=r"model\.variant 'fp16' chooses among files"):
        check_model(model(files / "sd15.safetensors", variant="fp16"))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (f"{UNET}out.2.bias", None, r"its unet lacks 1 tensors, first conv_out\.bias"),
        (f"{UNET}out.2.bias", torch.zeros(5), r"must have conv_out\.bias of \[4\], got \[5\]"),
        (f"{UNET}middle_block.1.more", torch.zeros(1), r"its unet has 1 tensors too many"),
        ("first_stage_model.encoder.mid.attn_1.q.bias", None, r"its vae lacks 1 tensors"),
        ("first_stage_model.decoder.up.3.block.7.norm1.bias", torch.zeros(24), "its vae has 1 ten"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            None,
            "its text_encoder lacks 1 tensors",
        ),
    ],
)
def test_every_tensor_has_its_place(files, tmp_path, name, tensor, message):
    path = change(files / "sd15.safetensors", tmp_path / "a.safetensors", **{name: tensor})
    check_model(model(path))
    with pytest.raises(ConfigError, match=message) as caught:
        load_pipeline(model(path))
    assert str(path) in str(caught.value)


def test_what_drawing_does_not_need_is_left_alone(files, tmp_path):
    """Averaged weights, a training's counters, tables of positions."""
    more = {"model_ema.decay": torch.ones(()), "global_step": torch.tensor(7)}
    more |= {f"model_ema.diffusion_modelout2bias{n}": torch.zeros(4) for n in range(3)}
    path = change(files / "sd15.safetensors", tmp_path / "a.safetensors", **more)
    assert load_pipeline(model(path)).info.digest == small_model("sd15").info.digest
