"""`deploy/Dockerfile`, line by line: what it names is there and agrees with the other files."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from ovamgen import __version__


@pytest.fixture(scope="module")
def dockerfile(repository):
    """(instruction, its words as one line) of every instruction."""
    text = (repository / "deploy" / "Dockerfile").read_text()
    assert "UNTESTED" in text.split("ARG")[0], "it says so as long as it is so"
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found = [re.sub(r"\s+", " ", line).strip() for line in lines.splitlines() if line.strip()]
    instructions = [tuple(line.split(" ", 1)) for line in found]
    assert {name for name, _ in instructions} <= {
        *("ARG", "FROM", "RUN", "WORKDIR", "COPY", "LABEL", "ENV", "USER", "ENTRYPOINT", "CMD")
    }
    return instructions


@pytest.fixture(scope="module")
def pinned(repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def tracked(repository):
    """Files that git knows of: what a clone has."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    return done.stdout.split()


def words_of(dockerfile, instruction):
    return [words for name, words in dockerfile if name == instruction]


def test_ray_and_python_are_those_of_the_other_files(dockerfile, pinned, project, repository):
    name, default = words_of(dockerfile, "ARG")[0].split("=")
    images = [words.split(" AS ")[0] for words in words_of(dockerfile, "FROM")]
    (image,) = set(images)
    tag = re.fullmatch(r"rayproject/ray:\$\{RAY_VERSION\}-py3(\d+)-cpu", image)
    assert (name, default) == ("RAY_VERSION", pinned["ray"])
    minor = int(tag[1])
    assert f">=3.{minor}" == project["requires-python"], "the oldest one is what is tested"
    manifest = yaml.safe_load((repository / "deploy" / "rayjob.yaml").read_text())
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == default


def test_what_is_copied_is_there_and_reaches_the_builder(dockerfile, tracked, repository):
    ignored = (repository / ".dockerignore").read_text().split("\n")
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not named does not travel"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    mounted = re.findall(r"--mount=type=bind,source=([\w./]+)", str(words_of(dockerfile, "RUN")))
    copied = {
        source
        for words in words_of(dockerfile, "COPY")
        for source in [word for word in words.split() if not word.startswith("--")][:-1]
    }
    assert copied | set(mounted) == sent
    for source in sent:
        assert any(file == source or file.startswith(f"{source}/") for file in tracked), source


def test_the_package_is_built_of_what_is_copied(dockerfile, project, tracked):
    copied = " ".join(words_of(dockerfile, "COPY")).split()
    assert project["readme"] in copied
    licences = [file for file in tracked if re.fullmatch(r"(LICEN[CS]E|NOTICE|COPYING)\S*", file)]
    assert set(licences) <= set(copied), "the wheel has its licence"
    assert {"pyproject.toml", "constraints.txt", "ovamgen"} <= set(copied)


def test_what_is_installed_is_pinned(dockerfile, pinned, project):
    (wheel,) = [run for run in words_of(dockerfile, "RUN") if "pip wheel" in run]
    (install,) = [run for run in words_of(dockerfile, "RUN") if "pip install" in run]
    for run in (wheel, install):
        assert "--no-cache-dir" in run
        assert re.search(r"--constraint \S*constraints\.txt", run)
    source = wheel.split()[-2]
    assert source in pinned
    assert f"{source}-*.whl" in install
    extras = dict(words.split("=") for words in words_of(dockerfile, "ARG") if "=" in words)[
        "EXTRAS"
    ]
    assert '[${EXTRAS}]"' in install
    for extra in extras.split(","):
        for requirement in project["optional-dependencies"][extra]:
            assert re.split(r"[<>=]", requirement)[0] in pinned, f"{extra}: {requirement}"


def test_it_runs_as_the_user_of_the_rayjob(dockerfile, repository):
    manifest = yaml.safe_load((repository / "deploy" / "rayjob.yaml").read_text())
    head = manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    context = head["securityContext"]
    (user,) = words_of(dockerfile, "USER")
    assert user == f"{context['runAsUser']}:{context['fsGroup']}"
    owners = re.findall(r"--chown=(\S+)", " ".join(words_of(dockerfile, "COPY")))
    assert set(owners) == {user}
    image = head["containers"][0]["image"]
    assert image == f"REGISTRY/ovamgen:{__version__}"
    labels = re.findall(
        r'opencontainers\.image\.(\w+)="([^"]+)"', str(words_of(dockerfile, "LABEL"))
    )
    assert dict(labels)["version"] == __version__
    # ray's command takes the place of the entry, and finds the programs on the image's path
    assert [json.loads(words) for words in words_of(dockerfile, "ENTRYPOINT")] == [["ovamgen"]]
    assert manifest["spec"]["entrypoint"].split()[0] == "ovamgen"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_package_is_built_from_the_files_that_are_copied_alone(
    dockerfile, tracked, repository, tmp_path
):
    """The line that makes the wheel, without what is compiled: that needs a network."""
    (line,) = [run for run in words_of(dockerfile, "RUN") if "pip wheel" in run]
    copied = [word for words in words_of(dockerfile, "COPY") for word in words.split()[1:-1]]
    source = tmp_path / "source"
    for file in tracked:
        if any(file == name or file.startswith(f"{name}/") for name in copied):
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            (source / file).write_bytes((repository / file).read_bytes())
    words = line.replace("/home/ray/wheels", str(tmp_path / "wheels")).split()
    words.remove("pydensecrf2")
    # the build's requirements are those of this environment, which may have no index
    command = [sys.executable, "-m", *words, "--no-build-isolation", "--no-index"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").iterdir()
    assert wheel.name.startswith(f"ovamgen-{__version__}-py3-none")
