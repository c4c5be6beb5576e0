"""The page's text and bytes; what a browser makes of it is in `test_page_browser`."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from inspect import signature

import pytest

from ovamgen.cli.app import main
from ovamgen.cli.report import report
from ovamgen.errors import ConfigError, PlanError, ShardError
from ovamgen.report import write
from ovamgen.report.corpus import read_corpus
from ovamgen.report.page import render_page
from ovamgen.report.sampling import Sampler
from ovamgen.report.sections import loading, percent, plain
from ovamgen.report.statistics import gather
from ovamgen.report.thumbnails import make_thumbnails
from ovamgen.report.write import write_report
from ovamgen.run.run import write_plan
from ovamgen.shards.card import without_folder
from ovamgen.shards.output_files import REPORT_NAME
from ovamgen.storage.store import open_store
from tests.report.corpora import HOSTILE, captions
from tests.runs import digests, run_config

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; its tables as lists of rows."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.texts, self.tables = [], []
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"script", "style"} & set(self.open):
            return
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def table(self, first):
        """The table whose head begins with the words, without its head."""
        return next(table[1:] for table in self.tables if table[0][0] == first)


def report_of(folder, tmp_path, **options):
    write_report(str(folder), str(tmp_path / "page.html"), **options)
    return (tmp_path / "page.html").read_text("utf-8")


@pytest.fixture(scope="module")
def page(page_file):
    return Page(page_file.read_text("utf-8"))


def test_the_funnel_adds_up(page):
    rows = page.table("step")
    counts = [int(row[1].replace(",", "").replace("−", "-")) for row in rows]
    names = [" ".join(row[0].split()[:2]) for row in rows]
    steps = dict(zip(names, counts, strict=True))
    assert steps["captions read"] == 62
    assert steps["samples planned"] == 61
    assert steps["samples made"] == 58
    assert steps["no target"] == -1
    assert {steps[f"failed: {stage}"] for stage in ("synthesis", "safety", "masks")} == {-1}
    assert 62 + sum(n for n in counts if n < 0) == 58
    assert counts[-1] == 1, "one sample was flagged"


def test_classes_are_counted(page, corpus):
    rows = page.table("class")
    assert len(rows) == 20
    specs = list(read_corpus(open_store(str(corpus))).plan.specs)
    for row in rows:
        planned = sum(row[0] in {target.phrase for target in spec.targets} for spec in specs)
        assert row[1] == (f"{planned}" if planned else "–"), row


def test_failures_stand_with_their_messages(page):
    rows = {row[1]: row for row in page.table("count")}
    assert set(rows) == {"synthesis", "safety", "masks"}
    told = 'RuntimeError: <b>bad luck</b> with KEY: "<script>alert(2)</script>"'
    assert rows["synthesis"][2] == told
    assert "nan" in rows["masks"][2]
    assert re.fullmatch(r"\d{11}", rows["safety"][3])


def test_nothing_of_the_corpus_becomes_markup(page):
    assert page.tags.count("script") == 1
    assert "b" in page.tags
    assert HOSTILE.split("number")[0].strip() in page.text
    handlers = [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert handlers == []
    assert [value for tag, name, value in page.attributes if name == "src"]
    for tag, name, value in page.attributes:
        if name == "src":
            assert tag == "img"
            assert value.startswith("data:image/webp;base64,")
        if name == "href":
            assert value.startswith("#") or value == "data:,"


def test_the_policy_admits_only_its_own_script_and_style(page_file):
    html = page_file.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_the_same_corpus_gives_the_same_page(corpus, page_file, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "elsewhere" / corpus.name)
    before = digests(copy)
    assert report_of(copy, tmp_path).encode() == page_file.read_bytes()
    assert digests(copy) == before, "nothing of the corpus is changed"


def test_no_path_of_the_machine_is_on_the_page(page_file, corpus):
    html = page_file.read_text("utf-8")
    assert str(corpus.parent) not in html
    assert "ovamgen-test-captions" not in html


def test_without_out_it_stands_beside_the_shards(corpus, page_file, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / corpus.name)
    made = write_report(str(copy))
    assert made.out == str(copy / REPORT_NAME)
    assert (copy / REPORT_NAME).read_bytes() == page_file.read_bytes()
    again = write_report(str(copy))
    assert again == made, "the page itself is no part of what it is about"


def test_a_partial_run_says_what_is_missing(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "out")
    (copy / "manifests" / "000001.json").unlink()
    page = Page(report_of(copy, tmp_path))
    assert "This run is not finished. 1 of 4 shards are missing: 000001." in page.text
    assert "not made yet in 1 of 4 shards" in page.text
    rows = {" ".join(row[0].split()[:2]): row[1] for row in page.table("step")}
    assert rows["not made"] == "−16"


def test_a_plan_alone_has_a_page(tmp_path):
    config = run_config(tmp_path, texts=captions(20))
    write_plan(config)
    page = Page(report_of(tmp_path / "out", tmp_path))
    assert "Nothing has been made yet." in page.text
    assert "There is no sample to show." in page.text
    assert "There is nothing to load yet." in page.text
    assert "script" not in page.tags


def test_shards_without_their_plan_have_a_page(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / "out")
    (copy / "plan.parquet").unlink()
    (copy / "run.yaml").unlink()
    page = Page(report_of(copy, tmp_path))
    assert "The plan is not here." in page.text
    assert "captions read" not in page.text


def test_random_weights_are_said(corpus, tmp_path, page):
    assert "random weights" not in page.text
    copy = shutil.copytree(corpus, tmp_path / "out")
    run = (copy / "run.yaml").read_text()
    (copy / "run.yaml").write_text(run.replace("trained: true", "trained: false"))
    assert "The model has random weights." in Page(report_of(copy, tmp_path)).text


def test_no_pictures_when_none_are_asked_for(corpus, tmp_path):
    page = Page(report_of(corpus, tmp_path, max_samples=0))
    assert "img" not in page.tags


def test_missing_heatmaps_are_said(corpus, tmp_path, monkeypatch):
    real = write.make_thumbnails

    def without_heatmaps(*args, **options):
        return [replace(thumbnail, heatmap=None) for thumbnail in real(*args, **options)]

    monkeypatch.setattr(write, "make_thumbnails", without_heatmaps)
    html = report_of(corpus, tmp_path)
    assert "No heatmaps were stored" in html
    assert 'class="heatmap"' not in html
    assert 'max="1" step="0.05" value="0"' in html


def test_the_samples_stay_within_the_budget(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MAX_CARD_BYTES", 200_000)
    made = write_report(str(corpus), str(tmp_path / "page.html"))
    assert 10 < made.samples_shown < 57
    html = (tmp_path / "page.html").read_text("utf-8")
    cards = re.findall(r"<article.*?</article>", html, re.DOTALL)
    assert len(cards) == made.samples_shown
    assert sum(len(card.encode()) for card in cards) <= 200_000
    assert f"{made.samples_shown} of 58" in Page(html).text


@pytest.mark.parametrize("prompt", ["<" * 999, "\U0001f600" * 999, "a cat"])
def test_no_sample_takes_more_of_the_page_than_it_is_charged_for(corpus, prompt):
    store = open_store(str(corpus))
    about = read_corpus(store)
    sampler = Sampler(20)
    statistics = gather(store, about.records, about.classes, each_row=sampler.add)
    thumbnails = [
        replace(thumbnail, metadata={**thumbnail.metadata, "prompt": prompt})
        for thumbnail in make_thumbnails(
            store, about.records, sampler.choose(), about.classes, max_bytes=10**9
        )
    ]
    html = render_page(about, statistics, thumbnails)
    sizes = {
        re.search(r'data-key="(\d+)"', card)[1]: len(card.encode())
        for card in re.findall(r"<article.*?</article>", html, re.DOTALL)
    }
    for thumbnail in thumbnails:
        assert sizes[thumbnail.choice.candidate.key] <= thumbnail.page_bytes
    rest = len(html.encode()) - sum(sizes.values())
    assert rest + write.MAX_CARD_BYTES < 15_000_000


LOADED = """
import json, numpy
found = {}
for library, code in json.loads(input()).items():
    found[library] = {}
    exec(code, found[library])
