"""Recording inside torch.compile: one graph without breaks, not compiled anew at every call."""

import json
import subprocess
import sys

import pytest

SLOW = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    ("kind", "compiles", "maxima"),
    [
        pytest.param("pairs", 2, [3 * 2 * 3] * 2, marks=SLOW),
        pytest.param("texts", 2, [3 * 2 * 3] * 2, marks=SLOW),
        pytest.param("chosen", 2, [3 * 2 * 3] * 2, marks=SLOW),
        pytest.param("daam", 2, [3, 3], marks=SLOW),
        pytest.param("bench", 1, [], marks=SLOW),
    ],
)
def test_three_calls(kind, compiles, maxima):
    """Compiled once to make the running sums and once to add to them, however many calls follow.

    The bench keeps its sums outside.
    """
    command = [sys.executable, "-m", "tests.attribution.compiled", kind]
    result = subprocess.run(command, capture_output=True, text=True, timeout=390, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["compiles"] == compiles
    assert found["maxima"] == maxima
    assert found["difference"] < 1e-4
