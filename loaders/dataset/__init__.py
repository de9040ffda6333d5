"""What a dataset is: its manifest, its catalogs, and where the bytes of its shards come from."""
