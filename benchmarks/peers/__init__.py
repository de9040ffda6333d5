"""The loaders that ours is measured against, one file each, set up as their own documentation advises.

Each module has one function, ``batches(task) -> Iterator[Served]``: the clips of a form of the data without end, as
torch tensors, in an order of the peer's own. `benchmarks.peers.registry` lists them, `benchmarks.peers.prepare` makes
the forms, `benchmarks.peers.measure` runs one of them in a process of its own.
"""
