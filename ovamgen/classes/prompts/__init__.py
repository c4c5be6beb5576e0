"""Captions for classes that nobody captioned: of templates, rewritten by a language model."""
