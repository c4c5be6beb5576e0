"""Which head a configuration means, and that configurations without one are as they were."""

import json

import pytest

from ovamgen import mini
from ovamgen.config import SynthesisConfig, build_config, fingerprint, flatten, identity
from ovamgen.errors import ConfigError

MINI = {"model": {"id": "mini"}}
FINGERPRINTS = {
    "mini": "0450b7a942bc526ed950ea408e927ef81748c44728371f209060b9a8ded260fa",
    "other": "32f738436d915a52045ba493b6c68a6c325b59f5004c272c4051a31cdea0a516",
}
HEADS = ("head", "head_mode", "head_tokens")


def config(method, *layers, model="mini", **attribution):
    given = {"model": {"id": model}, "attribution": {"method": method, **attribution}}
    return build_config(given, *layers)


def test_nothing_is_said_of_heads_where_the_method_has_none():
    for method in ("ovam", "daam", "attn2mask"):
        dumped = config(method).model_dump(mode="json")
        assert not set(HEADS) & set(dumped["attribution"])
        assert not [key for key in identity(config(method), {}) if "head" in key]
        assert build_config(dumped) == config(method)


def test_fingerprints_of_before_there_were_heads():
    # of commit d6bf450, the last one without these fields
    assert fingerprint(build_config(MINI), {}) == FINGERPRINTS["mini"]
    other = {
        "model": {"id": "x", "device": "cuda"},
        "masks": {"preset": "daam"},
        # what 'auto' was for it then
        "attribution": {"tokens": "words"},
    }
    assert fingerprint(build_config(other), {"captions": "0"}) == FINGERPRINTS["other"]


@pytest.mark.parametrize("method", ["grounded", "datasetdm"])
def test_the_embedded_model_has_a_head_and_the_methods_have_their_presets(method):
    own = config(method)
    assert (own.attribution.head, own.attribution.head_mode) == ("own", "official")
    assert own.attribution.head_file == str(mini.HEADS[method])
    masks = own.masks
    assert (masks.preset, masks.tau, masks.normalisation) == (method, 0.5, "none")
    assert not masks.crf.enabled
    assert build_config(json.loads(own.model_dump_json())) == own
    asked = config(method, {"masks": {"preset": "paper"}})
    assert (asked.masks.normalisation, asked.attribution.method) == ("max", method)


def test_the_digest_of_a_head_counts_and_not_its_place():
    first, second = (config("grounded", head=f"{name}.safetensors") for name in "ab")
    assert fingerprint(first, {"head": "1"}) == fingerprint(second, {"head": "1"})
    assert fingerprint(first, {"head": "1"}) != fingerprint(first, {"head": "2"})
    other = config("grounded", head="a.safetensors", head_mode="eval")
    assert fingerprint(first, {"head": "1"}) != fingerprint(other, {"head": "1"})
    assert "attribution.head_mode" in flatten(first.semantic())


def refused(*given, **attribution):
    with pytest.raises(ConfigError) as error:
        config(*given, **attribution)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_refused():
    none = refused("grounded", model="some/model")
    assert "the method grounded needs a head" in none
    assert "--head FILE" in none
    assert "is a head of mini" in refused("datasetdm", model="some/model", head="own")
    assert "the method is ovam" in refused("ovam", head="x.safetensors")
    assert "head_mode" in refused("ovam", head_mode="eval")
    assert "pair_mean is for the method datasetdm" in refused("grounded", head_tokens="pair_mean")
    attended = refused("grounded", {"masks": {"self_attention": "received"}})
    assert "masks.self_attention received is for methods that read attention" in attended


def test_an_unguided_drawing_has_not_both_halves():
    with pytest.raises(ConfigError, match="guidance"):
        config("grounded", {"synthesis": {**SynthesisConfig().model_dump(), "guidance": 1.0}})
