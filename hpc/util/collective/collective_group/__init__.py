"""The base of backends of one's own, where Ray has it."""
