"""The configuration: layers, presets, suggestions, and what reaches the fingerprint."""

import contextlib
from importlib import resources

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.attribution.token_bank import TokenBank, open_bank
from ovamgen.config import (
    DEFAULT_REVISION,
    METHODS,
    RunConfig,
    build_config,
    fingerprint,
    identity,
    load_preset,
    parse_overrides,
    preset_names,
    read_config_file,
    with_preset_file,
)
from ovamgen.errors import ConfigError

MINI = {"model": {"id": "mini"}}


def test_later_layers_win_and_presets_lie_below_all():
    file = {"masks": {"preset": "ovam-cvpr24", "self_attention_low": 0.9}, "plan": {"seed": 1}}
    config = build_config(MINI, file, {"plan": {"seed": 2}})
    assert config.plan.seed == 2
    assert config.masks.tau == 0.75  # from the preset
    assert config.masks.self_attention_low == 0.9  # the file over the preset


def test_the_paper_preset_is_the_default():
    config = build_config(MINI)
    assert (config.masks.preset, config.masks.word_tau, config.masks.crf.clip) == (
        "paper",
        0.4,
        0.01,
    )


def test_minis_tokens_name_the_threshold():
    config = build_config(MINI)
    assert (config.masks.tau, config.masks.tau_from) == (
        0.55,
        "of the tokens (0.8 where they name none)",
    )
    given = build_config(MINI, {"masks": {"tau": 0.55}})
    assert given.masks.tau_from == "as masks.tau says"
    # one configuration, whoever named the number
    assert fingerprint(config, {"tokens": "x"}) == fingerprint(given, {"tokens": "x"})
    preset = build_config(MINI, {"masks": {"preset": "ovam-cvpr24"}})
    assert (preset.masks.tau, preset.masks.tau_from) == (0.75, "of the preset ovam-cvpr24")
    assert build_config(MINI, {"masks": {"tau": None}}).masks == config.masks


@pytest.mark.parametrize(
    ("named", "masks", "tau"),
    [
        (0.6, {}, 0.6),
        (None, {}, 0.8),
        (0.6, {"preset": "ovam-cvpr24"}, 0.75),
        (0.6, {"preset": "attn2mask-supplementary"}, 0.8),
        (0.6, {"preset": "ovam-cvpr24", "tau": 0.3}, 0.3),
        (0.6, {"beta": 0.2}, 0.4),
    ],
)
def test_a_bank_names_the_threshold_where_nobody_else_does(tmp_path, named, masks, tau):
    bank = TokenBank(class_names=("cat",), pairs=np.ones((1, 2, 8), np.float32))
    if named is not None:
        bank = bank.with_tau(named, "given")
    bank.save(tmp_path / "bank.safetensors")
    tokens = {"tokens": str(tmp_path / "bank.safetensors")}
    asked = build_config(MINI, {"attribution": tokens, "masks": masks})
    config, read = open_bank(asked)
    assert read.tau == named
    assert config.masks.tau == pytest.approx(tau)
    given = build_config(
        MINI, {"attribution": tokens, "masks": {**masks, "tau": tau, "beta": None}}
    )
    assert config.semantic()["masks"] | {"beta": None} == given.semantic()["masks"]
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("layer", "tau"),
    [
        ({}, 0.7),
        ({"attribution": {"method": "daam"}}, 0.7),
        # what the comparison found best for it (docs/results/comparison)
        ({"attribution": {"method": "attn2mask"}}, 0.4),
        ({"model": {"id": "random:sd15"}}, 0.4),
        ({"masks": {"word_tau": 0.4}}, 0.4),
        ({"masks": {"preset": "ovam-cvpr24"}}, 0.4),
        ({"masks": {"tau": 0.5}}, 0.5),
    ],
)
def test_words_take_the_threshold_for_words(layer, tau):
    """The published one, and that of the model where nobody names one."""
    config = build_config(MINI, {"attribution": {"tokens": "words"}}, layer)
    assert config.masks.tau == tau
    # what is written down is what is read again
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


