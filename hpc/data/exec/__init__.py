"""Running a plan: a machine that decides (pure), and a thread that does what it says."""
