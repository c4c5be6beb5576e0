"""A segmentation network: its data, training and score."""
