"""One finished corpus and its page for all tests of pages."""

from pathlib import Path

import pytest

from ovamgen.report.write import write_report
from tests.report.corpora import make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """62 captions in four shards: most become samples, some are left out, fail or are flagged."""
    return make_corpus(tmp_path_factory.mktemp("report"), 62)


@pytest.fixture(scope="session")
def page_file(corpus, tmp_path_factory) -> Path:
    """The page about it."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(str(corpus), str(out))
    return out
