"""The backend "shm": memory that the ranks of a node share, and plain TCP between nodes."""
