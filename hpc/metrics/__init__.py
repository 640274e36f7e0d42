"""What is made of a session's metrics for others: text for Prometheus, a target to scrape, boards for Grafana."""
