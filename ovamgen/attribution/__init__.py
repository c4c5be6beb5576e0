"""Recordings of attention to heatmaps; torch, but neither diffusers nor Ray."""