def test_every_preset_builds_and_names_its_source():
    assert preset_names() == [
        "attn2mask-notebook-coco-cap",
        "attn2mask-notebook-voc-sim",
        "attn2mask-supplementary",
        "daam",
        "daam-ovam",
        "dataset-diffusion",
        "datasetdm",
        "grounded",
        "ovam-coco-cap",
        "ovam-cvpr24",
        "ovam-tokens",
        "ovam-voc-sim",
        "ovam-words",
        "paper",
    ]
    for name in preset_names():
        config = build_config(MINI, {"masks": {"preset": name}})
        assert config.masks.preset == name
        assert RunConfig.model_validate(config.model_dump(mode="json")) == config
        assert "source" not in load_preset(name)
        text = (resources.files("ovamgen") / "presets" / f"{name}.yaml").read_text("utf-8")
        cited = yaml.safe_load(text)["source"]
        assert "methods" in cited or name in ("paper", "dataset-diffusion")


def test_a_preset_file(tmp_path):
    """Its values lie below all others and are recorded; the file is not needed again."""
    file = tmp_path / "mine.yaml"
    file.write_text(
        "source: me\nattribution: {resolutions: [16]}\nmasks: {word_tau: 0.3, token_tau: 0.7}\n"
    )
    layers = (
        {**MINI, "attribution": {"tokens": "words"}, "masks": {"tau": None}},
        {"masks": {"preset": str(file), "self_attention": "affinity"}},
    )
    config = build_config(*with_preset_file(*layers))
    file.unlink()
    assert (config.masks.preset, config.masks.tau) == ("mine (file)", 0.3)
    assert (config.attribution.resolutions, config.masks.self_attention) == ((16,), "affinity")
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    again = build_config(config.model_dump(mode="json"))
    assert again == config
    assert fingerprint(again, {}) == fingerprint(config, {})
    assert with_preset_file(MINI) == (MINI,)
    over = build_config(*with_preset_file({"masks": {"preset": "paper", "tau": 0.2}}))
    assert (over.masks.preset, over.masks.tau) == ("paper", 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"preset file .*mine\.yaml does not exist"),
        ("- a", r"preset file .* must hold sections such as 'masks:'"),
        ("plan: {limit: 3}", r"must hold the sections attribution, masks, synthesis, got 'plan'"),
        ("masks: 3", r"must hold keys below 'masks:', got 3"),
        ("masks: {preset: paper}", r"is a preset itself"),
        ("masks: {tua: 0.3}", r"unknown configuration key 'masks\.tua'"),
    ],
)
def test_preset_files_that_are_none(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        build_config(*with_preset_file({"masks": {"preset": str(file)}}))


def test_no_file_is_opened_for_a_configuration_that_came_with_a_corpus(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("masks: {word_tau: 0.3}")
    with pytest.raises(ConfigError, match="unknown preset"):
        build_config({"masks": {"preset": str(file)}})


@pytest.mark.parametrize(
    ("preset", "word", "token", "crf"),
    [
        ("daam-ovam", 0.4, 0.8, False),
        ("ovam-voc-sim", 0.4, 0.75, True),
        ("ovam-coco-cap", 0.5, 0.8, True),
        ("attn2mask-notebook-voc-sim", 0.4, 0.6, False),
        ("attn2mask-notebook-coco-cap", 0.4, 0.6, True),
        ("attn2mask-supplementary", 0.5, 0.8, True),
    ],
)
def test_presets_are_the_rows_of_methods_7_5(preset, word, token, crf):
    for tokens, tau in (("words", word), ("untrained", token)):
        layer = {"masks": {"preset": preset}, "attribution": {"tokens": tokens}}
        config = build_config(MINI, layer)
        assert config.masks.tau == pytest.approx(tau)
        assert config.masks.crf.enabled == crf
        assert preset.startswith(config.attribution.method)
        attn2mask = config.attribution.method == "attn2mask"
        assert config.synthesis.steps == (100 if attn2mask else 30)
        assert (config.masks.normalisation == "min-max") == attn2mask


def test_presets_for_words_and_for_tokens():
    """OVAM's ablation: the 16x16 layers are best for words, all of them for tokens (methods 8)."""
    published = build_config(MINI, {"masks": {"preset": "ovam-voc-sim"}})
    words, tokens = (
        build_config(MINI, {"masks": {"preset": f"ovam-{kind}"}}) for kind in ("words", "tokens")
    )
    assert (words.attribution.resolutions, words.attribution.tokens) == ((16,), "words")
    assert (tokens.attribution.resolutions, tokens.attribution.tokens) == ((), "own")
    assert (words.masks.tau, tokens.masks.tau) == (0.4, published.masks.tau)
    same = {"preset": "ovam-voc-sim"}
    assert tokens.masks.model_copy(update=same) == published.masks


def test_what_is_given_wins_over_the_other_sections_of_a_preset():
    layer = {
        "masks": {"preset": "attn2mask-supplementary"},
        "synthesis": {"steps": 7},
        "attribution": {"method": "ovam"},
    }
    config = build_config(MINI, layer)
    assert (config.synthesis.steps, config.attribution.method) == (7, "ovam")


def test_a_threshold_that_is_given_takes_the_place_of_a_presets_beta():
    masks = build_config(MINI, {"masks": {"preset": "attn2mask-supplementary", "tau": 0.3}}).masks
    assert (masks.tau, masks.beta) == (0.3, None)


def test_every_method_has_its_half():
    halves = {
        method: build_config(MINI, {"attribution": {"method": method}}).attribution
        for method in METHODS
    }
    assert {method: a.branch for method, a in halves.items()} == {
        "attn2mask": "unconditional",
        "daam": "conditional",
        "daam-ovam": "unconditional",
        "datasetdm": "unconditional",
        "grounded": "unconditional",
        "ovam": "unconditional",
    }
    assert all(a.half == a.branch for a in halves.values())
    other = {"attribution": {"method": "daam", "branch": "unconditional"}}
    assert build_config(MINI, other).attribution.half == "unconditional"
    without = {"attribution": {"method": "daam"}, "synthesis": {"guidance": 1.0}}
    assert build_config(MINI, without).attribution.branch == "conditional"


def test_the_default_model_is_pinned_and_on_the_gpu_in_half_precision():
    model = build_config().model
    assert model.revision == DEFAULT_REVISION
    assert (model.device, model.dtype) == ("cuda", "float16")


def test_a_hub_id_may_carry_its_revision():
    model = build_config({"model": {"id": "someone/model@abc"}}).model
    assert (model.id, model.revision) == ("someone/model", "abc")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"plan": {"shard_sise": 1}}, "unknown configuration key 'plan.shard_sise': did you mean"),
        ({"modle": {}}, "unknown configuration key 'modle': did you mean 'model'?"),
        ({"masks": {"crf": {"clipp": 1}}}, "'masks.crf.clipp': did you mean 'clip'?"),
        ({"synthesis": {"height": 100}}, "height must be a multiple of 8, got 100: try 96 or 104"),
        ({"masks": {"preset": "papr"}}, "unknown preset 'papr': did you mean 'paper'?"),
        ({"plan": {"seed": "x"}}, "plan.seed: "),
        ({"masks": {"ignore_low": 0.5}}, "ignore_low and ignore_high go together"),
        ({"masks": {"ignore_low": 0.5, "ignore_high": 0.4}}, "ignore_low must be below"),
        ({"masks": {"tau": 0.4, "beta": 0.0}}, "masks.beta 0.0 means masks.tau 0.5, got 0.4"),
        ({"masks": {"word_beta": 0.1}}, "token_beta and word_beta go together"),
        ({"masks": {"beta": 0.1, "normalised_at": "image"}}, "beta needs masks.normalised_at map"),
        (
            {"masks": {"preset": "ovam-voc-sim", "self_attention": "received"}},
            "received needs masks.normalised_at map",
        ),
        ({"masks": {"self_attention": "reveived"}}, "masks.self_attention: "),
        ({"masks": {"preset": "ovam-voc-sin"}}, "did you mean 'ovam-voc-sim'?"),
        (
            {"synthesis": {"guidance": 1.0}, "attribution": {"branch": "unconditional"}},
            "branch unconditional needs synthesis.guidance above 1",
        ),
        ({"model": {"id": "a/b@c", "revision": "d"}}, "give one"),
        ({"plan": 3}, "plan: "),
    ],
)
def test_bad_values_are_refused_in_one_line(layer, message):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        build_config(layer)
    assert message in str(caught.value)


