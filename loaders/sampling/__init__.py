"""Which clips, in which order, in which pairs: functions of (seed, epoch, position)."""
