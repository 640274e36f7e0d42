"""Exchanges of rows between blocks: sort, shuffle, repartition, group, join."""