def test_overrides_are_nested_and_typed():
    sets = parse_overrides(["plan.limit=5", "masks.crf.enabled=false", "out=/x=y", "model.id=a"])
    assert sets == {
        "plan": {"limit": 5},
        "masks": {"crf": {"enabled": False}},
        "out": "/x=y",
        "model": {"id": "a"},
    }


@pytest.mark.parametrize("pair", ["plan.limit", "=3", ""])
def test_an_override_without_a_value_is_refused(pair):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_overrides([pair])


def test_an_override_may_not_be_a_value_and_a_section():
    with pytest.raises(ConfigError, match="already given a value"):
        parse_overrides(["plan=3", "plan.limit=5"])


def test_a_config_file_must_be_a_mapping(tmp_path):
    path = tmp_path / "run.yaml"
    for text, message in [("- 1", "must hold sections"), ("a: [", "cannot be read as YAML")]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_config_file(path)
    path.write_text("")
    assert read_config_file(path) == {}
    with pytest.raises(ConfigError, match="does not exist"):
        read_config_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config_file(tmp_path)


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader_of_configurations(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "run.yaml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        assert isinstance(read_config_file(path), dict)


def test_the_fingerprint_follows_what_determines_samples_and_nothing_else():
    base = build_config(MINI, {"out": "a"})
    inputs = {"captions": "1" * 64}
    same = [
        build_config(MINI, {"out": "b"}),
        build_config(MINI, {"runtime": {"workers": 7, "runner": "local"}}),
        build_config(MINI, {"plan": {"captions": "elsewhere.json"}}),
        RunConfig.model_validate(base.model_dump(mode="json")),
    ]
    assert {fingerprint(config, inputs) for config in same} == {fingerprint(base, inputs)}
    other = [
        build_config(MINI, {"plan": {"seed": 1}}),
        build_config(MINI, {"masks": {"tau": 0.7}}),
        build_config(MINI, {"synthesis": {"steps": 29}}),
        build_config(MINI, {"shards": {"heatmaps": True}}),
        build_config(MINI, {"runtime": {"cpu_threads": 3}}),
    ]
    marks = {fingerprint(config, inputs) for config in other}
    marks |= {fingerprint(base, {"captions": "2" * 64}), fingerprint(base, inputs)}
    assert len(marks) == len(other) + 2


def test_on_a_gpu_the_threads_of_the_cpu_do_not_count():
    inputs = {"captions": "1" * 64}
    one, two = (build_config({"runtime": {"cpu_threads": n}}) for n in (1, 2))
    assert fingerprint(one, inputs) == fingerprint(two, inputs)


def test_a_bank_counts_by_its_content_not_by_its_path():
    configs = [build_config(MINI, {"attribution": {"tokens": path}}) for path in ("a", "b")]
    inputs = {"captions": "1" * 64, "tokens": "2" * 64}
    assert len({fingerprint(config, inputs) for config in configs}) == 1
    assert "attribution.tokens" not in identity(configs[0], inputs)


def test_dense_crf_at_half_resolution_counts_only_where_it_is_used():
    """Corpora from before there was the field go on: nothing that is written of them changed."""
    inputs = {"captions": "1" * 64}
    base, half = (
        build_config(MINI, {"masks": {"tau": 0.8, "crf": {"half_resolution": on}}})
        for on in (False, True)
    )
    assert base == build_config(MINI, {"masks": {"tau": 0.8}})
    assert set(base.model_dump(mode="json")["masks"]["crf"]) == {
        "enabled",
        "unary",
        "iterations",
        "clip",
        "bilateral_weight",
        "bilateral_sxy_px",
        "bilateral_srgb",
        "gaussian_weight",
        "gaussian_sxy_px",
    }
    # as the version before computed it
    assert (
        fingerprint(base, inputs)
        == "f634c4accda0ccd097e783142646e6ae243d24d65a32be715bb796c9c0167a22"
    )
    assert fingerprint(half, inputs) != fingerprint(base, inputs)
    assert identity(half, inputs)["masks.crf.half_resolution"] is True
    assert RunConfig.model_validate(half.model_dump(mode="json")) == half
    assert not any(
        build_config(MINI, {"masks": {"preset": name}}).masks.crf.half_resolution
        for name in preset_names()
    )
