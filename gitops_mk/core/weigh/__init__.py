"""Whether a change is worth its delivery: what it should bring, what it costs, and what became of earlier promises."""
