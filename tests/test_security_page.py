"""What SECURITY.md names exists: a guard that was moved or a test that was renamed is noticed."""

import re

import pytest


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "SECURITY.md").read_text("utf-8")


def test_every_module_and_test_that_it_names_exists(page, repository):
    named = re.findall(r"`((?:ovamgen|tests|deploy)/[\w/.-]+)(?:::(\w+))?`", page)
    assert len(named) > 40
    for path, test in named:
        file = repository / path
        assert file.is_file(), path
        if test:
            assert re.search(rf"^\s*def {test}\(", file.read_text("utf-8"), re.MULTILINE), test


def test_every_row_names_a_guard_and_a_test(page):
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    for what, how, guard, test in rows[2:]:
        assert how.strip(), what
        assert "`ovamgen/" in guard, what
        assert "`tests/" in test, what


def test_the_numbers_are_those_of_the_code(page):
    from ovamgen.annotate import importing, server
    from ovamgen.plan import source
    from ovamgen.shards import arrays
    from ovamgen.status import logs as run_logs

    assert f"at most {source.MAX_BYTES // 2**30} GiB" in page
    assert f"at most {run_logs.MAX_BYTES // 10**6} MB" in page
    assert f"bodies are at most {server.LARGEST_BODY_BYTES // 2**20} MiB" in page
    assert f"files at most {importing._LARGEST_FILE_BYTES // 2**20} MiB" in page
    assert f"without pickle, at most {arrays.MAX_HEATMAP_BYTES // 2**20} MiB" in page
