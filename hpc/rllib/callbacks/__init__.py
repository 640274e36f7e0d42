"""What algorithms call while they run: for logging, changes of settings, and checks of a program."""
