"""Measured costs: of recording attention, of each stage of a sample, of drawing on a GPU.

Nothing here imports Ray, so that a machine without it can be measured.
"""

from ovamgen.bench.attention import AttentionBench, bench_attention
from ovamgen.bench.memory import LiveTensorBytes

__all__ = ["AttentionBench", "LiveTensorBytes", "bench_attention"]
