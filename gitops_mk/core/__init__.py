"""VERBS without effects: data in, data out. Nothing here reads a file, a clock or an environment; `now` is an argument."""
