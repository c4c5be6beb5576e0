"""A folder of samples that is not square, and a server of it."""

from __future__ import annotations

import queue
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest

from ovamgen.annotate.serving import annotate
from ovamgen.pictures.sample_folder import Sample, SampleFolder

HEIGHT, WIDTH = 120, 200
CAT = Sample(key="cat-0", class_name="cat", prompt='<b>A "cat"</b>, asleep', seed=1)
TABLE = Sample(key="table_1", class_name="diningtable", prompt="a plate", seed=2)
DOG = Sample(key="dog-2", class_name="dog", prompt="a dog", seed=3)
SETTINGS = {"model": {"id": "mini"}, "synthesis": {"steps": 30}}


def disc(y, x, radius, height=HEIGHT, width=WIDTH):
    """Pixels whose centre is at most ``radius`` from (x, y)."""
    rows, columns = np.mgrid[:height, :width]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture
def folder(tmp_path):
    made = SampleFolder.create(tmp_path / "samples", [CAT, TABLE, DOG], SETTINGS)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for index, sample in enumerate(made.samples):
        image = np.stack([rows * 2, columns, np.full_like(rows, 90 * index)], axis=2)
        made.add_image(sample, image.astype(np.uint8))
    return made


class Served:
    """A server in a thread of its own."""

    def __init__(self, folder):
        self._said, self._stop = queue.Queue(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder,), daemon=True)
        self._thread.start()
        self.url = self._said.get(timeout=30)
        assert isinstance(self.url, str), self.url
        parts = urlsplit(self.url)
        self.port, self.root = parts.port, parts.path

    def _run(self, folder):
        try:
            self._said.put(annotate(folder, announce=self._said.put, stop=self._stop))
        except BaseException as error:
            self._said.put(error)

    def finish(self):
        """What was annotated."""
        self._stop.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        return self._said.get(timeout=1)


@pytest.fixture
def served(folder):
    server = Served(folder)
    yield server
    if server._thread.is_alive():
        server.finish()
