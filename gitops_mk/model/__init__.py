"""NOUNS: frozen, self-validating values. No I/O, no clock, no policy; anything here may be imported from anywhere."""
