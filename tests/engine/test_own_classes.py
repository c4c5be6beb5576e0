"""Classes that are not VOC's: what stands for them, super-classes, sets of many."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import built_in, load_class_set
from ovamgen.config import build_config
from ovamgen.diffusion.facts import CLIP_VIT_L14
from ovamgen.engine import engine as engine_module
from ovamgen.engine.engine import Engine
from ovamgen.engine.token_choice import open_tokens, tokens_in_words
from ovamgen.errors import ConfigError
from ovamgen.masks.binarise import make_label_map
from ovamgen.records import SampleSpec
from tests.golden.reference import TINY_SD, tiny_sd


def class_set(*entries, name="own"):
    return ClassSet.from_record({"name": name, "classes": list(entries)})


def config(classes, **sections):
    base = {
        "classes": classes,
        "model": {"id": str(TINY_SD), "device": "cpu"},
        "synthesis": {"steps": 1, "height": 64, "width": 64},
        "attribution": {"tokens": "untrained"},
        "runtime": {"cpu_threads": 1},
    }
    for name, values in sections.items():
        base[name] = base.get(name, {}) | values
    return build_config(base)


def spec(classes, *names, index=0, prompt="a photograph of a bus and a car"):
    return SampleSpec(
        key=f"{index:011d}",
        prompt=prompt,
        caption=prompt,
        targets=tuple(target_of(classes.by_name(name)) for name in names),
        seed=index,
        caption_id=index,
        image_id=-1,
        word_included=True,
        word_included_published=True,
    )


PARTS = class_set({"name": "bus"}, {"name": "car"}, {"name": "cat"})
VEHICLE = class_set(
    {"id": 3, "name": "cat"}, {"id": 9, "name": "vehicle", "phrases": ["bus", "car"]}
)


@pytest.mark.parametrize("tokens", ["words", "untrained"])
def test_the_map_of_a_super_class_is_the_largest_of_its_phrases(tokens):
    asked = {"attribution": {"tokens": tokens}}
    parts = Engine.load(config(PARTS, **asked)).synthesise([spec(PARTS, "bus")])
    whole = Engine.load(config(VEHICLE, **asked)).synthesise([spec(VEHICLE, "vehicle")])
    assert whole.class_ids == (3, 9)
    np.testing.assert_array_equal(whole.images, parts.images)
    bus, car, cat = parts.heatmaps[0]
    np.testing.assert_array_equal(whole.heatmaps[0], [cat, np.maximum(bus, car)])
    assert whole.heatmap_max[0] == (parts.heatmap_max[0][2], max(parts.heatmap_max[0][:2]))


def test_one_phrase_in_the_prompt_is_enough_for_daam():
    asked = {"attribution": {"method": "daam", "tokens": "words"}}
    engine = Engine.load(config(VEHICLE, **asked))
    found = engine.synthesise([spec(VEHICLE, "vehicle", prompt="a photograph of a car")])
    assert not found.failures
    lacking = engine.synthesise([spec(VEHICLE, "cat", prompt="a photograph of a car")])
    assert [failure.stage for failure in lacking.failures] == ["masks"]


def test_of_a_large_set_the_targets_of_the_batch_are_recorded(monkeypatch):
    classes = built_in("ade150")
    asked = [spec(classes, "tree"), spec(classes, "sky", "wall", index=1)]
    some = Engine.load(config(classes)).synthesise(asked)
    names = [classes.by_id(class_id).name for class_id in some.class_ids]
    assert names == ["wall", "sky", "tree"]
    assert not some.all_classes
    monkeypatch.setattr(engine_module, "ALWAYS_RECORDED", 150)
    every = Engine.load(config(classes)).synthesise(asked)
    assert every.all_classes
    assert every.class_ids == tuple(range(1, 151))
    rows = [every.class_ids.index(class_id) for class_id in some.class_ids]
    np.testing.assert_array_equal(some.images, every.images)
    np.testing.assert_allclose(some.heatmaps, every.heatmaps[:, rows], atol=1e-3)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Pairs of cat, bus and car, of the width of the tiny model."""
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    pairs = np.random.default_rng(0).normal(size=(3, 2, tiny_sd().info.context_width))
    TokenBank(class_names=("cat", "bus", "car"), pairs=pairs.astype(np.float32)).with_tau(
        0.6, "a guess"
    ).save(path)
    return str(path)


