"""The command line: one file per verb and per noun. Data goes to stdout, talk to stderr; `--json` everywhere.

Exit codes are those of `baimo.errors`; 130 after Ctrl-C. Nothing heavy is imported before a command runs.
"""
