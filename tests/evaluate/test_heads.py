"""Methods of trained heads scored and compared, with words and with tokens."""

import json

import pytest

from ovamgen.config import build_config, load_preset, merge
from ovamgen.evaluate.compare import HEAD_PRESETS, PRESETS
from ovamgen.evaluate.setups import make_setup
from ovamgen.evaluate.table_s1 import make_table
from ovamgen.evaluate.table_s1_settings import build_table_settings
from ovamgen.mini import HEADS
from tests.command_line import ovamgen
from tests.evaluate.test_table_s1 import asked  # noqa: F401 (a fixture)

# twenty seconds of a core, of which a busy machine may give little
pytestmark = pytest.mark.timeout(400)
FEW = ["--dataset", "mini", "--model", "mini", "--limit", 4, "--steps", 2, "--draws", 20]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("heads") / "comparison"
    # one of the two is named, the other one ships
    done = ovamgen(
        "evaluate", "compare", *FEW, "--presets", "grounded,datasetdm",
        "--head", HEADS["grounded"], "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_both_are_compared_with_words_and_with_tokens(compared):
    data = json.loads((compared / "comparison.json").read_text())
    rows = {row["name"]: row for row in data["rows"]}
    assert list(rows) == [f"{n}-{t}" for n in HEAD_PRESETS for t in ("words", "tokens")]
    assert len({row["head_sha256"] for row in rows.values()}) == 2
    assert {row["fixed"]["tau"] for row in rows.values()} == {0.5}
    assert rows["grounded-tokens"]["paper_miou"]["VOC-sim"] == 86.6
    assert "| 86.6 |" in (compared / "comparison.md").read_text()


def test_heads_that_ship_are_rows_of_their_own():
    from ovamgen.evaluate.compare import _with_head

    assert tuple(_with_head({}, build_config({"model": {"id": "mini"}}))) == HEAD_PRESETS
    other = build_config({"model": {"id": "some/model"}})
    assert _with_head({}, other) == []
    assert _with_head({"datasetdm": "x"}, other) == ["datasetdm"]
    assert not set(PRESETS) & set(HEAD_PRESETS)


def test_masks_of_a_head_are_scored_by_its_preset(tmp_path):
    done = ovamgen(
        "evaluate", "masks", *FEW, "--preset", "datasetdm", "--head", HEADS["datasetdm"],
        "--out", tmp_path / "scores",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "scores/scores.json").read_text())
    assert (data["setup"]["method"], data["tau"], data["dense_crf"]) == ("datasetdm", 0.5, False)


def test_two_heads_for_one_method_are_refused(tmp_path):
    head = HEADS["grounded"]
    done = ovamgen(
        "evaluate", "compare", *FEW, "--head", head, "--head", head, "--out", tmp_path / "c"
    )
    assert done.returncode == 2
    assert "are both for grounded: give one" in done.stderr


def test_who_shares_maps():
    def setup(**attribution):
        given = {"model": {"id": "mini"}, "attribution": attribution}
        return make_setup(build_config(given))

    words = setup(method="grounded", tokens="words")
    assert words.name == "grounded-words"
    assert words.recorded == setup(method="grounded", tokens="words").recorded
    pairs = setup(method="datasetdm", tokens="own")
    others = [
        setup(method="grounded", tokens="words", head_mode="eval"),
        pairs,
        setup(method="datasetdm", tokens="own", head_tokens="pair_mean"),
        setup(method="ovam", tokens="words"),
    ]
    assert len({words.recorded, *(other.recorded for other in others)}) == 5
    assert words.identity()["head"]["conditioning"] == ""
    assert pairs.identity()["head"]["conditioning"] == "row"
    assert "head" not in others[-1].identity()


def test_rows_of_table_s1(asked, tmp_path):  # noqa: F811
    rows = [
        {"name": "grounded-words", "preset": "grounded", "tokens": "words"},
        {"name": "datasetdm-tokens", "preset": "datasetdm", "tokens": "own"},
    ]
    settings = build_table_settings({**asked, "real": None, "rows": rows})
    made = make_table(settings, tmp_path / "table", lambda line: None)
    assert [(row.method, row.tokens, row.images) for row in made] == [
        ("grounded", "words", 3),
        ("datasetdm", "own", 3),
    ]


@pytest.mark.parametrize("name", HEAD_PRESETS)
def test_presets_say_the_published_decision(name):
    preset = load_preset(name)
    assert preset["attribution"] == {"method": name}
    for tokens in ("words", "own"):
        given = merge(preset, {"model": {"id": "mini"}, "attribution": {"tokens": tokens}})
        assert build_config(given, {"masks": {"preset": name}}).masks.tau == 0.5
