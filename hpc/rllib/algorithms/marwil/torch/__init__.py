"""The parts of MARWIL that need torch."""
