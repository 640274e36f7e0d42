"""From blocks to what a consumer takes: batches, tensors, orders, positions."""
