import gc

from hypothesis import given
from hypothesis import strategies as st

from ovamgen.report.sampling import Candidate, Sampler
from tests.report.corpora import shard_record


def row(key, class_ids=(8,), score=0.5, **others):
    values = {"key": key, "status": "ok", "unsafe": False, "class_ids": list(class_ids)}
    return values | {"scores": [score] * len(class_ids), "areas": [0.1] * len(class_ids)} | others


def chosen(rows, count):
    sampler = Sampler(count)
    for values in rows:
        sampler.add(shard_record(int(values["key"][:6])), values)
    return sampler.choose()


rows_of_a_corpus = st.lists(
    st.tuples(
        st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True),
        st.floats(0, 1),
        st.booleans(),
        st.booleans(),
    ),
    max_size=60,
).map(
    lambda items: [
        row(f"{i:011d}", ids, score, unsafe=unsafe, status="ok" if ok else "failed")
        for i, (ids, score, unsafe, ok) in enumerate(items)
    ]
)


@given(rows_of_a_corpus, st.integers(0, 12), st.randoms())
def test_what_is_chosen(rows, count, random):
    choices = chosen(rows, count)
    keys = [choice.candidate.key for choice in choices]
    allowed = {r["key"] for r in rows if r["status"] == "ok" and not r["unsafe"]}
    assert len(set(keys)) == len(keys) == min(count, len(allowed))
    assert set(keys) <= allowed
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert chosen(shuffled, count) == choices, "the order of reading must not matter"


@given(rows_of_a_corpus)
def test_every_class_is_there_before_any_has_two(rows):
    rows = [{**r, "class_ids": r["class_ids"][:1]} for r in rows]
    rows = [r for r in rows if r["status"] == "ok" and not r["unsafe"]]
    classes = {r["class_ids"][0] for r in rows}
    first = chosen(rows, len(classes))
    assert {choice.candidate.class_ids[0] for choice in first} == classes


def test_best_and_worst_are_among_few_of_many():
    rows = [row(f"{i:011d}", score=i / 1000) for i in range(1000)]
    choices = chosen(rows, 8)
    scores = {why: [] for why in ("best", "worst", "drawn")}
    for choice in choices:
        scores[choice.why].append(choice.candidate.score)
    assert scores["best"] == [0.999, 0.998]
    assert scores["worst"] == [0.0, 0.001]
    assert len(scores["drawn"]) == 4
    assert 0.1 < sum(scores["drawn"]) / 4 < 0.9


def test_a_sample_is_as_good_as_its_worst_target():
    good = row("00000000001", (1, 2), scores=[0.99, 0.2])
    middling = row("00000000002", (1,), 0.6)
    best = next(choice for choice in chosen([good, middling], 2) if choice.why == "best")
    assert best.candidate.key == "00000000002"


def test_memory_does_not_grow_with_the_corpus():
    sampler = Sampler(5)
    for i in range(5000):
        sampler.add(shard_record(), row(f"{i:011d}", score=(i * 37 % 100) / 100))
    held = sum(type(thing) is Candidate for thing in gc.get_objects())
    # of one class, three ways to be wanted, each cut at twice the number asked for and 65
    assert held <= 3 * (2 * 5 + 65)
    assert len(sampler.choose()) == 5
