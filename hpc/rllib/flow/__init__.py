"""How experience flows from runners to learners: a pure coordinator, its simulator, weights by reference, and shards of
replayed steps."""
