"""One file for each kind of operator of the machine."""
