"""For authors of plugins and for the tests here: contract suites and scripted doubles.

A suite is a base class for pytest: subclass it, say how your object is made, and every promise that the platform
relies on becomes a test of yours.
"""
