"""WHAT to make: captions, targets, balance, tasks. Pure Python and pyarrow; no torch, no Ray."""
