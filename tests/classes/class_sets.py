"""Records of class sets of every shape, for properties.

Sets are made of them in the tests: beartype draws random numbers, which strategies must not.
"""

import pytest
from hypothesis import strategies as st

from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError

# without inflect's irregular ones, so that plurals of two of them are never the same
NOUNS = ["pallet", "crane", "truck", "worker", "helmet", "cone", "ladder", "brick", "drill", "lamp"]
WORDS = ["red", "old", "tower", "hand", *NOUNS]

phrases = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
colours = st.integers(0, 2**24 - 1).map("#{:06x}".format)


@st.composite
def records(draw, keys=("synonyms", "forms", "phrases", "not", "colour", "article")):
    """Records of sets whose classes share no word; of the keys each may be there."""
    names = draw(st.lists(st.sampled_from(NOUNS), min_size=1, max_size=6, unique=True))
    ids = draw(st.lists(st.integers(1, 254), min_size=6, max_size=6, unique=True))
    taken = set(names)
    classes = []
    for name, class_id in zip(names, ids, strict=False):
        entry = {"name": name, "id": class_id}
        present = {key for key in keys if draw(st.booleans())}
        for key in ("synonyms", "forms", "phrases"):
            if key in present:
                own = [p for p in draw(st.lists(phrases, max_size=3)) if p not in taken]
                taken |= set(own)
                entry[key] = own
        if "not" in present:
            entry["not"] = draw(st.lists(phrases, max_size=2))
        if "colour" in present:
            entry["colour"] = draw(colours)
        if "article" in present:
            entry["article"] = draw(st.sampled_from(["", "the", "a pair of"]))
        classes.append(entry)
    return {"name": "drawn", "classes": classes}


def refused(record):
    """The one line that says why."""
    with pytest.raises(ConfigError) as caught:
        ClassSet.from_record(record).check_words()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)
