"""Stable Diffusion 1, 2 and XL as miniatures: texts, maps, sizes, folders."""

import gc
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from torch.nn.functional import interpolate

from ovamgen.attribution.ovam import PairMaps, TextMaps
from ovamgen.attribution.stored import StoredQueries
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.bench.arithmetic import call_cost
from ovamgen.config import ModelConfig, SynthesisConfig, build_config
from ovamgen.config.fingerprint import fingerprint
from ovamgen.diffusion.facts import facts_of
from ovamgen.diffusion.features import feature_levels
from ovamgen.diffusion.folder import settings_of
from ovamgen.diffusion.pipeline import check_model, load_pipeline
from ovamgen.diffusion.random_weights import skeleton_of
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.recreate import Recreator
from ovamgen.diffusion.schedulers import scheduler_class
from ovamgen.diffusion.synthesis import Synthesiser, initial_noise
from ovamgen.diffusion.text import encode_text
from ovamgen.errors import ConfigError, MethodError
from ovamgen.run.inputs import check_model_size
from ovamgen.tokens.optimiser import (
    AnnotatedScores,
    OptimiserSettings,
    PairScores,
    optimise_pair,
)
from tests.diffusion.small import FAMILIES, small_model, small_pipeline

NAMES = list(FAMILIES)
BRANCHES = ["unconditional", "conditional"]
HEIGHT, WIDTH = 64, 128
PROMPTS = ["a red aeroplane", "a dog"]


