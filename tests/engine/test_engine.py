from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from ovamgen.attribution.ovam import PairMaps
from ovamgen.attribution.targets import untrained_targets
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import default_classes
from ovamgen.config import build_config
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.diffusion.recorder import cross_attention_layers
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.diffusion.text import encode_text
from ovamgen.engine import opened_model
from ovamgen.engine.engine import Engine, normalise
from ovamgen.errors import ConfigError, MethodError
from ovamgen.records import SampleSpec
from ovamgen.run.shard import SampleEngine
from tests.diffusion.test_synthesis import tiny_checker
from tests.golden.reference import TINY_SD, tiny_sd
from tests.voc import VOC_CLASSES

PHRASES = default_classes().phrase_by_name

CALLS, HEADS, LAYERS = 3, 4, 15


def config(**sections):
    base = {
        "model": {"id": str(TINY_SD), "device": "cpu"},
        "synthesis": {"steps": 2, "height": 64, "width": 128},
        "attribution": {"tokens": "untrained"},
        "runtime": {"cpu_threads": 1},
    }
    for name, values in sections.items():
        base[name] = base.get(name, {}) | values
    return build_config(base)


def specs(*seeds, prompt="a photograph of a cat"):
    return [
        SampleSpec(
            key=f"{index:011d}",
            prompt=prompt,
            caption=prompt,
            targets=(target_of(VOC_CLASSES[7]),),
            seed=seed,
            caption_id=1,
            image_id=-1,
            word_included=True,
            word_included_published=True,
        )
        for index, seed in enumerate(seeds)
    ]


@pytest.fixture(scope="module")
def engine():
    return Engine.load(config())


def test_it_is_what_runs_need(engine):
    needed: SampleEngine = engine
    assert needed.info == tiny_sd().info
    assert needed.tokens_digest == ""
    assert engine.class_ids == tuple(range(1, 21))
    assert torch.get_num_threads() == 1


def test_batches_hold_images_and_normalised_maps_of_all_classes(engine):
    batch = engine.synthesise(specs(1, 2))
    assert batch.images.shape == (2, 64, 128, 3)
    assert batch.images.dtype == np.uint8
    assert batch.heatmaps.shape == (2, 20, 8, 16)
    assert batch.heatmaps.dtype == np.float16
    assert (batch.heatmaps.max((2, 3)) == 1).all()
    assert batch.heatmaps.min() >= 0
    assert batch.heatmaps.std((2, 3)).min() > 1e-3
    assert batch.failures == ()
    assert batch.unsafe == (False, False)
    # sums of sigmoids of both signs, over their maximum
    fractions = np.array(batch.heatmap_max)
    assert fractions.shape == (2, 20)
    assert (fractions > 0).all()
    assert (fractions < 1).all()


def test_maps_are_those_of_the_pair_sums(engine):
    loaded = tiny_sd()
    layers = cross_attention_layers(loaded.pipe.unet)
    start, cat = (encode_text(loaded.pipe, "cat").rows[row] for row in (0, -2))
    maps = PairMaps(layers, torch.stack([start, cat])[None])
    settings = config().synthesis
    Synthesiser(loaded, settings).draw(
        ["a photograph of a cat"], [1], listeners=[(maps, "unconditional")]
    )
    raw = maps.result()[0, 0].numpy()
    assert maps.sums.maximum == CALLS * HEADS * LAYERS
    batch = engine.synthesise(specs(1))
    np.testing.assert_allclose(batch.heatmaps[0, 7], raw / raw.max(), atol=1e-3)
    assert batch.heatmap_max[0][7] == pytest.approx(raw.max() / (CALLS * HEADS * LAYERS), rel=1e-5)


def test_the_same_spec_in_batches_of_1_and_4(engine):
    """The noise is the same to the bit, so images and maps differ by rounding alone."""
    alone, together = engine.synthesise(specs(5)), engine.synthesise(specs(5, 6, 7, 8))
    assert np.abs(alone.images[0].astype(int) - together.images[0].astype(int)).max() <= 1
    np.testing.assert_allclose(alone.heatmaps[0], together.heatmaps[0], atol=2e-3)
    again = engine.synthesise(specs(5, 6, 7, 8))
    assert (again.images == together.images).all()
    assert (again.heatmaps == together.heatmaps).all()


def test_threads_draw_what_one_thread_draws(engine):
    """In a worker with two threads one batch is drawn while another is handed over."""
    batches = [specs(5, 6), specs(7, 8), specs(9, 10)]
    with ThreadPoolExecutor(3) as threads:
        together = [*threads.map(engine.synthesise, batches)]
    for beside, batch in zip(together, batches, strict=True):
        alone = engine.synthesise(batch)
        assert (beside.images == alone.images).all()
        assert (beside.heatmaps == alone.heatmaps).all()
        assert beside.heatmap_max == alone.heatmap_max


