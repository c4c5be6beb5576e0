"""Measured costs: of recording attention, of each stage of a sample, of drawing on a GPU.

Nothing here imports Ray, so that a machine without it can be measured; nor does the package itself
import anything, so that the processes of `scale`, whose memory is measured, hold no torch.
"""
