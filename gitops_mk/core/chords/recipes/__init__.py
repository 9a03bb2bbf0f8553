"""Recipes: each a function `targets(state) -> Solution`, blind to policy; the envelope judges what they ask for."""
