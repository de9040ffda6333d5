"""From encoded clips to frames and samples: DALI, libjpeg-turbo, WAV, and which of them where."""
