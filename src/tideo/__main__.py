"""`python -m tideo` is `tideo`."""

from tideo.cli import main

main()
