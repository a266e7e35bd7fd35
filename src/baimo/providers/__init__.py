"""Ways to reach a model; the noun is the Provider of `baimo.core.call`.

A server's wire format, recorded replies and a scripted fake are one class each; `factory.provider` builds them all
the same way from a Vendor and its settings. Invariants: every failure is a ProviderError; being told to slow down
is never counted against a model or its attempts; a key is read at the moment of the call and kept nowhere; tokens
that nobody counted are None.
"""
