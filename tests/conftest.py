"""Fixtures that every test folder shares."""

import dataclasses
import functools
import importlib.util
import inspect
import os
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings
from jaxtyping import _decorator, _import_hook

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", "0f1e2d3c4b5a69788796a5b4c3d2e1f0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray starts its workers at 15, where commands of another process's tests take their time first
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# threads that turn in circles while they wait for one another make arithmetic ten times slower
# where several processes share the cores; torch and libgomp read these when they are loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# no deadline: other work on the machine is no defect
settings.register_profile("daily", deadline=None, max_examples=50)
settings.load_profile("daily")

pytest_plugins = [
    "tests.browser",
    "tests.finished_run",
    "tests.storage.fixtures",
    "tests.storage.clouds",
]

REPOSITORY = Path(__file__).resolve().parents[1]

_cache_of_checked = _import_hook._optimized_cache_from_source


def _cache_from_source(checks, /, path, *arguments, **options):
    """Where the bytecode of a module is: of the package with its checks, of any other as always.

    jaxtyping looks for bytecode with checks of all that is imported while a module of the package
    is: torch, diffusers and transformers would be compiled from their sources, for half a minute
    in every process where bytecode is not written, and once more where it is.
    """
    if path.startswith(f"{REPOSITORY}/ovamgen/"):
        return _cache_of_checked(checks, path, *arguments, **options)
    return importlib.util.cache_from_source(path, *arguments, **options)


_import_hook._optimized_cache_from_source = _cache_from_source

_jaxtyped = jaxtyping.jaxtyped


def _checked(function=None, *, typechecker):
    """What ``--jaxtyping-packages`` decorates with: shapes are followed only where there are some.

    jaxtyping's own wrapper binds the arguments of every call by name, and has three functions
    checked in place of one: half the time of tests that draw nothing.
    """
    if function is None:
        return functools.partial(_checked, typechecker=typechecker)
    if dataclasses.is_dataclass(function) and "__init__" in vars(function):
        function.__init__ = _checked(function.__init__, typechecker=typechecker)
        return function
    if inspect.isfunction(function):
        hints = {
            name: _decorator._destring_annotation(hint, function.__globals__)
            for name, hint in function.__annotations__.items()
        }
        if not any("jaxtyping" in repr(hint) for hint in hints.values()):
            function.__annotations__ = hints
            return typechecker(function)
    return _jaxtyped(function, typechecker=typechecker)


jaxtyping.jaxtyped = _checked


@pytest.hookimpl(optionalhook=True)  # pytest works without xdist as well
def pytest_xdist_make_scheduler(config, log):
    """With ``-n`` the tests of a file go to one process, and all files with Ray to the same one.

    So do those of the benches, which count the operations of a large network once a process.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneRay(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            if _uses_ray(file):
                return "ray"
            return "bench" if file.startswith("tests/bench/") else file

    return OneRay(config, log)


@functools.cache
def _uses_ray(file):
    return "pytest.mark.cluster" in (REPOSITORY / file).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; skips where it is not there."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the project's shared data, and {folder.name}/data is not here")
    return folder


@pytest.fixture(scope="session")
def ray_session():
    """One local Ray for all tests that need it."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY)}},
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def offline_datasets(monkeypatch, tmp_path):
    """Hugging Face's `datasets`, which asks nobody and keeps what it made with the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    datasets.disable_progress_bars()
    return datasets
