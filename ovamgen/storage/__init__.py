"""Files here or behind a URL: stores, locks, leases, retries; no shards, no plans."""
