import pytest

from ovamgen.console.wording import counted, nearest, readable_bytes


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (12345, "12,345 shards")]
)
def test_a_number_with_its_noun(number, text):
    assert counted(number, "shard") == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (47_300, "47.3 kB"),
        (3_000_000, "3.0 MB"),
        (1_440_000_000, "1.4 GB"),
        (5 * 10**13, "50.0 TB"),
    ],
)
def test_bytes_in_a_unit_that_leaves_something_before_the_point(size, text):
    assert readable_bytes(size) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ovan", ": did you mean 'ovam'?"),
        ("OVAM", ": did you mean 'ovam'?"),
        ("daa", ": did you mean 'daam' or 'daam-ovam'?"),
        ("x", ": known are daam, daam-ovam, ovam"),
        ("", ": known are daam, daam-ovam, ovam"),
    ],
)
def test_the_name_that_may_have_been_meant(name, text):
    assert nearest(name, ["ovam", "daam-ovam", "daam"]) == text
