"""Which samples are worth training on: filters, their table, views and copies."""
