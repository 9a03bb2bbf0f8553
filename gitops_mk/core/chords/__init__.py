"""Chords: how each macro-operation computes its targets from the values as they stand. One recipe, one file."""
