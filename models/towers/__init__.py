"""From frames, spectrograms and gaze to an embedding each: one tower a file, and the kernels they share."""
