"""Hyperparameter search on the nodes of a session: Ray Tune's names, defaults and semantics."""
