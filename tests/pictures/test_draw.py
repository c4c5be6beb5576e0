import numpy as np
import pytest
from typer.testing import CliRunner

from ovamgen.classes.labels import target_of
from ovamgen.classes.loading import built_in
from ovamgen.config import build_config
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.pictures.draw import caption_samples, class_samples, draw_samples, published_order
from ovamgen.pictures.sample_folder import SampleFolder
from ovamgen.records import SampleSpec
from tests.golden.reference import TINY_SD
from tests.voc import VOC_CLASSES

VOC = built_in("voc")


def config(**synthesis):
    return build_config(
        {
            "model": {"id": str(TINY_SD), "device": "cpu"},
            "synthesis": {"steps": 1, "height": 64, "width": 128} | synthesis,
            "runtime": {"cpu_threads": 1},
        }
    )


def spec(caption_id, *class_ids, prompt="a cat on a mat", published=True):
    return SampleSpec(
        key=f"{caption_id:011d}",
        prompt=prompt,
        caption=prompt,
        targets=tuple(target_of(VOC_CLASSES[i - 1]) for i in class_ids),
        seed=0,
        caption_id=caption_id,
        image_id=-1,
        word_included=True,
        word_included_published=published,
    )


def test_the_authors_order_has_tv_before_train():
    names = [voc.name for voc in published_order(VOC)]
    assert names[-3:] == ["sofa", "tvmonitor", "train"]
    assert names[:17] == [voc.name for voc in VOC_CLASSES[:17]]


def test_seeds_are_those_of_the_published_draw():
    """Legacy numpy: set_seed(1996), then one randint for all samples, class after class."""
    drawn = np.random.RandomState(1996).randint(0, 2**32 - 1, size=40, dtype=np.int64).tolist()
    samples = class_samples(per_class=2)
    assert [sample.seed for sample in samples] == drawn
    tv = [sample for sample in samples if sample.class_name == "tvmonitor"]
    assert [sample.seed for sample in tv] == drawn[36:38]
    assert tv[0].prompt == "A photograph of a tv"
    assert all(sample.word_included for sample in samples)


def test_the_article_is_the_classs_own_but_in_the_published_prompts():
    (plane,) = class_samples(per_class=1, names=["aeroplane"])
    assert plane.prompt == "A photograph of an aeroplane"
    (plane,) = class_samples(per_class=1, names=["aeroplane"], prompt="A {class} and a {class}")
    assert plane.prompt == "An aeroplane and an aeroplane"
    (plane,) = class_samples(per_class=1, names=["aeroplane"], to_the_letter=True)
    assert plane.prompt == "A photograph of a aeroplane"
    everything = class_samples(per_class=1)
    assert [s.prompt for s in everything if " an " in s.prompt] == ["A photograph of an aeroplane"]


