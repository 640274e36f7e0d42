"""Expressions on columns: made by users, evaluated on tables, pushed into readers."""
