"""Files behind URLs: filesystems, one policy for what goes wrong, reading; no shards, no plans."""
