"""What lies between a batch and the towers: resampling, augmentation, spectrograms; batched, without weights."""
