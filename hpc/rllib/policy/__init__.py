"""Specifications of modules by the names that multi-agent programs give them."""
