import io
import json
import tarfile

import pytest

from ovamgen.errors import ConfigError
from recipes.mini.catalogue import ICON_SETS
from recipes.mini.fetch import fetch, read_icons, verify

# sha512 of "abc" as FIPS 180-4's example has it, in base64
ABC = (
    "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyk"
    "nw=="
)


def test_verify_accepts_the_digest_of_a_known_message(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    verify(tmp_path / "abc", ABC)


def test_verify_refuses_one_changed_byte(tmp_path):
    (tmp_path / "abc").write_bytes(b"abd")
    with pytest.raises(ConfigError, match="delete it and fetch again"):
        verify(tmp_path / "abc", ABC)


def test_a_tarball_that_is_there_but_wrong_is_refused_without_the_network(tmp_path):
    for icons in ICON_SETS:
        (tmp_path / icons.archive).write_bytes(b"no package")
    with pytest.raises(ConfigError, match=ICON_SETS[0].archive):
        fetch(tmp_path)


def test_without_npm_the_packages_to_bring_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"npm.*@iconify-json/noto@1\.2\.9"):
        fetch(tmp_path / "icons")


def test_a_failing_npm_is_quoted(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'no such host' >&2\nexit 7\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ConfigError, match="ended with 7: no such host"):
        fetch(tmp_path / "icons")


def test_read_icons(tmp_path):
    content = json.dumps({"icons": {"cat": {"body": "<path/>"}}}).encode()
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/icons.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert read_icons(tmp_path / "a.tgz") == {"icons": {"cat": {"body": "<path/>"}}}
