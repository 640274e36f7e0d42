"""The parts of BC that need torch."""