def test_words_are_attributed_as_text():
    words = Engine.load(config(attribution={"tokens": "words"}))
    assert words.tokens_digest == ""
    batch = words.synthesise(specs(1))
    pairs = Engine.load(config()).synthesise(specs(1))
    assert batch.heatmaps.shape == pairs.heatmaps.shape
    assert (batch.images == pairs.images).all()
    # three rows or more share what two rows share
    assert np.mean(batch.heatmap_max) < np.mean(pairs.heatmap_max)


def bank(pipe, **changes):
    targets = untrained_targets(PHRASES, lambda text: encode_text(pipe, text))
    pairs = np.stack([target.rows.numpy() for target in targets])
    return TokenBank(**{"class_names": tuple(PHRASES), "pairs": pairs} | changes)


def test_a_bank_is_read_whatever_its_order(tmp_path, engine):
    whole = bank(tiny_sd().pipe)
    turned = bank(
        tiny_sd().pipe, class_names=whole.class_names[::-1], pairs=whole.pairs[::-1].copy()
    )
    turned.save(tmp_path / "bank.safetensors")
    read = Engine.load(config(attribution={"tokens": str(tmp_path / "bank.safetensors")}))
    assert read.tokens_digest == turned.sha256
    assert (read.synthesise(specs(3)).heatmaps == engine.synthesise(specs(3)).heatmaps).all()


def test_a_bank_of_another_width_names_both(tmp_path):
    bank(tiny_sd().pipe, pairs=np.zeros((20, 2, 768), np.float32)).save(tmp_path / "b.safetensors")
    with pytest.raises(
        ConfigError, match=r"b.safetensors has rows of width 768.*tiny-sd.*width 24"
    ):
        Engine.load(config(attribution={"tokens": str(tmp_path / "b.safetensors")}))


def test_a_bank_that_lacks_a_class_names_it(tmp_path):
    whole = bank(tiny_sd().pipe)
    few = bank(tiny_sd().pipe, class_names=whole.class_names[:19], pairs=whole.pairs[:19])
    few.save(tmp_path / "b.safetensors")
    with pytest.raises(ConfigError, match="lacks tvmonitor"):
        Engine.load(config(attribution={"tokens": str(tmp_path / "b.safetensors")}))


@pytest.mark.parametrize(
    ("sections", "error", "reason"),
    [
        ({"attribution": {"method": "ovan"}}, MethodError, "did you mean 'ovam'"),
        ({"attribution": {"tokens": "nowhere.safetensors"}}, ConfigError, "does not exist"),
        ({"synthesis": {"scheduler": "PNDMM"}}, ConfigError, "did you mean 'PNDM'"),
        ({"model": {"id": "nowhere/at/all"}}, ConfigError, "neither built in nor a folder"),
    ],
)
def test_what_is_wrong_is_said(sections, error, reason):
    with pytest.raises(error, match=reason):
        Engine.load(config(**sections))


def test_a_missing_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"asked for on cuda.*--device cpu"):
        Engine.load(config(model={"device": "cuda"}))


def test_a_broken_sample_does_not_take_its_neighbours_along(monkeypatch, engine):
    real = Synthesiser.begin

    def begin(self, prompts, seeds, **others):
        noise = torch.stack(
            [torch.full(self.latent_shape, float("nan" if s == 2 else s)) for s in seeds]
        )
        return real(self, prompts, seeds, latents=noise, **others)

    monkeypatch.setattr(Synthesiser, "begin", begin)
    batch = engine.synthesise(specs(1, 2, 3))
    assert [spec.seed for spec in batch.specs] == [1, 3]
    assert len(batch.images) == len(batch.heatmaps) == len(batch.heatmap_max) == 2
    (failure,) = batch.failures
    assert (failure.key, failure.stage) == ("00000000001", "synthesis")
    assert "finite latents expected" in failure.reason
    nothing = engine.synthesise(specs(2))
    assert nothing.images.shape == (0, 64, 128, 3)
    assert nothing.heatmaps.shape == (0, 20, 8, 16)


def test_daam_fails_the_samples_whose_prompt_lacks_the_word():
    """A word absent from the prompt is an error that says so; its neighbours are made."""
    daam = Engine.load(config(attribution={"method": "daam", "tokens": "words"}))
    (absent,) = specs(2, prompt="a photograph of a dog")
    batch = daam.synthesise([*specs(1), replace(absent, key="9" * 11)])
    assert [spec.seed for spec in batch.specs] == [1]
    (failure,) = batch.failures
    assert (failure.key, failure.stage) == ("9" * 11, "masks")
    assert "'cat' is not in the prompt 'a photograph of a dog'" in failure.reason
    assert batch.heatmaps[0].any((1, 2)).tolist() == [i == 7 for i in range(20)]
    assert 0 < batch.heatmap_max[0][7] < 1


