"""Which classes there are, and the words that name them."""
