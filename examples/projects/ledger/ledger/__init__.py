"""Shared expenses: read, summed up and settled."""
