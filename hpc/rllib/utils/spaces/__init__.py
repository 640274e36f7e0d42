"""Work on gymnasium spaces."""
