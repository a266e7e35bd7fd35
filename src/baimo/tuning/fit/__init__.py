"""Fit: what training is made of: the model, its rows as batches, losses, the loop. Only the child process imports it."""
