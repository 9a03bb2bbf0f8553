"""One detector a file, each `detect(view) -> Signal`. They do not import each other."""
