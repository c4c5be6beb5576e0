"""Drawing on until enough samples of each class pass, within a budget."""

import signal
import sys

import pytest

from ovamgen import fault_points
from ovamgen.config import PlanConfig
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.generation.growing import generate_until
from ovamgen.integrity.verify import verify
from ovamgen.plan.planning import make_plan
from ovamgen.run.files import read_plan, read_run_files
from ovamgen.storage.store import open_store
from tests.command_line import ovamgen
from tests.fakes import DiscEngine
from tests.faults.command import SERVER
from tests.runs import PROMPTS, captions_file, digests, run_config

TEXTS = [PROMPTS[i % len(PROMPTS)] for i in range(70)]
ASKED = ("cat", "dog", "horse")


def config_of(folder, **plan):
    plan = {"limit": 6, "classes": ASKED} | plan
    return run_config(folder, texts=TEXTS, runtime={"runner": "local"}, plan=plan)


def grow(config, per_class=4, budget=40, factory=DiscEngine):
    return generate_until(config, per_class=per_class, budget=budget, factory=factory)


@pytest.fixture(scope="session")
def grown(tmp_path_factory):
    """The output of a loop that nothing disturbed, and what it told."""
    config = config_of(tmp_path_factory.mktemp("grown-until"))
    return config, grow(config)


def test_it_draws_until_every_class_has_enough(grown):
    config, told = grown
    assert told.rounds >= 1
    assert told.ended == ""
    assert set(told.selected) == set(ASKED)
    assert min(told.selected.values()) >= 4
    told.check_complete()
    assert verify(config.out).ok
    store = open_store(config.out)
    assert read_plan(store).samples <= 40
    rounds = [run["config"]["plan"].get("wanted") for run in read_run_files(store)]
    assert rounds[0] is None
    assert all(set(wanted) <= set(ASKED) for wanted in rounds[1:])


def test_the_same_command_again_does_nothing(grown):
    config, told = grown
    before = digests(config.out)

    def no_engine(config):
        raise AssertionError("nothing needs to be drawn")

    again = grow(config, factory=no_engine)
    assert (again.rounds, again.selected) == (0, told.selected)
    assert digests(config.out) == before


def test_the_budget_is_kept_and_the_lack_is_told(tmp_path):
    config = config_of(tmp_path)
    told = grow(config, per_class=8, budget=12)
    assert read_plan(open_store(config.out)).samples == 12
    assert told.ended == "the budget of 12 samples is spent"
    with pytest.raises(IncompleteError, match=r"too few samples pass \(lacking: cat "):
        told.check_complete()


def test_captions_may_run_out(tmp_path):
    told = grow(config_of(tmp_path), per_class=30, budget=1000)
    assert "no other caption of" in told.ended
    assert told.short


def _attempt(config, faults):
    fault_points.reach = fault_points.reaching(faults)
    grow(config)
    sys.exit(0)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("run.plan_put:kill:2", marks=pytest.mark.slow),
        pytest.param("run.run_file_put:kill:2", marks=pytest.mark.slow),
        "shard.record_created:kill:2",
        pytest.param("index.manifest_put:kill:2", marks=pytest.mark.slow),
    ],
)
def test_kill_9_in_a_round(grown, tmp_path, step):
    config = config_of(tmp_path)
    process = SERVER.Process(target=_attempt, args=(config, step))
    process.start()
    process.join(110)
    assert process.exitcode == -signal.SIGKILL
    grow(config)
    assert digests(config.out) == digests(grown[0].out)


def test_only_wanted_classes_take_turns(tmp_path):
    captions = str(captions_file(tmp_path / "captions.csv", TEXTS))
    before = make_plan(PlanConfig(captions=captions, limit=14))
    wanted = PlanConfig(captions=captions, wanted={"horse": 5, "bus": 4})
    more = make_plan(wanted, after=before)
    counts = dict.fromkeys(("horse", "bus", "cow", "cat"), 0)
    for plan in (before, more):
        for spec in plan.specs:
            for target in spec.targets:
                if target.class_name in counts:
                    counts[target.class_name] += 1
    assert (counts["horse"], counts["bus"]) == (5, 4)
    # it stands in the horse's captions
    assert counts["cow"] == 5
    assert counts["cat"] == 2
    with pytest.raises(ConfigError, match="unknown class 'hores'"):
        make_plan(PlanConfig(captions=captions, wanted={"hores": 5}))


def test_what_is_asked_for_must_be_possible(tmp_path):
    with pytest.raises(ConfigError, match="--budget must be at least --until-per-class, 9, got 8"):
        grow(config_of(tmp_path), per_class=9, budget=8)
    with pytest.raises(ConfigError, match=r"plan\.wanted is what --until-per-class decides"):
        grow(config_of(tmp_path, wanted={"cat": 3}))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--until-per-class", "3"], "are given together"),
        (["--budget", "3"], "are given together"),
        (["--until-per-class", "3", "--budget", "9", "--dry-run"], "no --dry-run of it"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, told):
    words = ["generate", "--captions", "demo", "--model", "mini", "--out", str(tmp_path / "out")]
    done = ovamgen(*words, *options)
    assert done.returncode == 2
    assert told in done.stderr
