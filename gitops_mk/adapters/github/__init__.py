"""GitHub and GitHub Enterprise Server, through PyGithub.

`auth` holds who we are there, `api` how it is spoken to, `wire` what its answers mean, `listing` what is remembered between
two turns, `rules` what a branch asks of a merge, and `forge` is `ports.Forge` over all of them.
"""
