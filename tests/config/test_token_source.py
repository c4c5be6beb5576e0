import pytest

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import built_in, load_class_set
from ovamgen.config import SHIPPED, TokenSource, build_config, pairs_of

VOC = built_in("voc")


@pytest.mark.parametrize(
    ("asked", "model", "name"),
    [
        ("auto", "mini", "own"),
        ("auto", "random:sd15", "untrained"),
        ("auto", "owner/name", "auto"),
        ("words", "mini", "words"),
        ("bank.safetensors", "mini", "bank.safetensors"),
    ],
)
def test_who_stands_for_the_classes(asked, model, name):
    assert TokenSource.choose(asked, model, VOC, "refuse").name == name
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
    for name, shipped in SHIPPED.items():
        assert TokenSource(name).file == str(shipped.file)
        assert TokenBank.load(name).class_names == shipped.class_names
    with pytest.raises(ValueError, match="own is the bank of mini, the model is owner/name"):
        TokenSource.choose("own", "owner/name", VOC, "refuse")


PETS = ClassSet.from_record(
    {
        "name": "pets",
        "classes": [{"name": "cat"}, {"name": "vehicle", "phrases": ["car", "motor-bike"]}],
    }
)


@pytest.mark.parametrize(
    ("classes", "missing", "mini", "sd15"),
    [
        (VOC, "refuse", "own", "voc-sd15"),
        (PETS, "refuse", "own", "voc-sd15"),
        (load_class_set("cat,zebra"), "refuse", "words", "words"),
        (load_class_set("cat,zebra"), "words", "own", "voc-sd15"),
        (load_class_set("zebra,giraffe"), "words", "words", "words"),
    ],
)
def test_auto_is_the_shipped_bank_where_it_has_the_classes(classes, missing, mini, sd15):
    assert TokenSource.choose("auto", "mini", classes, missing).name == mini
    assert TokenSource.of_text_encoder(classes, missing, clip_vit_l14=True).name == sd15
    assert TokenSource.of_text_encoder(classes, missing, clip_vit_l14=False).name == "words"


def test_which_pairs_stand_for_a_class():
    names = SHIPPED["voc-sd15"].class_names
    found = {entry.name: pairs_of(entry, names) for entry in PETS.classes}
    assert found == {"cat": ("cat",), "vehicle": ("car", "motorbike")}
    (table, zebra) = load_class_set("dining table,zebra").classes
    assert pairs_of(table, names) == ("diningtable",)
    assert pairs_of(zebra, names) is None
    # a pair of its own comes before those of its phrases
    assert pairs_of(PETS.classes[1], ["car", "motorbike", "Vehicle"]) == ("Vehicle",)
    # and some of its phrases are not enough
    assert pairs_of(PETS.classes[1], ["car"]) is None
