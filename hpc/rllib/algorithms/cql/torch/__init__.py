"""The parts of CQL that need torch."""
