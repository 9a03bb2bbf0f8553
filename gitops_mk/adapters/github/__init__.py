"""GitHub and GitHub Enterprise Server, through PyGithub.

`auth` holds who we are there, `transport`, `budget` and `api` how it is spoken to, `wire` and `pulls` what its answers mean,
`listing` what is remembered between two turns, `rules` what a branch asks of a merge, and `forge` is `ports.Forge` over them.
"""
