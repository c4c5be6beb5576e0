"""Token banks from end to end: learnt on annotated samples, scored, merged, imported, exported."""

from ovamgen.tokens.banks import describe, import_tokens

__all__ = ["describe", "import_tokens"]