pairs = list(found["webdataset"]["pairs"])
image, mask = pairs[0]
print(json.dumps({
    "samples": len(pairs),
    "image": image.shape,
    "mask": mask.tolist(),
    "datasets": numpy.asarray(found["datasets"]["mask"]).tolist(),
    "ovamgen": sorted(set(found["ovamgen"]["mask"].unique().tolist())),
}))
"""


def test_the_three_lines_load_the_data(corpus, tmp_path):
    lines = dict(loading(read_corpus(open_store(str(corpus)))))
    assert [len(code.splitlines()) for code in lines.values()] == [3, 3, 3]
    # in a process of its own: both libraries leave files open
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        input=json.dumps(lines),
        cwd=corpus.parent,
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["samples"] == 58
    assert found["image"] == [64, 64, 3]
    assert found["mask"] == found["datasets"]
    assert {value for row in found["mask"] for value in row} <= {*range(21), 255}
    assert set(found["ovamgen"]) <= {*range(21), 255}


def test_shards_with_a_gap_are_listed_by_name(corpus, tmp_path):
    copy = shutil.copytree(corpus, tmp_path / 'a "corpus"')
    (copy / "manifests" / "000001.json").unlink()
    code = dict(loading(read_corpus(open_store(str(copy)))))["webdataset"]
    assert 'sorted(glob.glob("a \\"corpus\\"/train-*.tar"))' in code
    compile(code, "lines", "exec")


BROKEN = {
    "no run": (lambda folder: shutil.rmtree(folder), ConfigError, "holds no plan.parquet and no"),
    "view": (
        lambda folder: become_view(folder),
        ConfigError,
        "expected a corpus, got a view of one: name its source",
    ),
    "plan": (
        lambda folder: (folder / "plan.parquet").write_bytes(b"PAR1 nothing"),
        PlanError,
        "plan.parquet: the plan cannot be read",
    ),
    "run file": (
        lambda folder: (folder / "run.yaml").write_text("- 1"),
        ConfigError,
        "run.yaml is damaged",
    ),
    "record": (
        lambda folder: (folder / "manifests" / "000002.json").write_text("{"),
        ShardError,
        "manifests/000002.json: a shard record cannot be read as JSON",
    ),
    "metadata cut": (
        lambda folder: (folder / "metadata" / "000000.parquet").write_bytes(b"PAR1"),
        ShardError,
        "metadata/000000.parquet must have .* bytes .*, and has 4",
    ),
    "metadata changed": (
        lambda folder: flip(folder / "metadata" / "000001.parquet"),
        ShardError,
        "metadata/000001.parquet is damaged: its bytes are not those recorded",
    ),
    "tar gone": (
        lambda folder: (folder / "train-000003.tar").unlink(),
        ShardError,
        "train-000003.tar must have .* bytes .*, and is not there",
    ),
    "tar changed": (
        lambda folder: scribble(folder / "train-000000.tar"),
        ShardError,
        "train-000000.tar",
    ),
}


def become_view(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "selection.json").write_text("{}")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))


def scribble(path):
    data = path.read_bytes()
    path.write_bytes(data[:1024] + b"\xff" * (len(data) - 2048) + data[-1024:])


@pytest.mark.parametrize("case", BROKEN)
def test_damage_is_named_and_nothing_is_written(case, corpus, tmp_path):
    damage, kind, message = BROKEN[case]
    copy = shutil.copytree(corpus, tmp_path / "out")
    damage(copy)
    with pytest.raises(kind, match=message):
        write_report(str(copy), str(tmp_path / "page.html"))
    assert not list(tmp_path.glob("*page.html*"))


@pytest.mark.parametrize(("out", "message"), [(".", "got a folder"), ("no/page.html", "no folder")])
def test_an_out_that_cannot_be_written_is_said_first(out, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        write_report(str(tmp_path / "nothing here"), str(tmp_path / out))


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ovamgen", "report", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_command_says_where_the_page_is(corpus, tmp_path, monkeypatch, capsys):
    out = tmp_path / "page.html"
    assert run_command(monkeypatch, corpus, "--out", out, "--max-samples", 5) == 0
    told = capsys.readouterr().out
    assert str(out) in told
    assert "58 samples made, 3 failed" in told
    assert out.read_text().count('<article class="card"') == 5
    assert run_command(monkeypatch, corpus, "--out", out, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["samples"] == 58
    assert values["size_bytes"] == out.stat().st_size


def test_the_command_and_the_function_show_as_many():
    assert signature(report).parameters["max_samples"].default == write.MAX_SAMPLES


def test_the_command_names_what_is_wrong(tmp_path, monkeypatch, capsys):
    assert run_command(monkeypatch, tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "holds no plan.parquet and no finished shard" in captured.err
    assert len(captured.err.splitlines()) == 1


def test_untrusted_text_is_one_printable_line():
    assert plain("a\n\tb\x00\u202ec\x1b[31m") == "a b\ufffd\ufffdc\ufffd[31m"


def test_shares_have_two_digits():
    assert [percent(x) for x in (0.0, 0.0004, 0.0123, 0.0994, 0.0996, 0.567, 1.0)] == [
        "0.0 %",
        "< 0.1 %",
        "1.2 %",
        "9.9 %",
        "10 %",
        "57 %",
        "100 %",
    ]


def test_folders_of_the_machine_are_left_out():
    assert without_folder("/home/someone/captions.json") == "captions.json"
    assert without_folder("stable-diffusion-v1-5/stable-diffusion-v1-5").count("/") == 1
    assert without_folder("s3://bucket/captions.json") == "s3://bucket/captions.json"


def test_the_template_is_in_the_package():
    folder = resources.files("ovamgen.report") / "templates"
    assert {entry.name for entry in folder.iterdir()} == {"page.html.j2", "page.css", "page.js"}
