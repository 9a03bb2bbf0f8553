"""Rules, one file each: `judge(context) -> Verdict`. They know nothing of each other."""
