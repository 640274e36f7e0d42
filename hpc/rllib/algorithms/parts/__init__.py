"""The parts of an algorithm: what it reports, evaluates, asks for, and writes."""
