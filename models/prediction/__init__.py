"""From a video's file to what a run says of it, by the code that datasets are built with."""
