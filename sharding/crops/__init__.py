"""What of each picture is kept: boxes, faces."""
