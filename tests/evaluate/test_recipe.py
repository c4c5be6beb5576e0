"""The search for recipes: its maps, its choice, its report, and the presets that it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml

from ovamgen.attribution.parts import AttentionParts
from ovamgen.config import build_config, with_preset_file
from ovamgen.console.progress import Progress
from ovamgen.diffusion.pipeline import load_pipeline
from ovamgen.errors import ConfigError, MethodError
from ovamgen.evaluate.compare import CompareRequest
from ovamgen.evaluate.judging import judge
from ovamgen.evaluate.recipe import command, search
from ovamgen.evaluate.recipe.command import record_pictures, search_recorded
from ovamgen.evaluate.recipe.grid import (
    OVAM,
    QUICK_REFINEMENTS,
    REFINEMENTS,
    Recipe,
    recipes,
    stretches_below,
    with_recipe,
)
from ovamgen.evaluate.recipe.recording import record_parts
from ovamgen.evaluate.recipe.report import preset_text, verdict
from ovamgen.evaluate.recipe.search import with_setup
from ovamgen.evaluate.recording import record
from ovamgen.evaluate.scoring import Interval, iou_table, miou_difference
from ovamgen.evaluate.setups import configure, make_setup
from ovamgen.masks.iou import TAUS
from ovamgen.pictures.picture_set import open_pictures
from tests.evaluate.conftest import tiny
from tests.golden.reference import TINY_SD, tiny_sd

DRAWN = {"steps": 8, "height": 64, "width": 64, "scheduler": "DDIM", "guidance": 7.5}


class Counted(Progress):
    """How many drawings were to be made, and how many were."""

    def __init__(self, stop=False):
        super().__init__("things")
        self.started, self.added, self.stop = [], 0, stop

    def start(self, total, done=0):
        self.started.append((total, done))
        if self.stop:
            raise KeyboardInterrupt

    def add(self, count=1):
        self.added += count


def build(asked):
    return build_config(
        {"runtime": {"cpu_threads": 1}, "synthesis": DRAWN},
        {section: {k: v for k, v in asked[section].items() if v is not None} for section in asked},
    )


def request(dataset, out, **changes):
    asked = {"model": {"id": str(TINY_SD), "device": "cpu"}, "synthesis": {"steps": 8}}
    given = {"strength": 0.5, "text": "{class}", "seed": 0, "draws": 50, "quick": True}
    # the golden model has no bank: pairs of its encoder's own rows stand for tokens
    given |= {"tokens": "untrained", "asked": asked}
    return CompareRequest(dataset=str(dataset), out=str(out), **given | changes)


def searched(dataset, out, **changes):
    drawings, scored = Counted(), Counted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_pipeline", lambda _: tiny_sd())
        # a part of the grid, and less refining, for time
        patch.setattr(command, "recipes", lambda *told, **how: recipes(*told, **how)[::9])
        patch.setattr(search, "FINALISTS", 1)
        patch.setattr(search, "CRF_STEPS", 1)
        recorded = record_pictures(request(dataset, out, **changes), build, drawings)
        done = search_recorded(recorded, scored, command="ovamgen evaluate recipe")
    return recorded, done, drawings, scored


@pytest.fixture(scope="module")
def whole(voc_folder, tmp_path_factory):
    """A search on six pictures, with its folder."""
    out = tmp_path_factory.mktemp("recipe")
    return (*searched(voc_folder, out), out)


def test_maps_of_every_kind_of_recipe_are_those_of_a_recording_with_it(tmp_path):
    """By the embedded model: the random one's maps are so flat that min-max shows rounding."""
    pictures = open_pictures("mini", limit=1)
    [picture] = pictures.pictures
    asked = {"model": {"id": "mini"}, "synthesis": {"steps": 6}}
    setups = [
        replace(
            make_setup(
                configure(pictures, asked | {"attribution": {"tokens": tokens}}, build_config)
            ),
            name=tokens,
        )
        for tokens in ("words", "own")
    ]
    loaded = load_pipeline(setups[0].config.model)
    source = record_parts(
        pictures,
        setups,
        tmp_path,
        strength=0.5,
        stretches=stretches_below(500),
        loaded=loaded,
        counting=Counted(),
    )
    assert source.layer_sizes([picture]) == (8, 16)
    called = source.called([picture])
    assert called == stretches_below(500)
    read = [((), None), ((16,), called[0]), ((8,), None), ((), called[2]), ((8,), (0, 333))] * 2
    tried = [
        Recipe(refinement=refinement, resolutions=layers, calls=calls)
        for refinement, (layers, calls) in zip(REFINEMENTS, read, strict=True)
    ]
    made = [
        replace(with_setup(setup, recipe), name=f"{setup.name}-{number}")
        for setup in setups
        for number, recipe in enumerate(tried)
    ]
    direct = record(pictures, made, tmp_path, strength=0.5, loaded=loaded)
    different = set()
    for other in made:
        expected = direct.maps(other, picture)
        found = source.maps(replace(other, name=other.name.partition("-")[0]), picture)
        assert found.problems == expected.problems == {}
        assert found.difference == expected.difference
        np.testing.assert_allclose(found.maps, expected.maps, atol=2e-5, err_msg=other.name)
        different.add(found.maps.tobytes())
    assert len(different) == len(made)


