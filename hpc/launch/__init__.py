"""A session from a wish to its end: planned, submitted, followed or run here, and reported.

It knows nothing of the commands in `hpc.cli`, which stand above it.
"""
