"""One telemetry format a file, and the ordered registry of them.

To add a format: a file here, a line in `registry`, its name in `parse/names.py`, a section in `docs/telemetry.md`.
"""