def test_the_recipe_is_chosen_on_one_part_and_reported_on_the_other(whole):
    recorded, done, _, scored, _ = whole
    parts, [source] = recorded.parts, recorded.recordings
    assert not parts.tune_keys & parts.report_keys
    assert [found.setup.name for found in done.searched.found] == ["words", "tokens"]
    for found, setup in zip(done.searched.found, recorded.setups, strict=True):
        assert [trial.recipe for trial in found.trials] == list(done.searched.grid)
        for trial in (*found.trials[::7], *found.finals):
            again = judge(
                parts.tune,
                with_setup(setup, trial.recipe),
                source,
                tau=trial.tau,
                crf=trial.crf,
                only=parts.tune_keys,
            )
            assert iou_table(again.final, draws=10).miou.value == pytest.approx(trial.miou)
            if not trial.crf:
                assert trial.miou == np.nanmax(again.mious())
        everything = [*found.trials, *found.finals]
        best = max(trial.miou for trial in everything)
        assert found.chosen.trial.miou == best
        own = [trial.miou for trial in everything if trial.recipe == OVAM]
        assert len(own) == 2
        assert found.ovam.trial.recipe == OVAM
        assert found.ovam.trial.miou == max(own)
        for reported in (found.ovam, found.chosen):
            assert set(reported.judged.final.keys) == parts.report_keys
            assert reported.judged.tau == reported.trial.tau
            assert (reported.judged.refined is not None) == reported.trial.crf
        gain = miou_difference(found.ovam.judged.final, found.chosen.judged.final, draws=50, seed=0)
        assert found.gain == gain
    assert scored.started == [(scored.added, 0)]


def test_a_preset_file_makes_the_masks_that_were_reported(whole, tmp_path):
    recorded, done, *_, out = whole
    keys, presets = recorded.parts.report_keys, []
    for found, setup in zip(done.searched.found, recorded.setups, strict=True):
        file = out / f"recipe-{setup.name}.yaml"
        assert file.read_text() == preset_text(done.searched, found)
        assert file.read_text().startswith(f"# {verdict(found)}\n")
        base = {"model": {"id": str(TINY_SD), "device": "cpu"}, "runtime": {"cpu_threads": 1}}
        tokens = {} if setup.words else {"attribution": {"tokens": "untrained"}}
        layers = (base | tokens, {"masks": {"preset": str(file)}, "synthesis": DRAWN})
        config = build_config(*with_preset_file(*layers))
        assert config.masks.preset == f"recipe-{setup.name} (file)"
        assert config.attribution.tokens == ("words" if setup.words else "untrained")
        presets.append(replace(setup, config=config))
    shown = tuple(one for one in recorded.parts.report.pictures if one.key in keys)
    pictures = replace(recorded.parts.report, pictures=shown)
    direct = record(pictures, presets, tmp_path, strength=0.5, loaded=tiny_sd())
    for found, preset in zip(done.searched.found, presets, strict=True):
        judged = judge(pictures, preset, direct)
        assert judged.tau == found.chosen.trial.tau
        assert (judged.refined is not None) == found.chosen.trial.crf
        wanted = found.chosen.judged.final
        # sums in another order: a pixel on a threshold may fall on either side
        assert np.abs(judged.final.intersections - wanted.intersections).max() <= 3
        assert np.abs(judged.final.unions - wanted.unions).max() <= 3


def test_the_other_files(whole):
    _, done, *_, out = whole
    data = json.loads((out / "recipe.json").read_text())
    assert data == done.data
    assert data["recipes"] == len(data["found"][0]["without_crf"]) == len(done.searched.grid)
    page = (out / "recipe.md").read_text()
    for found, told in zip(done.searched.found, data["found"], strict=True):
        assert verdict(found) in page
        assert told["sentence"] == verdict(found)
        assert told["chosen"]["scores"]["miou"]["value"] == round(found.chosen.table.miou.value, 6)
        assert f"## With {found.setup.tokens}" in page
    assert "```text\novamgen evaluate recipe\n```" in page
    assert "Timesteps above 500 were never called here" in page
    few = f"ntervals over {len(done.searched.parts.report_keys)} pictures are narrower"
    assert few in page
    assert any(few in line for line in done.lines())
    assert few in (out / "recipe-words.yaml").read_text()
    assert (
        yaml.safe_load((out / "recipe-words.yaml").read_text())["attribution"]["method"] == "ovam"
    )


