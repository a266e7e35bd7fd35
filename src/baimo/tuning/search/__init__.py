"""Ways to ask a model better, found by trying: which solved examples to show it, and in which words to instruct it.

Noun: `Work`, what is asked, of whom, and how answers are judged. Invariants: only the train split is ever seen; what
is shown is never also asked; the figure that is reported comes from examples that no choice was made on; a search
that was killed walks the same path again without paying again.
"""
