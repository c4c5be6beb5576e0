"""The public names: what `__all__` says, what the page says, and what is there."""

import re
import subprocess
import sys

import pytest

import ovamgen

HEAVY = ("torch", "diffusers", "transformers", "ray", "pyarrow", "pydantic", "numpy", "pandas")


@pytest.mark.parametrize("name", ovamgen.__all__)
def test_each_name_is_there(name):
    assert getattr(ovamgen, name) is not None
    assert name in dir(ovamgen)


def test_the_page_lists_the_same_names(repository):
    page = (repository / "docs" / "python.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == sorted(ovamgen.__all__)


def test_a_name_that_is_not_there_is_no_import_error():
    with pytest.raises(AttributeError, match="module 'ovamgen' has no attribute 'generat'"):
        _ = ovamgen.generat


def test_the_import_loads_nothing_heavy(repository):
    code = (
        "import sys, ovamgen; print(ovamgen.__all__); "
        f"sys.exit(', '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


def test_modules_do_not_hide_the_names():
    import ovamgen.generation

    assert callable(ovamgen.generate)
    assert ovamgen.generate is ovamgen.generation.generate
