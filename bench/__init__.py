"""Benchmarks of hpc beside its peers: `python -m bench`, or `make bench`."""
