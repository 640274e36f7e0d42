"""What remains of a job: one file for people that says why it ended, what it used and what to change."""