def settings(**changes):
    return SynthesisConfig(**{"steps": 2, "height": HEIGHT, "width": WIDTH, **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The miniatures of SD 2.1 and XL as diffusers saves them."""
    root = tmp_path_factory.mktemp("families")
    for name in ("sd21", "sdxl"):
        small_pipeline(name).save_pretrained(root / name)
    return root


@pytest.fixture
def sdxl_folder(folders, tmp_path):
    """A copy of the miniature of XL to break."""
    return shutil.copytree(folders / "sdxl", tmp_path / "sdxl")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def check(folder, **changes):
    return check_model(ModelConfig(id=str(folder), device="cpu", **changes))


def einsum_maps(loaded, rows, branch):
    """Methods 2.2 with nothing of the recorder: module inputs, weights, einsum, softmax, sums."""
    unet = loaded.pipe.unet
    attentions = [
        module
        for name, module in unet.named_modules()
        if name.endswith("attn2") and "mid_block" not in name
    ]
    seen = {id(module): [] for module in attentions}
    handles = [
        module.register_forward_pre_hook(
            lambda module, args: seen[id(module)].append(args[0].detach().clone())
        )
        for module in attentions
    ]
    Synthesiser(loaded, settings()).draw(PROMPTS, [1, 2])
    for handle in handles:
        handle.remove()
    half = slice(0, 2) if branch == "unconditional" else slice(2, 4)
    by_size = {}
    for module in attentions:
        heads, width = module.heads, module.to_q.weight.shape[0]
        keys = (rows @ module.to_k.weight.T).reshape(len(rows), heads, width // heads)
        for hidden in seen[id(module)]:
            queries = hidden[half] @ module.to_q.weight.T
            queries = queries.reshape(2, -1, heads, width // heads)
            scores = torch.einsum("bpnd,lnd->bnlp", queries, keys) / math.sqrt(width // heads)
            high = math.isqrt(queries.shape[1] * HEIGHT // WIDTH)
            maps = scores.softmax(2).sum(1).reshape(2, len(rows), high, -1)
            by_size[maps.shape[2:]] = by_size.get(maps.shape[2:], 0) + maps
    largest = max(by_size)
    return sum(interpolate(maps, size=largest, mode="bilinear") for maps in by_size.values())


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_maps_are_those_of_an_einsum_and_recording_changes_no_bit(name, branch):
    """2:1 pictures, both halves, pairs and texts; XL's largest maps are half as wide as latents."""
    loaded = small_model(name)
    layers = cross_attention_layers(loaded.pipe.unet)
    text = encode_text(loaded.pipe, "a red aeroplane").rows
    pair = text[[0, 4]]
    sinks = [PairMaps(layers, pair[None]), TextMaps(layers, [text])]
    synthesiser = Synthesiser(loaded, settings())
    plain = synthesiser.draw(PROMPTS, [1, 2])
    recorded = synthesiser.draw(PROMPTS, [1, 2], listeners=[(sink, branch) for sink in sinks])
    assert (plain.pixels == recorded.pixels).all()
    assert plain.images.std() > 5
    for sink in sinks:
        heads = 5 * 1 + 5 * 2 + 5 * 4 if name == "sd21" else 10 * 2 + 15 * 4
        assert sink.sums.maximum == 3 * heads
    with torch.no_grad():
        expected = einsum_maps(loaded, pair, branch)
        torch.testing.assert_close(sinks[0].sums.total(), expected[:, 1:], rtol=1e-4, atol=1e-4)
        expected = einsum_maps(loaded, text, branch)
        torch.testing.assert_close(sinks[1].result()[0], expected, rtol=1e-4, atol=1e-4)
    cells = (8, 16) if name == "sd21" else (4, 8)
    assert tuple(expected.shape[2:]) == cells


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_memory_does_not_grow_with_steps(name):
    loaded = small_model(name)
    pair = encode_text(loaded.pipe, "a cat").rows[None, [0, 2]]
    held = []
    # what is made once stays: the first drawing is not counted
    for steps in (1, 1, 6):
        sink = PairMaps(cross_attention_layers(loaded.pipe.unet), pair)
        drawing = Synthesiser(loaded, settings(steps=steps, height=64, width=64))
        drawing.draw(["a cat"], [1], listeners=[(sink, "unconditional")])
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor]
        held.append((sink.sums.nbytes, sum(one.nbytes for one in tensors)))
        del tensors
    assert held[1] == held[2]


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_text_are_what_the_unet_is_given(name):
    loaded = small_model(name)
    given = []
    handle = loaded.pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    Synthesiser(loaded, settings(steps=1)).draw(["a red aeroplane"], [1])
    handle.remove()
    padded = encode_text(loaded.pipe, "a red aeroplane", padded=True)
    assert padded.rows.shape == (77, loaded.info.context_width)
    torch.testing.assert_close(padded.rows, given[0][1])
    alone = encode_text(loaded.pipe, "a red aeroplane")
    assert alone.words == ("<SoT>", "a", "red", "aerop", "lane", "<EoT>")
    torch.testing.assert_close(alone.rows, given[0][1, :6], rtol=1e-4, atol=1e-5)


def test_tokenizers_that_disagree_are_refused(monkeypatch):
    pipe = small_pipeline("sdxl")
    other = type(pipe.tokenizer)(
        vocab={token: number for number, token in enumerate(["!", "a", "<|startoftext|>"])}
        | {"<|endoftext|>": 3},
        merges=[],
    )
    monkeypatch.setattr(pipe, "tokenizer_2", other)
    with pytest.raises(MethodError, match="one vocabulary for both of its text encoders"):
        encode_text(pipe, "a cat")


@pytest.mark.parametrize("negative", ["", "blurred"])
def test_xl_draws_what_diffusers_draws(negative):
    """No negative prompt is zeros, as the model was trained; a size is the picture's own."""
    loaded = small_model("sdxl")
    ours = Synthesiser(loaded, settings(negative_prompt=negative)).draw(["a cat"], [3])
    pipe = loaded.with_parts(
        scheduler=scheduler_class("PNDM").from_config(loaded.pipe.scheduler.config)
    ).pipe
    theirs = pipe(
        prompt="a cat",
        **({"negative_prompt": negative} if negative else {}),
        height=HEIGHT,
        width=WIDTH,
        num_inference_steps=2,
        guidance_scale=7.5,
        latents=initial_noise([3], (4, HEIGHT // 8, WIDTH // 8)),
        output_type="np",
    ).images[0]
    assert np.abs(ours.pixels[0] - theirs).max() < 1e-6


def test_xl_is_told_sizes_and_crop():
    loaded = small_model("sdxl")
    given = []
    handle = loaded.pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["added_cond_kwargs"]), with_kwargs=True
    )
    told = settings(steps=1, original_size=(512, 768), crop=(8, 16))
    images = [
        Synthesiser(loaded, one).draw(["a cat", "a dog"], [1, 2]).images
        for one in (settings(steps=1), told)
    ]
    handle.remove()
    assert given[0]["time_ids"].tolist() == [[64.0, 128.0, 0.0, 0.0, 64.0, 128.0]] * 4
    assert given[-1]["time_ids"].tolist() == [[512.0, 768.0, 8.0, 16.0, 64.0, 128.0]] * 4
    assert given[0]["text_embeds"].shape == (4, 24)
    assert not (images[0] == images[1]).all()


def test_size_ids_are_in_the_fingerprint_and_refused_where_nobody_takes_them():
    plain = build_config({"model": {"id": "random:sdxl"}})
    told = build_config({"model": {"id": "random:sdxl"}, "synthesis": {"crop": [0, 64]}})
    assert "crop" not in plain.model_dump(mode="json")["synthesis"]
    assert fingerprint(plain, {}) != fingerprint(told, {})
    check_model_size(told)
    other = build_config({"model": {"id": "random:sd21"}, "synthesis": {"crop": [0, 64]}})
    with pytest.raises(ConfigError, match=r"synthesis\.crop .* random:sd21 is told nothing"):
        check_model_size(other)
    with pytest.raises(ConfigError, match=r"crop must be two numbers from 0 to 65536, got \[-8, 0"):
        build_config({"synthesis": {"crop": [-8, 0]}})
    with pytest.raises(ConfigError, match="small:sd21 is told nothing"):
        Synthesiser(small_model("sd21"), other.synthesis)


def test_facts_of_the_published_architectures():
    sd21, sdxl = (check_model(ModelConfig(id=f"random:{name}")) for name in ("sd21", "sdxl"))
    assert (sd21.context_width, sd21.height, sd21.cross_attention_layers) == (1024, 768, 15)
    assert (sdxl.context_width, sdxl.width, sdxl.cross_attention_layers) == (2048, 1024, 60)
    # one of XL's text encoders is CLIP's, but tokens of SD 1.5 are no rows of it
    assert sdxl.clip_vit_l14 is False
    assert (sd21.size_ids, sdxl.size_ids) == (False, True)


def test_layers_are_counted_where_transformers_differ_in_depth():
    """As SSD-1B has them (arXiv 2401.02677): every transformer has its own depth."""
    architecture = FAMILIES["sdxl"]
    unet = architecture.unet | {
        "transformer_layers_per_block": [0, [2, 1], [4, 3]],
        "reverse_transformer_layers_per_block": [[4, 4, 5], [2, 1, 1], 1],
    }
    texts = list(architecture.text_encoders.values())
    facts = facts_of("own", unet, architecture.vae, texts, safety_checker=False)
    with torch.device("meta"):
        built = type(small_pipeline("sdxl").unet)(**unet)
    assert facts.cross_attention_layers == len(cross_attention_layers(built)) == 3 + 7 + 13 + 4


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
def test_every_scheduler_keeps_to_velocities():
    """SD 2.1 predicts velocities; a scheduler that took them for noise would draw something."""
    config = small_pipeline("sd21").scheduler.config
    for kind in KarrasDiffusionSchedulers:
        if kind.name == "DPMSolverSDEScheduler":
            continue
        own = scheduler_class(kind.name).from_config(config).config
        assert own.prediction_type == "v_prediction", kind.name


@pytest.mark.parametrize("name", [pytest.param("sd21", marks=pytest.mark.slow), "sdxl"])
def test_a_folder_is_loaded_as_what_it_is(folders, name):
    facts, loaded = check(folders / name), small_model(name)
    again = load_pipeline(ModelConfig(id=str(folders / name), device="cpu"))
    assert again.info.digest == loaded.info.digest
    assert type(again.pipe) is type(loaded.pipe)
    assert facts.context_width == again.info.context_width == loaded.info.context_width
    assert facts.cross_attention_layers == len(cross_attention_layers(again.pipe.unet))
    assert not any(p.requires_grad for p in again.pipe.unet.parameters())
    images = [Synthesiser(one, settings(steps=1)).draw(["a cat"], [1]) for one in (loaded, again)]
    assert (images[0].pixels == images[1].pixels).all()


@pytest.mark.slow
def test_the_digest_covers_the_second_text_encoder(folders, sdxl_folder):
    from safetensors.torch import load_file, save_file

    path = sdxl_folder / "text_encoder_2/model.safetensors"
    tensors = load_file(path)
    tensors["text_projection.weight"][0, 0] += 1
    save_file(tensors, path, {"format": "pt"})
    digest = load_pipeline(ModelConfig(id=str(sdxl_folder), device="cpu")).info.digest
    assert digest != small_model("sdxl").info.digest


@pytest.mark.slow
def test_the_vae_of_xl_is_not_run_in_float16(folders):
    model = ModelConfig(id=str(folders / "sdxl"), device="cpu", dtype="float16")
    loaded = load_pipeline(model)
    assert loaded.pipe.unet.dtype == loaded.pipe.text_encoder_2.dtype == torch.float16
    assert loaded.pipe.vae.dtype == torch.float32
    exact = small_pipeline("sdxl").vae.decoder.conv_in.weight
    assert torch.equal(loaded.pipe.vae.decoder.conv_in.weight, exact)
    drawing = Synthesiser(loaded, settings()).decode(torch.ones(1, 4, 8, 8, dtype=torch.float16))
    assert drawing.decoded.dtype == torch.float32
    sd21 = load_pipeline(model.model_copy(update={"id": str(folders / "sd21")}))
    assert sd21.pipe.vae.dtype == torch.float16


@pytest.mark.slow
def test_xl_draws_pictures_again():
    """Bit for bit what diffusers' image-to-image makes of the same latents and noise."""
    loaded = small_model("sdxl")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    asked = SynthesisConfig(steps=4, height=64, width=64)
    ours = Recreator(loaded, asked, 0.5).draw(image, "a cat", 7)
    pipe = loaded.pipe
    pixels = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        latents = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    parts = pipe.components | {
        "scheduler": scheduler_class("PNDM").from_config(pipe.scheduler.config)
    }
    theirs = StableDiffusionXLImg2ImgPipeline(**parts)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        prompt=["a cat"],
        image=latents,
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=7.5,
        generator=[torch.Generator().manual_seed(7)],
        output_type="np",
    ).images[0]
    assert np.abs(ours.image - expected * 255).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("name", ["sd21", "sdxl"])
