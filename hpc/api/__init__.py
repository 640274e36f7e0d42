"""How the names that users import are made: connecting, remote functions, actors, objects, options, placement."""
