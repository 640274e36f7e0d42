"""Libraries of Hugging Face in a training function, under Ray's names."""
