"""Columns in, signals out: bounded history, one detector a file, one cause a symptom, and abstention without evidence.

Every rule states an effect (how much), a noise (of what), and a persistence (for how long); a number alone is never a
signal.
"""