def test_a_search_goes_on_with_what_was_recorded(whole, voc_folder):
    """Equal files, whatever was there; a file that is damaged or of another search is made anew."""
    *_, out = whole
    files = {path: path.read_bytes() for path in out.glob("recipe*")}
    parts = sorted(out.glob("parts/val/*.npz"))
    assert len(parts) == 6
    parts[0].write_bytes(parts[0].read_bytes()[:1000])
    parts[1].unlink()
    _, _, drawings, _ = searched(voc_folder, out)
    assert (drawings.started, drawings.added) == ([(6, 4)], 2)
    assert {path: path.read_bytes() for path in out.glob("recipe*")} == files
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_pipeline", lambda _: tiny_sd())
        drawings = Counted(stop=True)
        with pytest.raises(KeyboardInterrupt):
            record_pictures(request(voc_folder, out, seed=1), build, drawings)
        assert drawings.started == [(6, 0)]


@pytest.mark.parametrize(
    ("gain", "told", "verb"),
    [
        ((0.05, 0.01, 0.1), "beats", "a recipe beats ovam at its tuned threshold"),
        ((0.05, -0.01, 0.1), "level", "no recipe is shown to beat ovam"),
        ((-0.05, -0.1, -0.01), "worse", "is worse, mIoU"),
    ],
)
def test_the_sentence_goes_by_the_interval_of_the_difference(whole, gain, told, verb):
    found = whole[1].searched.found[0]
    trial = replace(found.chosen.trial, recipe=Recipe(resolutions=(8,)))
    interval = Interval(value=gain[0], low=gain[1], high=gain[2])
    other = replace(found, chosen=replace(found.chosen, trial=trial), gain=interval)
    assert other.verdict == told
    assert verb in verdict(other)
    assert f"{100 * gain[0]:+.1f} ({100 * gain[1]:+.1f} to {100 * gain[2]:+.1f})" in verdict(other)
    own = replace(found, chosen=found.ovam, gain=interval)
    assert own.verdict == "none"
    assert "none of the grid is better" in verdict(own)


def test_the_grid():
    stretches = stretches_below(1000)
    assert stretches == ((0, 333), (334, 666), (667, 1000))
    grid = recipes((16, 32, 64), stretches)
    assert grid[0] == OVAM
    assert len(grid) == len(set(map(str, grid))) == 7 * 6 * len(REFINEMENTS)
    assert Recipe(resolutions=(16, 64), calls=(334, 1000)) in grid
    quick = recipes((8, 16), stretches, quick=True)
    assert len(quick) == 3 * 4 * len(QUICK_REFINEMENTS)
    assert quick[0] == OVAM
    # a model of one layer size, called in one stretch: only refinements are left
    assert len(recipes((16,), stretches[:1])) == len(REFINEMENTS)
    assert OVAM.changes(grid[-1]) == 3
    assert TAUS[0] == 0.05
    with pytest.raises(ConfigError, match="must leave 3 timesteps or more, got 2"):
        stretches_below(2)


@pytest.mark.parametrize("refinement", REFINEMENTS, ids=lambda one: one.name)
def test_every_recipe_is_a_configuration(refinement):
    recipe = Recipe(resolutions=(8,), calls=(0, 333), refinement=refinement)
    config = with_recipe(tiny(attribution={"tokens": "words"}), recipe)
    assert (config.attribution.resolutions, config.attribution.calls) == ((8,), (0, 333))
    for name, value in refinement.masks.items():
        assert getattr(config.masks, name) == value
    assert config.masks.tau == 0.4


def test_what_cannot_be_searched(voc_folder, tmp_path):
    def daam(asked):
        return build({**asked, "attribution": {"method": "daam", "tokens": "words"}})

    with pytest.raises(ConfigError, match=r"read ovam's maps, got attribution\.method daam"):
        record_pictures(request(voc_folder, tmp_path), daam, Counted())
    sink = AttentionParts(lambda: None, [(0, 333), (334, 1000)])
    with pytest.raises(ConfigError, match=r"timestep 333\.5, which lies in none of the stretches"):
        sink.begin_call(333.5)


def test_calls_beyond_the_last_third_belong_to_it(whole):
    """PNDM calls the UNet at 501 where pictures are noised to 0.5 in 10 steps."""
    recorded, *_ = whole
    [source] = recorded.recordings
    picture = recorded.parts.tune.pictures[0]
    beyond = replace(source.parts(picture), highest=501.0)
    other = replace(source, _read={picture.key: beyond})
    assert source.called([picture])[-1] == (334, 500)
    assert other.called([picture])[-1] == (334, 501)
    setup = recorded.setups[0]
    last = with_setup(setup, Recipe(calls=(334, 501)))
    assert np.array_equal(other.maps(last, picture).maps, source.maps(last, picture).maps)
    with pytest.raises(MethodError, match="no attention was recorded"):
        other.maps(with_setup(setup, Recipe(calls=(334, 500))), picture)


def test_parts_that_are_not_there(whole):
    recorded, *_ = whole
    [source] = recorded.recordings
    picture = recorded.parts.tune.pictures[0]
    setup = with_setup(recorded.setups[0], Recipe(resolutions=(64,)))
    with pytest.raises(MethodError, match=r"no attention was recorded of the layers \[64\]"):
        source.maps(setup, picture)
    gone = replace(source, _read={}, folder=source.folder / "none")
    with pytest.raises(ConfigError, match="gone or of another run"):
        gone.maps(recorded.setups[0], picture)
