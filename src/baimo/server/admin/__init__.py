"""The admin API under /api: tenants, keys, ledger, limits, models, and the state of this endpoint.

Its noun is `Operation`; `table.OPERATIONS` holds all of them. Routes, input checks, roles, tenancy and the OpenAPI
document are derived from that table, so nothing can be served that is not described, or described and not checked.
"""
