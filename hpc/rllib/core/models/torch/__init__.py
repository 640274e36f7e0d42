"""Networks of torch that the catalogs build."""
