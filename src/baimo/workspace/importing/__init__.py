"""Settings of another gateway turned into baimo.toml.

Its noun is `Carried`. Invariant: every value of the source is either somewhere in the settings or named in a note;
what nobody thought of is noted by construction, because values that were not asked for are listed at the end. A key
that stands in the source itself is never copied, into the settings or into a note.
"""
