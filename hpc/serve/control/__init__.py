"""The control plane of a service: pure machines that decide, and the actor that carries it out."""
