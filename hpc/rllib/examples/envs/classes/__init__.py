"""Environments, one file each, at the paths that RLlib's examples have."""
