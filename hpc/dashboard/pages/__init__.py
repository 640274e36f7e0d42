"""The pages of the dashboard: each is one file here, with its ES module in ``static/pages``."""
