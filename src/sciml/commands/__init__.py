"""Verbs of the command line that every domain has."""
