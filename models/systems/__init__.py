"""Networks of towers: what pre-training and fine-tuning train."""
