"""The parts of SAC that need torch."""
