"""OpenAI's graders: a description in JSON, an item and a sample in; a score, or a named error, out.

They serve the evals API, the grader routes, a comparison (scorer `grader`) and, passed on by `workspace`, the rewards
of tuning. Invariants: a grader is checked as a whole before anything is asked; no sample text makes one raise; what
went wrong is data, in the words of OpenAI's grader runs. Source: developers.openai.com/api/docs/guides/graders and the
types of the official SDK 3.54.
"""
