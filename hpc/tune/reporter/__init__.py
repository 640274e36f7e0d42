"""How an experiment is shown: tables, rows, and what is printed by itself."""
