"""Other libraries inside of trials."""
