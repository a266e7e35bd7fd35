"""HTTP/1.1 to a model's server: our own client, because a request passes through it thirty thousand times a second.

Prevents the failures of generic clients on this path: a request that is quietly sent twice, a connection that is used
again although the last answer did not end where it said it would, and a timer and a task for every call.
"""
