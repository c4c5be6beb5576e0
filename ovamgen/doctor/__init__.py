"""Whether a run would work here, found out in seconds and without leaving anything behind."""
