"""Where bytes come from: paths and URLs, requests that are made again, files of shards, and the cache."""
