"""From files to features: readers, sources, columns, checks, ledger, preparation, batching."""
