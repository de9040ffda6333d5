"""Processes beside the loader's, which read for it."""
