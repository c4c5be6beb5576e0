"""``ovamgen evaluate recipe``: a search for the best way to read the same attention."""
