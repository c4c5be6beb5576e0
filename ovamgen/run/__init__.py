"""A run on its output: plan, inputs, shards, bad samples, stages; not which process works."""
