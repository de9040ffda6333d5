"""What a page about a dataset shows."""
