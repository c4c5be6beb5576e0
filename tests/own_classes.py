"""A finished corpus of three classes of its own: ids with gaps, own colours, an own phrase."""

import pytest

from ovamgen.classes.class_set import ClassSet
from ovamgen.generation import draw_contact_sheet
from ovamgen.report.figures import encode_sheet
from ovamgen.run.local import generate_local
from ovamgen.shards.output_files import CONTACT_SHEET_NAME
from tests.fakes import DiscEngine
from tests.runs import make, run_config

YARD = ClassSet.from_record(
    {
        "name": "yard",
        "classes": [
            {"id": 1, "name": "forklift", "colour": "#ff8800"},
            {"id": 7, "name": "pallet", "phrase": "wooden pallet", "colour": "#0033cc"},
            {"id": 254, "name": "vehicle", "phrases": ["car", "truck"], "colour": "#00cc66"},
        ],
    }
)
CAPTIONS = [
    "a forklift in a hall",
    "a wooden pallet",
    "a truck beside a forklift",
    "a car at night",
]
COLOURS = {1: (255, 136, 0), 7: (0, 51, 204), 254: (0, 204, 102)}


def make_yard(folder, count=12, **sections):
    """The run, its output in ``folder/out``: shards of 8 samples, with stored heatmaps."""
    texts = [CAPTIONS[index % len(CAPTIONS)] for index in range(count)]
    config = run_config(
        folder,
        texts=texts,
        classes=YARD,
        attribution={"tokens": "words"},
        shards={"heatmaps": True},
        masks={"ignore_low": 0.3, "ignore_high": 0.4},
        **sections,
    )
    run = make(config, generate_local, DiscEngine)
    records = [run.records[index] for index in sorted(run.records)]
    run.store.put(CONTACT_SHEET_NAME, encode_sheet(draw_contact_sheet(run.store, records, config)))
    return folder / "out"


@pytest.fixture(scope="session")
def yard(tmp_path_factory):
    """Two shards of 8 and 4 samples; never to be written to."""
    folder = tmp_path_factory.getbasetemp() / "yard"
    # every module that imports the fixture has one of its own, and they share what it makes
    if not (folder / "out" / CONTACT_SHEET_NAME).exists():
        folder.mkdir(exist_ok=True)
        make_yard(folder)
    return folder / "out"