def test_tokens_are_optimised_and_kept_in_a_bank(name, tmp_path):
    """A pair of rows as wide as the model's, from the encoder's own rows, with a falling loss."""
    loaded = small_model(name)
    stored = StoredQueries()
    drawing = Synthesiser(loaded, settings(steps=1, height=64, width=64))
    drawing.draw(["a dog"], [1], listeners=[(stored, "unconditional")])
    layers = cross_attention_layers(loaded.pipe.unet)
    mask = torch.zeros(64, 64)
    mask[16:48, 8:40] = 1
    annotated = AnnotatedScores(PairScores(stored, layers), mask)
    initial = encode_text(loaded.pipe, "dog").rows[[0, 1]]
    asked = OptimiserSettings(
        loss="binary-cross-entropy",
        normalisation="maximum",
        learning_rate=20.0,
        decay=0.7,
        decay_every=12,
        steps=12,
    )
    found = optimise_pair([annotated], initial, asked)
    assert found.losses[-1] < 0.95 * found.losses[0]
    assert ((found.final - initial).abs().amax(dim=1) > 1e-3).all()
    place = tmp_path / "bank.safetensors"
    TokenBank(class_names=("dog",), pairs=found.best[None].numpy()).save(place)
    bank = TokenBank.load(place)
    bank.check_width(loaded.info.context_width)
    maps = PairMaps(layers, torch.from_numpy(bank.pairs))
    drawing.draw(["a dog"], [1], listeners=[(maps, "unconditional")])
    assert torch.equal(torch.from_numpy(bank.pairs[0]), found.best)
    other = small_model("sdxl" if name == "sd21" else "sd21").info
    with pytest.raises(ConfigError, match=f"rows of width {bank.width}, but {other.model} takes"):
        bank.check_width(other.context_width, other.model)


