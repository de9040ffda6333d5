"""The files that a build reads: here or in an object store, read safely, known by their fingerprints."""