def test_a_choice_of_classes_keeps_its_seeds():
    everything = class_samples(per_class=3)
    chosen = class_samples(per_class=3, names=["tv", "dining table"])
    assert {s.class_name for s in chosen} == {"tvmonitor", "diningtable"}
    assert set(chosen) <= set(everything)
    assert len(chosen) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "a photograph"}, r"must hold '\{class\}', got 'a photograph'"),
        ({"names": ["zebra"]}, "unknown class"),
        ({"per_class": 0}, "at least one sample a class"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_bad_wishes(change, message):
    with pytest.raises(ConfigError, match=message):
        class_samples(**({"per_class": 1} | change))


def test_captions_become_samples_of_their_first_target():
    samples = caption_samples([spec(12, 8, 12), spec(7, 20, published=False)], seed=5)
    assert [s.key for s in samples] == ["cat-12", "tvmonitor-7"]
    assert [s.word_included for s in samples] == [True, False]
    expected = np.random.RandomState(5).randint(0, 2**32 - 1, size=2, dtype=np.int64)
    assert [s.seed for s in samples] == expected.tolist()
    with pytest.raises(ConfigError, match="no caption becomes a sample"):
        caption_samples([])


def test_the_folder_is_completed_and_refuses_other_wishes(tmp_path):
    samples = class_samples(per_class=1, names=["cat", "dog"])
    out = tmp_path / "samples"
    told = []
    done = draw_samples(
        config(), samples, out, on_start=lambda n, m: told.append((n, m)), on_picture=told.clear
    )
    assert (done.drawn, done.found, done.failures) == (2, 0, {})
    folder = SampleFolder.open(out)
    assert folder.samples == samples
    assert folder.settings["synthesis"]["steps"] == 1
    cat, dog = samples
    assert folder.image(cat).shape == (64, 128, 3)
    before = [folder.image_path(s).read_bytes() for s in samples]

    folder.image_path(dog).unlink()
    folder.image_path(cat).touch()
    again = draw_samples(config(), samples, out, on_start=lambda n, m: told.append((n, m)))
    assert (again.drawn, again.found) == (1, 1)
    assert told == [(2, 1)]
    assert [folder.image_path(s).read_bytes() for s in samples] == before

    with pytest.raises(ConfigError, match=r"other samples .*synthesis.steps: 1 -> 2"):
        draw_samples(config(steps=2), samples, out)
    with pytest.raises(ConfigError, match=r"2 samples -> 1"):
        draw_samples(config(), samples[:1], out)
    with pytest.raises(ConfigError, match=r"cat-000: .*dog-000"):
        draw_samples(config(), samples[1:], out)


def test_a_model_that_is_not_there_leaves_no_folder(tmp_path):
    missing = build_config({"model": {"id": "nowhere/at/all", "device": "cpu"}})
    with pytest.raises(ConfigError, match="neither built in nor a folder"):
        draw_samples(missing, class_samples(per_class=1), tmp_path / "samples")
    assert not (tmp_path / "samples").exists()


def test_pictures_that_fail_are_told_and_others_kept(tmp_path, monkeypatch):
    from ovamgen.diffusion import synthesis
    from ovamgen.errors import SampleError

    broken = iter([SampleError("finite latents expected"), None, None, None])
    monkeypatch.setattr(synthesis, "_error", lambda *_: next(broken))
    samples = class_samples(per_class=1, names=["cat", "dog"])
    done = draw_samples(config(), samples, tmp_path / "samples")
    assert done.drawn == 1
    assert list(done.failures) == ["cat-000"]
    assert not done.folder.image_path(samples[0]).exists()
    with pytest.raises(IncompleteError, match="1 of 2 samples could not be drawn"):
        done.check_complete()


def test_the_command(tmp_path):
    from ovamgen.cli import app

    out = tmp_path / "samples"
    words = ["samples", "--model", str(TINY_SD), "--device", "cpu", "--out", str(out)]
    size = ["--steps", "1", "--height", "64", "--width", "64"]
    result = CliRunner().invoke(app, [*words, *size, "--classes", "cow, sofa"])
    assert result.exit_code == 0, result.output
    assert "(2; 2 drawn now, 0 there before)" in result.output
    assert [s.class_name for s in SampleFolder.open(out).samples] == ["cow", "sofa"]

    captions = tmp_path / "captions.csv"
    captions.write_text("id,caption\n4,a cow in a field\n9,nothing here\n")
    words[-1] = str(tmp_path / "captioned")
    result = CliRunner().invoke(app, [*words, *size, "--captions", str(captions)])
    assert result.exit_code == 0, result.output
    (only,) = SampleFolder.open(words[-1]).samples
    assert (only.key, only.prompt, only.word_included) == ("cow-4", "a cow in a field", True)


@pytest.mark.parametrize("words", [["--captions", "x", "--prompt", "{class}"], ["--limit", "2"]])
def test_options_that_contradict_each_other(tmp_path, words):
    from ovamgen.cli import app

    result = CliRunner().invoke(app, ["samples", "--out", str(tmp_path / "s"), *words])
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "s").exists()
