"""`python -m evaluate.experiments.demo`."""

from evaluate.experiments.demo.cli import main

main()
