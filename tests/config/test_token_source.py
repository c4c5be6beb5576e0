import pytest

from ovamgen.config import SHIPPED, TokenSource, build_config


@pytest.mark.parametrize(
    ("asked", "model", "name"),
    [
        ("auto", "mini", "own"),
        ("auto", "random:sd15", "untrained"),
        ("auto", "owner/name", "words"),
        ("words", "mini", "words"),
        ("bank.safetensors", "mini", "bank.safetensors"),
    ],
)
def test_who_stands_for_the_classes(asked, model, name):
    assert TokenSource.choose(asked, model).name == name
    config = build_config({"model": {"id": model}, "attribution": {"tokens": asked}})
    assert config.attribution.token_source == TokenSource(name)


@pytest.mark.parametrize(
    ("name", "kind", "label", "described", "tau"),
    [
        ("words", "words", "words", "words", None),
        ("untrained", "untrained", "tokens", "untrained pairs", 0.7),
        ("own", "bank", "tokens", "tokens", 0.55),
        ("s3://bucket/bank.safetensors", "bank", "tokens", "tokens", None),
    ],
)
def test_what_can_be_told_before_anything_is_read(name, kind, label, described, tau):
    source = TokenSource(name)
    assert (source.kind, source.label, source.described) == (kind, label, described)
    assert source.words == (kind == "words")
    assert source.untrained == (kind == "untrained")
    assert (source.file is None) == (kind != "bank")
    assert source.tau(0.7) == tau


def test_a_shipped_bank_is_a_file_of_its_own_model():
    (shipped,) = SHIPPED.values()
    assert TokenSource("own").file == str(shipped.file)
    assert shipped.file.exists()
    with pytest.raises(ValueError, match="own is the bank of mini, the model is owner/name"):
        TokenSource.choose("own", "owner/name")
