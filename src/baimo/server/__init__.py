"""The endpoint: what clients connect to, from the socket to the gateway and back.

Prevents the failure where the server is the slow part, or the soft one: model calls go from the bytes to the gateway
without a framework between, and nothing that a client sends or omits costs another client anything.
"""
