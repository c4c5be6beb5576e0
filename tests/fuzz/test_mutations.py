"""Valid files of every kind, damaged in every way that chance finds: refused in so many words."""

import random
import re
import shutil
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ovamgen.errors import OvamgenError
from tests.fuzz.readers import READERS, write_world

SHORT = settings(
    max_examples=5,
    deadline=None,
    database=None,
    derandomize=True,  # every day the same cases; new ones are for the slow runs
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
LONG = settings(SHORT, derandomize=False, max_examples=300, phases=[Phase.generate, Phase.shrink])
_NUMBERS = [b"0", b"-1", b"9" * 30, b"1e999", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}"]
_TEXTS = [b"\x00", b"\xff\xfe", b"\\ud800", b'"', b"\n", b",", b"\t", b"\xed\xa0\x80", b"{" * 50]
KINDS = ("cut", "flip", "replace", "remove", "repeat", "insert", "number", "text", "noise")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture
def own_world(world, tmp_path):
    shutil.copytree(world, tmp_path / "world")
    return tmp_path / "world"


@st.composite
def damage(draw):
    """What is done to the bytes: kinds, and a seed for where and with what."""
    kinds = [
        "cut",
        "flip",
        "flip",
        "replace",
        "remove",
        "repeat",
        "insert",
        "number",
        "text",
        "noise",
    ]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3))
    return chosen, draw(st.integers(0, 2**32))


def damaged(content, kinds, seed):
    """The bytes after the damage."""
    chance = random.Random(seed)
    for kind in kinds:
        size = len(content)
        start = chance.randrange(size + 1)
        stop = min(size, start + chance.choice([1, 4, 16, size]))
        before, middle, after = content[:start], content[start:stop], content[stop:]
        if kind == "cut":
            content = before
        elif kind == "flip":
            content = before + bytes(byte ^ (1 << chance.randrange(8)) for byte in middle[:1])
            content += middle[1:] + after
        elif kind == "replace":
            content = before + chance.randbytes(len(middle)) + after
        elif kind == "remove":
            content = before + after
        elif kind == "repeat":
            content = before + middle + middle + after
        elif kind == "insert":
            content = before + chance.randbytes(chance.choice([1, 8, 600])) + middle + after
        elif kind == "number":
            content = before + chance.choice(_NUMBERS) + after
        elif kind == "text":
            content = before + chance.choice(_TEXTS) + middle + after
        else:
            content = chance.randbytes(chance.choice([0, 1, 512, 10240]))
    return content


def read_damaged(reader, folder, settings_):
    target = folder / reader.target
    whole = target.read_bytes()
    reader.read(folder)

    @settings_
    @given(damage())
    def check(asked):
        target.write_bytes(damaged(whole, *asked))
        with suppress(OvamgenError):
            reader.read(folder)

    check()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damage_is_refused_by_name(reader, own_world):
    read_damaged(reader, own_world, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damage_is_refused_by_name_at_length(reader, own_world):
    read_damaged(reader, own_world, LONG)


TEXTS = [reader for reader in READERS if reader.target.endswith((".json", ".jsonl", ".yaml"))]
HALF_A_CHARACTER = rb"\ud800"
"""In JSON, and in quotes in YAML, text that no file can hold again."""


@pytest.mark.parametrize("reader", TEXTS, ids=lambda reader: reader.name)
def test_half_a_character_in_any_text_is_refused_by_name(reader, own_world):
    target = own_world / reader.target
    whole = target.read_bytes()
    places = [match.end() for match in re.finditer(rb'[\w"]', whole)]
    for place in random.Random(0).sample(places, min(15, len(places))):
        target.write_bytes(whole[:place] + HALF_A_CHARACTER + whole[place:])
        with suppress(OvamgenError):
            reader.read(own_world)
