"""Ray's place for the room of trials."""
