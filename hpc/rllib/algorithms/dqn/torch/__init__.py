"""The parts of DQN that need torch."""
