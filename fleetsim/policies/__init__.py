"""Decisions: which waiting job goes next, and on which nodes. Each policy is one small piece, named in a dictionary."""
