"""Blocks of rows, Arrow tables all: how they are made, cut, compacted, joined, and given as batches."""
