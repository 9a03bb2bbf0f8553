"""Benchmarks, always as ratios against a yardstick that runs at the same time on the same machine: `python -m tests.bench`."""
