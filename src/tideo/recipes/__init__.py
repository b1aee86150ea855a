"""A file per recipe: a function whose docstring gives command, hardware, cost and expected result."""
