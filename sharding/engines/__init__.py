"""Where a build's work runs, and how it ends."""
