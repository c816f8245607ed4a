"""Decisions: which waiting job goes next, and on which nodes. Small pieces, named in dictionaries."""
