"""Video to frames: `decode` (exact frames at times) and `samplers` (which times); below them `streams`."""
