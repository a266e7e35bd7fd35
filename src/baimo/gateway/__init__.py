"""serve: one call at a time through admit → route → call → settle.

Its noun is the Record. Invariants: exactly one Record per admitted call, whatever happens to it; nothing is sent before
its most expensive outcome is reserved and its Record is open; the client's bytes and the model's are changed only where
they must be.
"""
