"""A GitHub for tests, laid out as GitHub Enterprise Server: REST, GraphQL and git over real bare repositories.

Where it isn't GitHub, as far as is known:

- Everything happens at once and in order: mergeability, listings and checks lag only where a test says so.
- The sentence for requested changes, that for the last pusher, and the order of several sentences in one answer are ours.
- `base.sha` of a pull request is the tip at its opening or its last push. Commits made on the site aren't signed.
- Renames within a diff aren't found: they are a removal and an addition. Patches are Python's, so hunks may be cut otherwise.
- An App may change workflow files without `workflows`. There are no teams, organisations' rulesets, or webhooks.
- A merge queue refuses direct merges and is told of; it merges nothing.
"""

from __future__ import annotations

from tests.support.github.faults import Fault
from tests.support.github.hub import GitHub
from tests.support.github.records import Account, App, CheckRun, Comment, Pull, Repo, Request, Review, Ruleset

__all__ = ["Account", "App", "CheckRun", "Comment", "Fault", "GitHub", "Pull", "Repo", "Request", "Review", "Ruleset"]
