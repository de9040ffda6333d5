"""Systems by name, a short table each, see `models.systems.registry`."""
