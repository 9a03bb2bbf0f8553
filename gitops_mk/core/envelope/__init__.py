"""The safety envelope: every rule judges every proposed action; the first no in registry order is the reason.

A new rule is one file in `rules/`, one line in `registry.py`, one test and, with a new reason, one heading in
`docs/reasons.md`.
"""
