import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ovamgen.classes.loading import default_classes
from ovamgen.report.figures import contact_sheet, encode_sheet
from ovamgen.storage.store import LocalStore
from tests.report.test_selection import publish

VOC = default_classes()

WIDE = {"height": 32, "width": 64}


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def texts(monkeypatch):
    """Every text drawn, with its box."""
    drawn = []
    original = ImageDraw.ImageDraw.text

    def text(self, xy, text, fill=None, font=None, anchor=None, **keywords):
        drawn.append((text, self.textbbox(xy, text, font=font, anchor=anchor)))
        return original(self, xy, text, fill, font, anchor, **keywords)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return drawn


def _sheet(store, numbers=(0, 1, 2, 3, 4), **values):
    return contact_sheet(store, [publish(store, 0, numbers, **WIDE)], VOC, **values)


def test_equal_runs_give_equal_sheets(store):
    one = _sheet(store, title="A", note="b")
    assert encode_sheet(one) == encode_sheet(_sheet(store, title="A", note="b"))
    assert encode_sheet(one) != encode_sheet(_sheet(store, title="A", note="c"))


def test_everything_that_is_written_lies_on_the_sheet_and_apart(store, texts):
    sheet = _sheet(store, title="A title " * 20, note="a note " * 40)
    written = [text for text, _ in texts]
    for name in ("aeroplane", "cat", "dining table", "person", "tv", "heatmap", "0", "max"):
        assert name in written
    legend = {"mask, coloured by class", "its edge", "background"}
    assert legend <= set(written)
    assert any(text.startswith("a photo of a cat") for text in written)
    boxes = [box for _, box in texts]
    for left, top, right, bottom in boxes:
        assert 0 <= left <= right <= sheet.width
        assert 0 <= top <= bottom <= sheet.height
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = (
                one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            )
            assert apart, (texts[index], other)


def test_long_prompts_end_in_an_ellipsis(store, texts, monkeypatch):
    import tests.report.test_selection as module

    make_spec = module.make_spec
    monkeypatch.setattr(
        module, "make_spec", lambda *a, **k: make_spec(*a, **k | {"prompt": "many words " * 50})
    )
    sheet = _sheet(store, (0,))
    (prompt,) = [(text, box) for text, box in texts if text.startswith("many")]
    assert prompt[0].endswith(" …")
    assert prompt[1][2] <= sheet.width


def test_wide_images_make_wide_panels(store):
    """Three panels of 168 x 84 pixels beside each other; the image is the first."""
    record = publish(store, 0, [3], height=128, width=256)
    sheet = np.asarray(contact_sheet(store, [record], VOC))
    rows = np.flatnonzero((sheet[:, 44:212] != 255).any(axis=2).mean(axis=1) > 0.98)
    assert len(rows) == 84
    columns = np.flatnonzero((sheet[rows] != 255).any(axis=(0, 2)))
    assert (columns.min(), columns.max()) == (44, 44 + 3 * 168 + 2 * 6 - 1)


def test_grid_has_no_empty_columns(store):
    one = _sheet(store, (0,), columns=4)
    assert one.width == 44 * 2 + 3 * 168 + 12
    three = _sheet(LocalStore(f"{store.url}/b"), (0, 1, 2), columns=2, rows=1)
    assert three.height < one.height + 10


def test_a_sheet_of_flagged_samples_shows_none_and_says_so(store, texts):
    sheet = contact_sheet(store, [publish(store, 0, [0], unsafe=True, **WIDE)], VOC)
    assert any("may be shown" in text for text, _ in texts)
    assert all(box[3] < sheet.height for _, box in texts)
    assert sheet.height < 200


def test_encoded_sheets_stay_under_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    sheet = Image.fromarray(noise)
    assert Image.open(io.BytesIO(encode_sheet(sheet))).size == (400, 300)
    data = encode_sheet(sheet, max_bytes=100_000)
    assert len(data) <= 100_000
    small = Image.open(io.BytesIO(data))
    assert small.mode == "RGB"
    assert 150 < small.width < 400
