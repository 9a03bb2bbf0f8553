"""Steps, one file each: `check(facts) -> Verdict`. They know nothing of each other."""
