"""What a page about a run shows, from its folder."""
