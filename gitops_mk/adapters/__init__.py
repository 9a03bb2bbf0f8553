"""HANDS: one outside peer each, behind a port. No decision is taken here; a foreign error becomes one of ours."""
