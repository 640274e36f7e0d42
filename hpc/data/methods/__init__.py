"""The methods of `Dataset`, as functions: one file for each kind of them."""