def test_a_bank_that_lacks_a_class_is_refused_or_helped_out_by_words(bank):
    classes = load_class_set("cat,zebra")
    asked = {"attribution": {"tokens": bank}}
    with pytest.raises(ConfigError, match=r"lacks zebra .*attribution\.missing=words"):
        Engine.load(config(classes, **asked))
    mixed = config(classes, attribution={"tokens": bank, "missing": "words"})
    resolved, read = open_tokens(mixed)
    assert resolved.masks.taus(["cat", "zebra"]) == [0.6, 0.4]
    assert tokens_in_words(resolved, read, asked=True).endswith("zebra by words, tau 0.4")
    # what is written down is what is read again
    again = build_config(resolved.model_dump(mode="json"))
    assert again.masks.taus(["cat", "zebra"]) == [0.6, 0.4]
    cat, zebra = Engine.load(mixed).synthesise([spec(classes, "cat", "zebra")]).heatmaps[0]
    only = Engine.load(config(classes, attribution={"tokens": "words"}))
    words = only.synthesise([spec(classes, "cat", "zebra")]).heatmaps[0]
    np.testing.assert_array_equal(zebra, words[1])
    assert not np.array_equal(cat, words[0])


@pytest.mark.parametrize(
    ("classes", "tokens", "told"),
    [
        ("voc", "words", "classes by their words (as asked); threshold tau 0.7"),
        ("cat,zebra", "auto", "(no tokens ship for zebra; 'ovamgen tokens optimize' learns them)"),
        ("cat,dog", "auto", "tokens: mini's own; threshold tau 0.55, of the tokens"),
    ],
)
def test_a_run_says_what_stands_for_its_classes(classes, tokens, told):
    asked = build_config(
        {"classes": classes, "model": {"id": "mini"}, "attribution": {"tokens": tokens}}
    )
    assert told in tokens_in_words(*open_tokens(asked), asked=True)


def test_classes_that_minis_bank_lacks_have_its_threshold_of_words():
    asked = {"classes": "cat,zebra", "attribution": {"missing": "words"}}
    chosen, _ = open_tokens(build_config({"model": {"id": "mini"}}, asked))
    assert chosen.masks.taus(["cat", "zebra"]) == [0.55, 0.7]


def test_models_with_clip_vit_l14_take_the_published_tokens(tmp_path):
    """Known by the form of the text encoder, from the files and before any of them is loaded."""
    asked = {"attribution": {"tokens": "auto"}}
    chosen, bank = open_tokens(config(built_in("voc"), **asked))
    assert (chosen.attribution.tokens, chosen.masks.tau, bank) == ("words", 0.4, None)
    assert "for this text encoder" in tokens_in_words(chosen, bank, asked=False)

    folder = shutil.copytree(TINY_SD, tmp_path / "sd15")
    for part, changes in (
        ("unet", {"cross_attention_dim": 768}),
        ("text_encoder", CLIP_VIT_L14),
    ):
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(changes)))
    model = {"model": {"id": str(folder), "device": "cpu"}}
    chosen, bank = open_tokens(config(built_in("voc"), **asked, **model))
    assert chosen.attribution.tokens == "voc-sd15"
    assert (chosen.masks.tau, bank.rows_alone) == (0.8, True)
    assert "which OVAM's authors optimised" in tokens_in_words(chosen, bank, asked=False)
    chosen, bank = open_tokens(config(load_class_set("cat,zebra"), **asked, **model))
    assert chosen.attribution.tokens == "words"
    assert "no tokens ship for zebra" in tokens_in_words(chosen, bank, asked=False)


