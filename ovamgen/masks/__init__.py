"""Heatmaps to label maps; numpy only, no torch."""
