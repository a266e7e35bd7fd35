"""Recipes: one file each, read top to bottom.

Each has `Settings` (every value that it uses), `planned(effort, facts, overrides)` (the dial → everything else) and
`run(bench, settings)`. `baimo.tuning.bench.RECIPES` lists them. They run in a child process only.
"""
