"""The modules that algorithms build when the user names none."""
