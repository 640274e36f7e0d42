"""What scripts written for RLlib import from its examples: environments, and the frame of a script."""
