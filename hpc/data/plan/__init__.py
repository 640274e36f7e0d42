"""What a dataset is to do: a tree of frozen nodes, the rules that make it cheaper, and what is run of it."""
