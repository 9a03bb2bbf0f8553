"""ORDER OF EFFECTS: one module a verb. What to decide is asked of `core`, what to do is asked of a port."""
