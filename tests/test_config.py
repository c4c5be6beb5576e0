"""The configuration: layers, presets, suggestions, and what reaches the fingerprint."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.config import (
    DEFAULT_REVISION,
    RunConfig,
    build_config,
    fingerprint,
    identity,
    load_preset,
    parse_overrides,
    preset_names,
    read_config_file,
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
    assert (config.masks.preset, config.masks.tau, config.masks.crf.clip) == ("paper", 0.8, 0.01)


def test_words_take_the_threshold_for_words():
    config = build_config(MINI, {"attribution": {"tokens": "words"}})
    assert config.masks.tau == 0.4


def test_every_preset_builds_and_names_its_source():
    assert preset_names() == ["ovam-cvpr24", "paper"]
    for name in preset_names():
        assert build_config(MINI, {"masks": {"preset": name}}).masks.preset == name
        assert "source" not in load_preset(name)


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
        ({"synthesis": {"guidance": 1.0}}, "branch unconditional needs synthesis.guidance above 1"),
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
