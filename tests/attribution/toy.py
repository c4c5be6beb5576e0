"""A method written from nothing but "How to add a method": where queries are long."""

from ovamgen.attribution.interface import HeatmapSink
from ovamgen.attribution.maps import MapSums


class QueryLengths:
    def __init__(self, model, targets):
        self._classes = len(targets)

    def open(self, prompts):
        return QueryLengthsSink(self._classes)


class QueryLengthsSink(HeatmapSink):
    maximum = 1e6
    nbytes = property(lambda self: self._sums.nbytes)

    def __init__(self, classes):
        self._classes, self._sums = classes, MapSums()

    def update(self, layer, queries, size):
        lengths = queries.float().norm(dim=3).sum(1)
        self._sums.add(lengths[:, :, None].repeat(1, 1, self._classes), size, queries.shape[1])

    def class_maps(self):
        return self._sums.total()
