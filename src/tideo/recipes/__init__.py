"""One file for each recipe; its docstring gives command, hardware, cost and expected result."""
