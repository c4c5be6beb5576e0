"""ovamgen: image and mask shards for semantic segmentation, out of Stable Diffusion's attention."""

__version__ = "0.1.0"
