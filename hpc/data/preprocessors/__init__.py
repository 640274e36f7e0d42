"""Preprocessors: what is fitted to a dataset, and applied to datasets and batches."""
