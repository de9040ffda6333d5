"""Runs: their settings, tasks, loop, checkpoints, folders and scores."""
