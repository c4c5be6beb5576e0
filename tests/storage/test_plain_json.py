import pytest

from ovamgen import bounds
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.plain_yaml import load_plain_yaml


def test_plain_values_come_back():
    assert load_plain_json(b'{"a": [1, 2.5, null, true, "x,[{"]}') == {
        "a": [1, 2.5, None, True, "x,[{"]
    }


@pytest.mark.parametrize("kind", [bytes, str])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" + "{}," * bounds.MAX_JSON_VALUES, "at most 10000000 values, got up to 20000001"),
        ("[" * 65 + "]" * 65, "more than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "more than 64 levels"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("9" * 10_000, "4300 digits"),
        ("{", "Expecting"),
    ],
    ids=["many", "deep lists", "deep objects", "deeper", "a long number", "no JSON"],
)
def test_what_is_refused(text, message, kind):
    with pytest.raises(ValueError, match=message):
        load_plain_json(text if kind is str else text.encode())


def test_as_many_levels_as_are_allowed():
    load_plain_json("[" * 64 + "]" * 64)
    load_plain_json("[" + ",".join(["[]"] * 1000) + "]")


def test_values_of_yaml_are_counted(monkeypatch):
    monkeypatch.setattr("ovamgen.storage.plain_yaml.MAX_YAML_VALUES", 1010)
    assert len(load_plain_yaml("a: [" + "1, " * 1000 + "1]")["a"]) == 1001
    with pytest.raises(ValueError, match="more than 1010 values"):
        load_plain_yaml("a: [" + "1, " * 1010 + "1]")
