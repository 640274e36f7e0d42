"""Parts of episodes."""
