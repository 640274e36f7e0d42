"""The parts of PPO that need torch."""
