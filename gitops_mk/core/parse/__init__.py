"""Bytes in, columns out: telemetry lines read in bulk, put in order, and every line that is left out counted.

No dict a line and no loop with a body a line on the way: typed decoding in C, then arrays (see `jsonl`). What a line
means depends on that line and the lines before it, never on how the bytes were cut into chunks.
"""