def test_pairs_of_its_phrases_stand_for_a_super_class(bank):
    found = Engine.load(config(VEHICLE, attribution={"tokens": bank}))
    maps = found.synthesise([spec(VEHICLE, "vehicle")]).heatmaps[0]
    parts = Engine.load(config(PARTS, attribution={"tokens": bank}))
    bus, car, cat = parts.synthesise([spec(PARTS, "bus")]).heatmaps[0]
    np.testing.assert_array_equal(maps, [cat, np.maximum(bus, car)])


def test_words_have_their_threshold_where_a_class_names_none(bank):
    classes = load_class_set("cat,zebra")
    asked = {"attribution": {"tokens": bank, "missing": "words"}}
    named = open_tokens(config(classes, masks={"class_tau": {"zebra": 0.3}}, **asked))[0]
    assert named.masks.taus(["cat", "zebra"]) == [0.6, 0.3]
    # one threshold that somebody names is that of all
    one = open_tokens(config(classes, masks={"tau": 0.5}, **asked))[0]
    assert one.masks.taus(["cat", "zebra"]) == [0.5, 0.5]
    with pytest.raises(ConfigError, match="class_tau must name classes of cat-zebra, got 'dog'"):
        config(classes, masks={"class_tau": {"dog": 0.3}})


def test_masks_are_cut_at_the_threshold_of_each_class():
    heatmaps = np.array([[[1.0, 0.5]], [[0.5, 1.0]]], np.float32)
    settings = config(PARTS, masks={"tau": 0.4, "crf": {"enabled": False}}).masks
    image = np.zeros((1, 2, 3), np.uint8)

    def labels(taus):
        return make_label_map(heatmaps, [2, 1], image, settings, taus).labels.tolist()

    assert labels(None) == labels([0.4, 0.4]) == [[2, 1]]
    assert labels([0.4, 0.999]) == [[2, 1]]
    alone = replace(make_label_map(heatmaps[:1], [2], image, settings, [0.4]))
    assert alone.labels.tolist() == [[2, 2]]
    assert make_label_map(heatmaps[:1], [2], image, settings, [0.6]).labels.tolist() == [[2, 0]]


def test_published_rows_are_paired_with_the_start_row_of_the_model(tmp_path):
    alone = TokenBank.load("voc-sd15")
    assert alone.rows_alone
    assert alone.tau == 0.8
    with pytest.raises(ConfigError, match="class rows alone"):
        alone.select(["cat"])
    start = np.arange(768, dtype=np.float32)
    paired = alone.paired_with(start)
    np.testing.assert_array_equal(paired.select(["cat", "dog"])[:, 0], [start, start])
    np.testing.assert_array_equal(paired.pairs[:, 1], alone.pairs[:, 1])
    alone.save(tmp_path / "copy.safetensors")
    assert TokenBank.load(tmp_path / "copy.safetensors").sha256 == alone.sha256


@pytest.mark.slow
def test_the_shipped_bank_draws_the_maps_of_the_imported_file(shared, tmp_path):
    from ovamgen.config import ModelConfig
    from ovamgen.tokens.banks import import_tokens

    file = str(tmp_path / "imported.safetensors")
    model = {"id": "random:sd15", "device": "cpu"}
    import_tokens(str(shared / "data/ovam/tokens_VOC.npy"), ModelConfig(**model), file)
    voc = built_in("voc")
    found = []
    for tokens in (file, "voc-sd15"):
        asked = {"model": model, "attribution": {"tokens": tokens}}
        engine = Engine.load(config(voc, **asked))
        found.append(engine.synthesise([spec(voc, "bus", "car")]))
    np.testing.assert_array_equal(found[0].heatmaps, found[1].heatmaps)
    assert found[0].heatmap_max == found[1].heatmap_max
