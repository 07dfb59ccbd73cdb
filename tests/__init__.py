"""Claims about exnihilo, and benchmarks. (A package, because others install a `tests` of their own.)"""
