"""Video to frames and grids: `samplers` choose times, `decode` gives the exact frames, `grid` pastes them."""