def test_heads_refuse_xl():
    with pytest.raises(MethodError, match="takes text_time as well: use a model of the Stable"):
        feature_levels(small_pipeline("sdxl").unet, before_upsampling=False, with_attention=False)


@pytest.mark.slow
def test_the_cost_of_a_call_is_counted_for_xl():
    cost = call_cost(skeleton_of(small_pipeline("sdxl").unet), 16, 16)
    assert 0 < cost.recording_flops < cost.flops
    # 20 maps of 8x8 and of 4x4, in float32
    assert cost.sum_bytes == 20 * (64 + 16) * 4


class TestRefused:
    @pytest.mark.parametrize(
        ("kind", "why"),
        [
            ("StableDiffusion3Pipeline", "draws with a transformer"),
            ("FluxPipeline", "draws with a transformer"),
            ("StableDiffusionXLImg2ImgPipeline", "draws from a picture"),
            ("StableDiffusionInpaintPipeline", "draws from a picture"),
            ("KandinskyPipeline", "is not one of those that can be drawn with"),
            (["evil", "Evil"], "is not one of those that can be drawn with"),
        ],
    )
    def test_other_pipelines_are_named_with_what_is_supported(self, sdxl_folder, kind, why):
        edit(sdxl_folder / "model_index.json", _class_name=kind)
        supported = "StableDiffusionPipeline, StableDiffusionXLPipeline can"
        with pytest.raises(ConfigError, match=rf"{why}.*{supported}") as caught:
            check(sdxl_folder)
        assert str(kind) in str(caught.value)

    def test_xl_as_another_pipeline(self, sdxl_folder):
        edit(sdxl_folder / "model_index.json", _class_name="StableDiffusionPipeline")
        with pytest.raises(ConfigError, match=r"text rows of width 80, text_encoder/config\.json"):
            check(sdxl_folder)

    @pytest.mark.parametrize(
        "name",
        [
            "text_encoder_2/config.json",
            "text_encoder_2/model.safetensors",
            "tokenizer_2/tokenizer.json",
        ],
    )
    def test_a_missing_file_is_named(self, sdxl_folder, name):
        (sdxl_folder / name).unlink()
        with pytest.raises(ConfigError, match=name.partition("/")[0]):
            check(sdxl_folder)

    @pytest.mark.parametrize(
        ("name", "key", "value", "message"),
        [
            ("unet", "addition_embed_type", None, "must be text_time in a StableDiffusionXL"),
            ("unet", "class_embed_type", "timestep", "class_embed_type .* must be null"),
            ("unet", "addition_time_embed_dim", 16, "must be 6 * addition_time_embed_dim"),
            ("unet", "addition_time_embed_dim", 2**40, "must be from 1 to"),
            ("unet", "projection_class_embeddings_input_dim", "x", "must be from 1 to"),
            ("text_encoder_2", "hidden_size", 64, "of width 80, text_encoder/config.json, text_"),
            ("text_encoder_2", "projection_dim", 25, "must be 6 * addition_time_embed_dim"),
            ("text_encoder_2", "projection_dim", None, "must be 6 * addition_time_embed_dim"),
            ("vae", "latents_mean", [0.0] * 4, "shifts the latents"),
        ],
    )
    def test_parts_that_do_not_fit(self, sdxl_folder, name, key, value, message):
        edit(sdxl_folder / name / "config.json", **{key: value})
        with pytest.raises(ConfigError, match=re.sub(r"([*])(?! must)", r"\\\1", message)):
            check(sdxl_folder)

    def test_a_setting_of_another_kind(self, sdxl_folder):
        edit(sdxl_folder / "model_index.json", force_zeros_for_empty_prompt="yes")
        with pytest.raises(ConfigError, match="must be true or false, got 'yes'"):
            settings_of(sdxl_folder)
