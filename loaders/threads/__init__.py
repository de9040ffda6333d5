"""What threads hand each other: queues, turns, buffers."""
