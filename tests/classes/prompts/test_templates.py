"""What a file of templates may say."""

import pytest

from ovamgen.classes.prompts.templates import load_templates
from ovamgen.errors import ConfigError


def refused(tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_templates(str(path))
    message = str(caught.value)
    assert message.startswith(f"template file {path}")
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_those_that_ship_have_sentences_about_one_two_and_three():
    templates = load_templates()
    assert all(len(templates.about(count)) >= 4 for count in (1, 2, 3))
    assert not templates.about(4)


def test_an_own_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("sentences: ['{class} {where}']\nwords: {where: [here, there]}", "utf-8")
    templates = load_templates(str(path))
    assert templates.attributes == ("",)
    assert templates.words == {"where": ("here", "there")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "must hold a list 'sentences:', got a list"),
        ("words: {}", "key 'sentences' must be given"),
        ("sentences: []", "at least 1"),
        ("sentences: {class}", "sentences: input should be a list, got"),
        ("sentences: ['a photo']", "must hold {class}"),
        ("sentences: ['{class2}']", "must hold {class}"),
        ("sentences: ['{class} {class3}']", "must hold {class}"),
        ("sentences: ['{class} {class2}']", "at least one sentence with {class} alone"),
        ("sentences: ['{class} {plce}']\nwords: {place: [a]}", "did you mean 'place'?"),
        ("sentences: ['{class} }']", "a brace without its partner"),
        ("sentences: ['{class} {{x}}']", "{x}"),
        ("sentences: ['{class!r:>99999999}']", "known are"),
        ("sentences: ['{class}']\nwords: {place: []}", "at least 1"),
        ("sentences: ['{class}']\nwords: {class: [a]}", "'class' stands for a class"),
        ("sentences: ['{class}']\nattribute: [old]", "did you mean 'attributes'?"),
        ("sentences: ['{class}']\nattributes: [3]", "valid string, got 3"),
        (f"sentences: ['{{class}} {'x' * 300}']", "at most 200 printable characters"),
        ("sentences: ['{class}', *a]", "cannot be read as YAML"),
    ],
)
def test_what_is_refused(tmp_path, text, expected):
    assert expected in refused(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        load_templates(str(tmp_path / "none.yaml"))
