"""Names of columns that learners of programs use."""
