import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ovamgen.config import ModelConfig
from ovamgen.diffusion.pipeline import check_model, digest_weights, load_pipeline
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.errors import ConfigError
from tests.diffusion.small import small_pipeline
from tests.diffusion.test_synthesis import tiny_checker
from tests.golden.reference import TINY_SD, tiny_sd

UNET = "unet/diffusion_pytorch_model.safetensors"


def tiny(folder=TINY_SD, **changes):
    return ModelConfig(id=str(folder), device="cpu", **changes)


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden pipeline to break."""
    return shutil.copytree(TINY_SD, tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


class TestCheck:
    def test_facts_of_a_folder_are_those_of_the_loaded_model(self):
        facts, info = check_model(tiny()), tiny_sd().info
        for name in ("context_width", "height", "width", "vae_scale_factor"):
            assert getattr(facts, name) == getattr(info, name)
        assert (facts.context_width, facts.height, facts.width) == (24, 512, 512)
        assert facts.cross_attention_layers == len(cross_attention_layers(tiny_sd().pipe.unet))
        assert facts.safety_checker is False

    def test_facts_of_what_is_built_in(self):
        mini = check_model(ModelConfig(id="mini"))
        assert (mini.context_width, mini.height, mini.cross_attention_layers) == (128, 128, 6)
        sd15 = check_model(ModelConfig(id="random:sd15"))
        assert (sd15.context_width, sd15.height, sd15.vae_scale_factor) == (768, 512, 8)

    def test_neither_torch_nor_diffusers_is_imported(self, repository, tmp_path):
        lora = tmp_path / "lora.safetensors"
        save_file({"lora_unet_a.lora_down.weight": torch.zeros(4, 8)}, lora)
        code = (
            "import sys; from ovamgen.config import ModelConfig; "
            "from ovamgen.diffusion.pipeline import check_model; "
            f"check_model(ModelConfig(id={str(TINY_SD)!r}, loras={str(lora)!r})); "
            "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True
        )
        assert done.stdout == "[]\n"

    @pytest.mark.parametrize(
        "name",
        [
            "model_index.json",
            "unet/config.json",
            UNET,
            "vae/config.json",
            "text_encoder/model.safetensors",
            "scheduler/scheduler_config.json",
        ],
    )
    def test_a_missing_file_is_named(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(ConfigError) as caught:
            check_model(tiny(folder))
        assert str(folder) in str(caught.value)
        assert name in str(caught.value)

    def test_a_missing_component_folder_is_named(self, folder):
        shutil.rmtree(folder / "vae")
        with pytest.raises(ConfigError, match=r"lacks vae/config.json"):
            check_model(tiny(folder))

    def test_a_missing_tokenizer_is_named(self, folder):
        for file in (folder / "tokenizer").iterdir():
            file.unlink()
        with pytest.raises(ConfigError, match=r"lacks tokenizer/vocab.json"):
            check_model(tiny(folder))

    @pytest.mark.parametrize("place", ["/etc/passwd", "../../key", 5, ["a"], None])
    def test_an_index_names_files_beside_it(self, folder, place):
        weights = folder / "text_encoder" / "model.safetensors"
        weights.rename(weights.with_name("moved.safetensors"))
        content = json.dumps({"weight_map": {"a": place}})
        weights.with_name("model.safetensors.index.json").write_text(content)
        with pytest.raises(ConfigError, match="must name files beside it"):
            check_model(tiny(folder))

    @pytest.mark.parametrize(
        ("name", "key", "value"),
        [
            ("text_encoder/config.json", "num_hidden_layers", 10**7),
            ("unet/config.json", "layers_per_block", 10**6),
            ("unet/config.json", "block_out_channels", [10**9] * 4),
            ("unet/config.json", "sample_size", 10**9),
            ("unet/config.json", "sample_size", "wide"),
            ("scheduler/scheduler_config.json", "num_train_timesteps", 3 * 10**9),
            ("scheduler/scheduler_config.json", "num_train_timesteps", 0),
            ("scheduler/scheduler_config.json", "trained_betas", [0.1] * 10**5),
        ],
    )
    def test_numbers_that_no_model_has_are_refused(self, folder, name, key, value):
        config = json.loads((folder / name).read_text()) | {key: value}
        (folder / name).write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=f"{key} in {name} must be"):
            check_model(tiny(folder))

    def test_a_tokenizer_without_end_is_refused(self, folder):
        (folder / "tokenizer" / "vocab.json").write_bytes(b" " * (33 * 2**20))
        with pytest.raises(ConfigError, match=r"at most 33554432 bytes, they have"):
            check_model(tiny(folder))

    @pytest.mark.parametrize(
        "name",
        ["logging", *(pytest.param(n, marks=pytest.mark.slow) for n in ("__doc__", "UNet2DModel"))],
    )
    def test_a_scheduler_is_one_of_diffusers(self, folder, name):
        place = folder / "scheduler" / "scheduler_config.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {"_class_name": name}))
        with pytest.raises(ConfigError, match=f"must name a scheduler of diffusers, got '{name}'"):
            load_pipeline(tiny(folder))

    def test_pickled_weights_are_refused(self, folder):
        (folder / UNET).rename(folder / "unet/diffusion_pytorch_model.bin")
        with pytest.raises(
            ConfigError, match=r"unet/diffusion_pytorch_model.bin is a pickle, safe"
        ):
            check_model(tiny(folder))

    @pytest.mark.parametrize(
        "content",
        [
            b"version https://git-lfs.github.com/spec/v1\n",
            b"",
            b"\xff" * 64,
            b"\x02" + bytes(7) + b"[]",
        ],
    )
    def test_other_files_are_no_weights(self, folder, content):
        (folder / UNET).write_bytes(content)
        with pytest.raises(ConfigError, match=f"{UNET} is no whole safetensors file"):
            check_model(tiny(folder))

    @pytest.mark.parametrize("change", [lambda whole: whole[:-1], lambda whole: whole + b"x"])
    def test_a_truncated_file_is_found(self, folder, change):
        whole = (folder / UNET).read_bytes()
        (folder / UNET).write_bytes(change(whole))
        with pytest.raises(ConfigError, match=f"{UNET} is no whole safetensors file"):
            check_model(tiny(folder))

    def test_broken_json_is_named(self, folder):
        (folder / "vae/config.json").write_text("{")
        with pytest.raises(ConfigError, match=r"vae/config.json is not readable JSON"):
            check_model(tiny(folder))

    def test_a_lacking_key_is_named(self, folder):
        config = json.loads((folder / "unet/config.json").read_text())
        del config["cross_attention_dim"]
        (folder / "unet/config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError, match=r"lacks 'cross_attention_dim'"):
            check_model(tiny(folder))

    def test_other_pipelines_are_refused(self, folder):
        edit(folder / "model_index.json", _class_name="StableDiffusion3Pipeline")
        with pytest.raises(ConfigError, match="holds a StableDiffusion3Pipeline, which draws with"):
            check_model(tiny(folder))

    def test_parts_of_different_models_are_found(self, folder):
        edit(folder / "text_encoder/config.json", hidden_size=32)
        with pytest.raises(ConfigError, match=r"width 24, text_encoder/config.json gives 32"):
            check_model(tiny(folder))

    def test_inpainting_unets_are_refused(self, folder):
        edit(folder / "unet/config.json", in_channels=9)
        with pytest.raises(ConfigError, match="takes 9 channels, the VAE has 4"):
            check_model(tiny(folder))

    def test_a_variant_that_is_not_there(self, folder):
        with pytest.raises(ConfigError, match="no weights of the variant 'fp16'"):
            check_model(tiny(folder, variant="fp16"))

    @pytest.mark.parametrize(
        ("name", "hint"),
        [("minni", "did you mean 'mini'"), ("random:sd1.5", "did you mean 'random:sd15'")],
    )
    def test_unknown_names_are_pointed_out(self, name, hint):
        with pytest.raises(ConfigError, match=hint):
            check_model(ModelConfig(id=name))

    def test_a_file_is_no_folder(self):
        with pytest.raises(ConfigError, match="does not exist: give a folder"):
            check_model(tiny(TINY_SD / "model_index.json"))


class TestHub:
    def test_offline_and_not_cached(self, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(ConfigError, match=r"owner/name@main is not in the cache.*local folder"):
            check_model(ModelConfig(id="owner/name", revision="main"))
        with pytest.raises(ConfigError, match=r"owner/name is not in the cache.*local folder"):
            load_pipeline(ModelConfig(id="owner/name", device="cpu"))

    def test_a_cached_snapshot_is_used(self, monkeypatch, tmp_path):
        commit = "0123456789abcdef0123456789abcdef01234567"
        place = tmp_path / "models--owner--name"
        shutil.copytree(TINY_SD, place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs/main").write_text(commit)
        for constant in ("huggingface_hub.constants.HF_HUB_CACHE", "diffusers.utils.HF_HUB_CACHE"):
            monkeypatch.setattr(constant, str(tmp_path), raising=False)
        model = ModelConfig(id="owner/name", revision="main", device="cpu")
        assert check_model(model).context_width == 24
        loaded = load_pipeline(model)
        assert loaded.info.revision == commit
        assert loaded.info.model == "owner/name"
        assert loaded.info.digest == tiny_sd().info.digest


class TestLoad:
    def test_info(self):
        info = tiny_sd().info
        assert info.trained
        assert (info.revision, info.cross_attention_layers, info.context_width) == ("", 15, 24)
        assert not any(p.requires_grad for p in tiny_sd().pipe.unet.parameters())

    @pytest.mark.parametrize(
        "file",
        [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"],
    )
    def test_the_digest_covers_every_part(self, folder, file):
        same = load_pipeline(tiny(folder)).info.digest
        assert same == tiny_sd().info.digest
        tensors = load_file(folder / file)
        first = sorted(tensors)[0]
        tensors[first].view(-1)[0] += 1e-3
        save_file(tensors, folder / file, metadata={"format": "pt"})
        assert load_pipeline(tiny(folder)).info.digest != same

    def test_half_precision_is_loaded_as_such(self):
        half = load_pipeline(tiny(dtype="bfloat16"))
        assert half.pipe.unet.dtype == half.pipe.vae.dtype == torch.bfloat16
        assert half.info.digest != tiny_sd().info.digest

    def test_a_variant_is_taken_where_it_is_there(self, folder):
        tensors = load_file(folder / UNET)
        changed = {name: tensor * 0.5 for name, tensor in tensors.items()}
        variant = folder / "unet/diffusion_pytorch_model.fp16.safetensors"
        save_file(changed, variant, metadata={"format": "pt"})
        plain, halved = load_pipeline(tiny(folder)), load_pipeline(tiny(folder, variant="fp16"))
        assert plain.info.digest == tiny_sd().info.digest != halved.info.digest
        weights = plain.pipe.unet.conv_in.weight
        assert torch.equal(halved.pipe.unet.conv_in.weight, weights * 0.5)

    def test_a_tokenizer_without_a_length_gets_the_encoders(self, folder):
        path = folder / "tokenizer/tokenizer_config.json"
        config = json.loads(path.read_text())
        del config["model_max_length"]
        path.write_text(json.dumps(config))
        assert load_pipeline(tiny(folder)).pipe.tokenizer.model_max_length == 77

    @pytest.mark.parametrize("component", ["unet", "text_encoder"])
    def test_weights_that_a_file_lacks_are_named(self, folder, component):
        """They would be random, without a word from the libraries."""
        (file,) = (folder / component).glob("*.safetensors")
        tensors = load_file(file)
        del tensors[sorted(tensors)[0]]
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=f"weights of {component} lack 1 tensors"):
            load_pipeline(tiny(folder))

    def test_weights_of_another_shape_are_named(self, folder):
        edit(folder / "unet/config.json", block_out_channels=[16, 16, 16, 16])
        with pytest.raises(ConfigError, match="cannot be loaded"):
            load_pipeline(tiny(folder))

    def test_the_safety_checker_is_loaded_when_wanted(self, folder):
        checker, extractor = tiny_checker(-2.0)
        checker.save_pretrained(folder / "safety_checker")
        extractor.save_pretrained(folder / "feature_extractor")
        edit(
            folder / "model_index.json",
            safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
            feature_extractor=["transformers", "CLIPImageProcessor"],
        )
        assert check_model(tiny(folder)).safety_checker
        assert load_pipeline(tiny(folder)).pipe.safety_checker is None
        loaded = load_pipeline(tiny(folder), safety=True)
        weights = loaded.pipe.safety_checker.concept_embeds_weights
        assert (weights == -2).all()
        assert loaded.info.digest == tiny_sd().info.digest
        (folder / "safety_checker/model.safetensors").unlink()
        check_model(tiny(folder))
        with pytest.raises(ConfigError, match=r"lacks safety_checker/model.safetensors"):
            check_model(tiny(folder), safety=True)

    def test_a_missing_gpu_is_reported(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(
            ConfigError, match=r"on cuda, but there is no CUDA device.*--device cpu"
        ):
            load_pipeline(ModelConfig(id=str(TINY_SD), device="cuda"))

    # the command in test_cli.py that attributes with this pipeline is to be as quiet
    @pytest.mark.slow
    def test_stderr_is_quiet(self, repository):
        code = (
            "from ovamgen.config import ModelConfig; "
            "from ovamgen.diffusion.pipeline import load_pipeline; "
            f"load_pipeline(ModelConfig(id={str(TINY_SD)!r}, device='cpu'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=True
        )
        assert (done.stdout, done.stderr) == ("", "")


class TestRandomWeights:
    def test_they_are_the_same_everywhere(self):
        """The digest of this machine's weights; other machines and versions must find the same."""
        digest = digest_weights(small_pipeline())
        assert digest == "9f1263042587ffb8d0b05430eec588c7c451df932a165cfdbab7fbe7ccc41308"

    def test_the_small_one_has_the_layout_of_sd15(self):
        unet = small_pipeline().unet
        assert 0.8e6 < sum(p.numel() for p in unet.parameters()) < 1.5e6
        layers = [layer.name for layer in cross_attention_layers(unet)]
        assert layers == [layer.name for layer in cross_attention_layers(tiny_sd().pipe.unet)]

    def test_weights_have_the_variance_they_should(self):
        unet = small_pipeline().unet
        weight = unet.get_submodule("up_blocks.1.resnets.0.conv1").weight
        fan_in = weight[0].numel()
        assert weight.std().item() * fan_in**0.5 == pytest.approx(1, rel=0.02)
        assert abs(weight.mean().item()) * fan_in**0.5 < 0.02
        assert unet.conv_in.bias.unique().tolist() == [0.0]
        assert unet.conv_norm_out.weight.unique().tolist() == [1.0]
        for layer in cross_attention_layers(unet):
            attended = layer.to_k.weight
            deviation = 1 / attended.shape[1] ** 0.5
            assert attended.std().item() == pytest.approx(deviation, rel=0.1)
        assert weight.abs().max().item() <= (3 / fan_in) ** 0.5 * (1 + 1e-6)
        other = unet.get_submodule("up_blocks.1.resnets.1.conv1").weight
        assert not torch.equal(weight.flatten()[:100], other.flatten()[:100])

    def test_sd15_has_the_published_sizes(self):
        import diffusers
        from transformers import CLIPTextConfig, CLIPTextModel

        from ovamgen.diffusion.architectures import SD15

        with torch.device("meta"):
            parts = (
                diffusers.UNet2DConditionModel(**SD15.unet),
                CLIPTextModel(CLIPTextConfig(**SD15.text_encoder)),
                diffusers.AutoencoderKL(**SD15.vae),
            )
        sizes = [sum(p.numel() for p in part.parameters()) for part in parts]
        assert sizes == [859_520_964, 123_060_480, 83_653_863]
