import numpy as np
import pytest

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import build_config, with_preset_file
from ovamgen.engine.opened_model import PipelineAttention
from ovamgen.errors import ConfigError, MethodError
from ovamgen.evaluate.setups import (
    check_classes,
    check_drawn_by,
    make_setup,
    sample_sections,
    tokens_of,
)
from ovamgen.pictures.picture_set import Picture, PictureTarget, open_pictures
from tests.evaluate.conftest import tiny
from tests.golden.reference import TINY_SD, tiny_sd
from tests.voc import VOC_CLASSES, class_by_name


def picture(*names, prompt="a photo of a cat"):
    targets = tuple(
        PictureTarget(entry=class_by_name(name), word_included=name in prompt) for name in names
    )
    return Picture(key="p", prompt=prompt, seed=1, targets=targets, height=64, width=64, digest="d")


def bank(path, names, width=24, seed=0):
    pairs = np.random.default_rng(seed).normal(size=(len(names), 2, width)).astype(np.float32)
    TokenBank(class_names=tuple(names), pairs=pairs).save(path)
    return str(path)


def setup(tokens="words", preset="ovam-voc-sim", text="{class}", **masks):
    config = tiny(attribution={"tokens": tokens}, masks={"preset": preset} | masks)
    return make_setup(config, name=f"{preset}-{tokens[:5]}", text=text)


def test_words_alone_and_in_the_prompt():
    """Methods 2.4: the last sub-token before the end, or the word's place in the whole prompt."""
    model = PipelineAttention(tiny_sd())
    attributed, problems = setup().targets(picture("cat"), model)
    (alone,) = attributed.targets
    assert not problems
    assert len(alone.rows) == 2 + alone.channel
    attributed, problems = setup(text="{prompt}").targets(picture("cat"), model)
    (within,) = attributed.targets
    assert not problems
    whole = model.encode("a photo of a cat")
    assert np.allclose(within.rows, whole.rows)
    assert within.channel == whole.last_subtoken()
    attributed, _ = setup(text="an image of a {class}").targets(picture("cat"), model)
    (image,) = attributed.targets
    assert len(image.rows) == len(model.encode("an image of a cat").rows)


def test_words_that_the_prompt_does_not_name_are_a_problem_of_their_own():
    model = PipelineAttention(tiny_sd())
    targets, problems = setup(text="{prompt}").targets(picture("dog", "cat"), model)
    assert [target.name for target in targets.targets] == ["cat"]
    assert list(problems) == [0]
    assert "is not in the prompt" in problems[0]


def test_tokens_of_a_bank_and_untrained_ones(tmp_path):
    model = PipelineAttention(tiny_sd())
    path = bank(tmp_path / "b.safetensors", ["cat", "dog"])
    found = setup(path)
    (target,) = found.targets(picture("dog"), model)[0].targets
    assert np.array_equal(target.rows, TokenBank.load(path).select(["dog"])[0])
    assert (found.tokens, found.words) == ("tokens", False)
    untrained = setup("untrained")
    (target,) = untrained.targets(picture("dog"), model)[0].targets
    assert target.is_pair
    assert untrained.tokens == "untrained pairs"
    assert setup().tokens == "words"


def test_banks_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match="rows of width 5"):
        setup(bank(tmp_path / "narrow.safetensors", ["cat"], width=5))
    lacking = setup(bank(tmp_path / "b.safetensors", ["cat"]))
    check_classes([lacking], [picture("cat")])
    with pytest.raises(ConfigError, match="lacks dog"):
        check_classes([lacking], [picture("cat"), picture("dog")])
    with pytest.raises(ConfigError, match="does not exist"):
        setup(str(tmp_path / "none.safetensors"))


def test_who_shares_a_recording(tmp_path):
    """The paper's DAAM reads OVAM's maps; other rows, halves or self-attention do not."""
    ovam, daam_ovam = setup(), setup(preset="daam-ovam")
    assert ovam.recorded == daam_ovam.recorded
    assert ovam.identity() != daam_ovam.identity()
    a = setup(bank(tmp_path / "a.safetensors", ["cat"]))
    b = setup(bank(tmp_path / "b.safetensors", ["cat"], seed=1))
    others = [a, b, setup(preset="daam"), setup(preset="attn2mask-supplementary")]
    attended = {"self_attention": "received", "normalised_at": "map"}
    others += [setup(**attended), setup(text="{prompt}"), setup("untrained")]
    assert len({found.recorded for found in [ovam, *others]}) == len(others) + 1


def test_a_preset_may_say_what_is_scored_by_it(tmp_path):
    assert [tokens_of(name) for name in ("paper", "ovam-words", "ovam-tokens")] == [
        "words",
        "words",
        "auto",
    ]
    file = tmp_path / "mine.yaml"
    file.write_text("attribution: {tokens: untrained}")
    assert tokens_of(str(file)) == "untrained"
    given = {"model": {"id": str(TINY_SD), "device": "cpu"}, "masks": {"preset": str(file)}}
    found = make_setup(build_config(*with_preset_file(given)))
    assert (found.preset, found.name) == ("mine", "ovam-mine-tokens")


def test_thresholds_do_not_change_what_is_recorded():
    assert setup(tau=0.2).identity() == setup(tau=0.3).identity()
    assert setup(tau=0.2).tau == 0.2
    assert setup().tau == 0.4


def test_unknown_methods_presets_and_texts():
    with pytest.raises(MethodError, match="did you mean 'ovam'"):
        make_setup(tiny(attribution={"method": "ovan"}))
    with pytest.raises(ConfigError, match="unknown preset 'ovam-voc'"):
        setup(preset="ovam-voc")
    with pytest.raises(ConfigError, match="--text must hold"):
        setup(text="a cat")


def test_samples_bring_their_settings(sample_folder, voc_folder):
    pictures = open_pictures(sample_folder)
    sections = sample_sections(pictures)
    assert sections["synthesis"]["steps"] == 2
    assert "device" not in sections["model"]
    check_drawn_by(pictures, tiny())
    with pytest.raises(ConfigError, match=r"synthesis.steps: 2 -> 5"):
        check_drawn_by(pictures, tiny(synthesis={"steps": 5}))
    with pytest.raises(ConfigError, match=r"model.id: .* -> mini"):
        check_drawn_by(pictures, tiny(model={"id": "mini"}))
    with pytest.raises(ConfigError, match=r"model.loras: None -> \[\{'path': 'a'"):
        check_drawn_by(pictures, tiny(model={**sections["model"], "loras": ["a"]}))
    real = open_pictures(voc_folder)
    assert sample_sections(real) == {"model": {}, "synthesis": {}}
    check_drawn_by(real, tiny(synthesis={"steps": 5}))


def test_every_class_can_be_looked_for():
    model = PipelineAttention(tiny_sd())
    names = [voc.name for voc in VOC_CLASSES]
    targets, problems = setup().targets(picture(*names), model)
    assert len(targets.sizes) == 20
    assert not problems
