"""The tables of the thesis' results, made again: what `benchmarks/thesis_tables.py` is built of."""
