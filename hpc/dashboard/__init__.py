"""The dashboard: a page in the browser that shows a running session; a process that asks as `hpc list` does."""
