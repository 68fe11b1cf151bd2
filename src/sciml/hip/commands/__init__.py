"""Verbs of ``sciml hip``: parse, call, print. The verb ``x`` is the function ``x`` in ``x.py``."""
