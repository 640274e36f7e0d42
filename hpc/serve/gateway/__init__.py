"""A gateway: a stable address on a login or service node before services that come and go with their jobs."""
