"""A run as files that others take: an ONNX graph from frames and waveform to answers, weights, a card."""
