"""Distributions of actions, in torch for learners and in numpy for acting."""
