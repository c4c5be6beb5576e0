"""Recipes: how the files that ship with ovamgen were made; nothing in the package imports them."""