def test_the_received_factor_is_on_normalised_maps(engine):
    masks = {"self_attention": "received", "self_attention_low": 0.5}
    factored = Engine.load(config(masks=masks)).synthesise(specs(4))
    plain = engine.synthesise(specs(4))
    assert (factored.images == plain.images).all()
    assert factored.heatmap_max == plain.heatmap_max
    ratio = factored.heatmaps[0].astype(float) / plain.heatmaps[0]
    # one factor for all classes, from 0.5 to 1
    assert ratio.std(0).max() < 2e-3
    np.testing.assert_allclose([ratio.mean(0).min(), ratio.mean(0).max()], [0.5, 1], atol=2e-3)


@pytest.mark.parametrize("method", ["daam-ovam", "attn2mask"])
def test_other_methods_draw_the_same_images(engine, method):
    batch = Engine.load(config(attribution={"method": method})).synthesise(specs(4))
    plain = engine.synthesise(specs(4))
    assert (batch.images == plain.images).all()
    assert (batch.heatmaps == plain.heatmaps).all() == (method == "daam-ovam")


@pytest.mark.parametrize(("policy", "made"), [("flag", 2), ("drop", 0), ("off", 2)])
def test_the_safety_policy(monkeypatch, policy, made):
    asked = config(synthesis={"safety": policy})
    loaded = load_pipeline(asked.model)
    loaded.pipe.safety_checker, loaded.pipe.feature_extractor = tiny_checker(-2.0)
    # the golden pipeline has no checker in its folder
    monkeypatch.setattr(opened_model, "load_pipeline", lambda model, safety: loaded)
    batch = Engine.load(asked).synthesise(specs(1, 2))
    assert len(batch.specs) == made
    assert batch.unsafe == (policy == "flag",) * made
    assert [failure.stage for failure in batch.failures] == ["safety"] * (2 - made)


def cuda_is_full():
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    "allocate",
    [
        cuda_is_full,
        lambda: torch.empty(1 << 55, dtype=torch.uint8),
        lambda: np.empty(1 << 55, np.uint8),
    ],
    ids=["cuda", "torch", "numpy"],
)
def test_a_batch_that_does_not_fit_says_so(monkeypatch, engine, allocate):
    monkeypatch.setattr(Synthesiser, "begin", lambda self, *_, **__: allocate())
    with pytest.raises(ConfigError, match=r"2 images of 64x128 .* make plan.batch_size or the im"):
        engine.synthesise(specs(1, 2))


def test_normalise_by_hand():
    maps = torch.tensor([[[[1.0, 4.0]], [[0.0, 0.0]], [[2.0, torch.nan]]]])
    heatmaps, fractions = normalise(maps, 8.0)
    assert heatmaps[0, :2].tolist() == [[[0.25, 1.0]], [[0.0, 0.0]]]
    assert not heatmaps[0, 2].any()
    assert fractions[0, :2].tolist() == [0.5, 0.0]
    assert fractions[0, 2].isnan()


def test_min_max_by_hand():
    maps = torch.tensor([[[[1.0, 3.0, 2.0]], [[5.0, 5.0, 5.0]], [[2.0, torch.inf, 1.0]]]])
    heatmaps, fractions = normalise(maps, 10.0, how="min-max")
    assert heatmaps[0].tolist() == [[[0.0, 1.0, 0.5]], [[0.0] * 3], [[0.0] * 3]]
    torch.testing.assert_close(fractions[0, :2], torch.tensor([0.3, 0.5]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sd15_sized_random_weights_on_a_cpu(monkeypatch):
    """512x512, 2 steps: 64x64 maps out of 15 layers, in less than 20 GB."""
    import resource

    asked = build_config(
        {
            "model": {"id": "random:sd15", "device": "cpu"},
            "synthesis": {"steps": 2},
            "runtime": {"cpu_threads": 2},
        }
    )
    loaded = load_pipeline(asked.model)
    monkeypatch.setattr(opened_model, "load_pipeline", lambda model, safety: loaded)
    sd15 = Engine.load(asked)
    assert sd15.info.cross_attention_layers == 15
    batch = sd15.synthesise(specs(1))
    assert batch.images.shape == (1, 512, 512, 3)
    assert batch.images.std() > 5
    assert batch.heatmaps.shape == (1, 20, 64, 64)
    assert (np.array(batch.heatmap_max) > 0.3).all()
    synthesiser = Synthesiser(loaded, asked.synthesis)
    layers = cross_attention_layers(loaded.pipe.unet)
    from ovamgen.attribution.ovam import TextMaps

    maps = TextMaps(layers, [torch.randn(2, 768)])
    synthesiser.draw(["a cat"], [1], listeners=[(maps, "unconditional")])
    assert maps.sums.maximum == 3 * 8 * 15
    assert sorted(maps.sums.by_size) == [(16, 16), (32, 32), (64, 64)]
    torch.testing.assert_close(maps.result()[0].sum(1), torch.full((1, 64, 64), 360.0))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak resident memory {peak_bytes / 1e9:.1f} GB")
    assert peak_bytes < 20e9
