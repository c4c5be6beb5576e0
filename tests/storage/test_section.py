import pytest
from pydantic import ValidationError

from ovamgen.storage.section import Section, one_line


class Leaf(Section):
    colour: str
    size_px: int = 1


class Tree(Section):
    trunk: Leaf = Leaf(colour="brown")
    fruit: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"trunc": 1}, "unknown garden key 'trunc': did you mean 'trunk'?"),
        ({"zzz": 1}, "unknown garden key 'zzz': known are fruit, leaves, trunk"),
        (
            {"trunk": {"colour": "red", "size": 1}},
            "unknown garden key 'trunk.size': did you mean 'size_px'?",
        ),
        (
            {"fruit": {"colour": "red", "color": 1}},
            "unknown garden key 'fruit.color': did you mean 'colour'?",
        ),
        (
            {"leaves": [{"colour": "green"}, {"colour": "green", "zzz": 1}]},
            "unknown garden key 'leaves.1.zzz': known are colour, size_px",
        ),
        ({"leaves": [{}]}, "garden key 'leaves.0.colour' must be given"),
        (
            {"fruit": {"colour": "red", "size_px": "big"}},
            "fruit.size_px: input should be a valid integer, unable to parse string as an "
            "integer, got 'big'",
        ),
    ],
)
def test_the_first_complaint_in_one_line(data, line):
    with pytest.raises(ValidationError) as caught:
        Tree.model_validate(data)
    assert one_line(caught.value, Tree, "garden key") == line
