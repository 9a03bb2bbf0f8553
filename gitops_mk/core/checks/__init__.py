"""Verify: numbered steps over gathered facts. The controller collects, these judge; a verdict replays from its facts.

A new step is one file in `steps/`, one line in `registry.py`, one test and one section of `docs/verify.md`.
"""
