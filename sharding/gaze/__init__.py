"""The gaze statistics of an OpenFace 2 table."""
