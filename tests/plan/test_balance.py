"""Quotas and order: laws on random sets of prompts, and one small case done by hand."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ovamgen.plan import balance as module
from ovamgen.plan.captions import Caption
from ovamgen.plan.prompts import PromptSpec, Reason
from tests.voc import class_by_id, class_by_name


def prompt(caption_id, *classes):
    text = f"prompt {caption_id}"
    return PromptSpec(
        caption=Caption(caption_id=caption_id, image_id=-1, text=text),
        prompt=text,
        targets=tuple(class_by_name(name) for name in classes),
        word_included=True,
    )


def balance(prompts, *, seed, per_class, limit):
    """The prompts that are taken, and the rejections of the others."""
    candidates = module.Candidates(seed)
    for item in prompts:
        ids = [target.id for target in item.targets]
        candidates.add(item.caption.caption_id, item.prompt, ids)
    choice = module.balance(candidates, per_class=per_class, limit=limit)
    rejected = [
        prompts[number].reject(Reason.QUOTA_FULL if full else Reason.LIMIT_REACHED)
        for number, (out, full) in enumerate(zip(choice.left_out, choice.quota_full, strict=True))
        if out
    ]
    assert not (choice.quota_full & ~choice.left_out).any()
    return [prompts[number] for number in choice.taken], rejected


ROWS = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True), max_size=40)
BOUND = st.none() | st.integers(1, 12)


def prompts_of(rows):
    """Prompts out of lists of class ids. Not in the strategy: run-time type checks draw lots."""
    return [
        prompt(index, *(class_by_id(class_id).name for class_id in row))
        for index, row in enumerate(rows)
    ]


def counts_of(taken):
    counts = {}
    for item in taken:
        for target in item.targets:
            counts[target.id] = counts.get(target.id, 0) + 1
    return counts


def test_any_ids_do_as_well_as_others():
    """Which numbers the classes have does not matter: 254 and 1 as well as 2 and 1."""

    def chosen(ids):
        candidates = module.Candidates(3)
        for number in range(60):
            own = [ids[number % 3]] + ([ids[3]] if number % 5 == 0 else [])
            candidates.add(number, f"prompt {number}", own)
        choice = module.balance(candidates, per_class=7, limit=None)
        return choice.taken.tolist(), choice.quota_full.tolist()

    assert chosen([1, 2, 3, 4]) == chosen([31, 33, 200, 254])


def test_no_prompts_at_all():
    choice = module.balance(module.Candidates(0), per_class=1, limit=1)
    assert len(choice.taken) == len(choice.left_out) == len(choice.quota_full) == 0


def test_rarest_first_then_in_turn():
    prompts = [prompt(i, "person") for i in range(6)] + [prompt(i, "cow") for i in range(10, 13)]
    prompts.append(prompt(20, "sofa"))
    taken, rejected = balance(prompts, seed=0, per_class=None, limit=None)
    names = [item.targets[0].name for item in taken]
    assert names == ["sofa", "cow", "person", "cow", "person", "cow"] + ["person"] * 4
    assert rejected == []


def test_a_prompt_counts_for_each_of_its_targets():
    prompts = [prompt(1, "horse", "person"), prompt(2, "horse", "person")]
    prompts += [prompt(index, "person") for index in range(3, 9)]
    taken, rejected = balance(prompts, seed=0, per_class=3, limit=None)
    # The two riders make person 2, so only one prompt with people alone is taken.
    assert [len(item.targets) for item in taken] == [2, 2, 1]
    assert {rejection.reason for rejection in rejected} == {Reason.QUOTA_FULL}
    assert {rejection.class_names for rejection in rejected} == {("person",)}


def test_a_full_class_leaves_out_prompts_that_others_could_use():
    # The one sofa shows a person; the person's quota goes to it first, since sofas are rarer.
    prompts = [prompt(1, "sofa", "person"), prompt(2, "person"), prompt(3, "person", "cat")]
    prompts += [prompt(4, "cat"), prompt(5, "cat")]
    taken, rejected = balance(prompts, seed=0, per_class=1, limit=None)
    assert counts_of(taken) == {18: 1, 15: 1, 8: 1}
    assert len(rejected) == 3


@given(rows=ROWS, per_class=BOUND, limit=BOUND, seed=st.integers(0, 3))
def test_laws(rows, per_class, limit, seed):
    prompts = prompts_of(rows)
    taken, rejected = balance(prompts, seed=seed, per_class=per_class, limit=limit)
    ids = [item.caption.caption_id for item in taken] + [r.caption_id for r in rejected]
    assert sorted(ids) == [item.caption.caption_id for item in prompts]
    assert [r.caption_id for r in rejected] == sorted(r.caption_id for r in rejected)
    counts = counts_of(taken)
    if per_class is not None:
        assert max(counts.values(), default=0) <= per_class
    if limit is not None:
        assert len(taken) <= limit
    if per_class is None and limit is None:
        assert rejected == []
    by_id = {item.caption.caption_id: item for item in prompts}
    for rejection in rejected:
        targets = by_id[rejection.caption_id].targets
        if rejection.reason == Reason.QUOTA_FULL:
            # Nothing that could have been taken is refused.
            assert any(counts.get(target.id, 0) >= per_class for target in targets)
        else:
            assert rejection.reason == Reason.LIMIT_REACHED
            assert len(taken) == limit


@given(rows=ROWS, per_class=BOUND, limit=BOUND, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(rows, per_class, limit, shuffle):
    prompts = prompts_of(rows)
    mixed = list(prompts)
    shuffle.shuffle(mixed)
    one, _ = balance(prompts, seed=1, per_class=per_class, limit=limit)
    other, _ = balance(mixed, seed=1, per_class=per_class, limit=limit)
    assert one == other


@given(rows=ROWS, per_class=BOUND, limit=st.integers(1, 20))
def test_a_limit_gives_the_first_of_all(rows, per_class, limit):
    prompts = prompts_of(rows)
    everything, _ = balance(prompts, seed=1, per_class=per_class, limit=None)
    first, _ = balance(prompts, seed=1, per_class=per_class, limit=limit)
    assert first == everything[:limit]


@given(rows=ROWS)
def test_classes_keep_step(rows):
    """No class gets a turn while another with fewer samples still has prompts."""
    prompts = prompts_of(rows)
    taken, _ = balance(prompts, seed=2, per_class=None, limit=None)
    for number, item in enumerate(taken):
        before = counts_of(taken[:number])
        left = {target.id for later in taken[number:] for target in later.targets}
        fewest = min(before.get(class_id, 0) for class_id in left)
        assert min(before.get(target.id, 0) for target in item.targets) == fewest


def test_the_seed_decides_the_order():
    prompts = [prompt(index, "cat") for index in range(30)]
    orders = {
        tuple(p.caption.caption_id for p in balance(prompts, seed=s, per_class=5, limit=None)[0])
        for s in range(5)
    }
    assert len(orders) == 5


def test_many_prompts_take_little_time():
    generator = random.Random(0)
    names = [class_by_id(index).name for index in range(1, 21)]
    prompts = [
        prompt(index, *generator.sample(names, generator.randint(1, 3))) for index in range(6_000)
    ]
    taken, rejected = balance(prompts, seed=0, per_class=450, limit=None)
    assert len(taken) + len(rejected) == 6_000
    assert set(counts_of(taken).values()) <= set(range(400, 451))
