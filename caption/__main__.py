"""`python -m caption`."""

from caption.cli import main

main()
