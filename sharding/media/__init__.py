"""A file's pictures and sound on one clock, and how a clip's are encoded."""
