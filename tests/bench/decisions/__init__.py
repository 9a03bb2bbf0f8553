"""How good the decisions are, on runs whose truth is known: `python -m tests.bench.decisions`."""
