"""The settings of an algorithm, one file for each group of them."""
