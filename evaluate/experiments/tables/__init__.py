"""The shipped experiments, one module each: `EXPERIMENT` is the table."""
