"""What a dataset says of itself to people and to other programs: a dataset card, and Croissant metadata."""
