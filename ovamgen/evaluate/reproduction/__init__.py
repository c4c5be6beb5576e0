"""The supplementary of the OVAM paper, from pictures to one page: ``jobs/reproduce.py``."""
