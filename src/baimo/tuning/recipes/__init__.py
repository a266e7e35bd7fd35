"""Recipes: one file each, read top to bottom; `settings` from the dial, then `run`. Only the child process imports them."""
