"""Functions of which programs make a training_step of their own."""
