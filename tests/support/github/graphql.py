"""GraphQL: the few queries and mutations that REST lacks, by GitHub's own schema."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from graphql import (
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_ast_schema,
    build_schema,
    execute_sync,
    parse,
    validate,
)

from tests.support.github import auth, gitdata, merging, pulls, rules, shapes
from tests.support.github.gitdir import Who
from tests.support.github.npm import GRAPHQL, file_of, required
from tests.support.github.records import Account, Json, Pull, Repo, iso
from tests.support.github.web import Actor, Answer, Refused
from tests.support.unavailable import Unavailable

if TYPE_CHECKING:
    from tests.support.github.hub import GitHub

Info = GraphQLResolveInfo[Any]

# The part that the simulator has: used where GitHub's own schema isn't wanted.
_OWN = """
scalar Base64String scalar DateTime scalar GitObjectID scalar URI
enum MergeStateStatus { BEHIND BLOCKED CLEAN DIRTY DRAFT UNKNOWN UNSTABLE }
enum MergeableState { CONFLICTING MERGEABLE UNKNOWN }
enum PullRequestMergeMethod { MERGE REBASE SQUASH }
enum PullRequestReviewDecision { APPROVED CHANGES_REQUESTED REVIEW_REQUIRED }
enum PullRequestState { CLOSED MERGED OPEN }
interface Actor { login: String! }
type User implements Actor { login: String! databaseId: Int }
type Bot implements Actor { login: String! databaseId: Int }
type Organization implements Actor { login: String! databaseId: Int }
type AutoMergeRequest { enabledBy: Actor mergeMethod: PullRequestMergeMethod! }
type Commit { oid: GitObjectID! url: URI! message: String! }
type Ref { name: String! prefix: String! target: Commit }
type MergeQueue { id: ID! url: URI! }
type PullRequest {
  id: ID! number: Int! title: String! body: String! state: PullRequestState! isDraft: Boolean! merged: Boolean!
  author: Actor headRefName: String! headRefOid: GitObjectID! baseRefName: String! baseRefOid: GitObjectID!
  mergeable: MergeableState! mergeStateStatus: MergeStateStatus! reviewDecision: PullRequestReviewDecision
  isInMergeQueue: Boolean! autoMergeRequest: AutoMergeRequest createdAt: DateTime! updatedAt: DateTime! url: URI!
}
type Repository {
  id: ID! databaseId: Int name: String! nameWithOwner: String! pullRequest(number: Int!): PullRequest
  mergeQueue(branch: String): MergeQueue ref(qualifiedName: String!): Ref defaultBranchRef: Ref
}
type Query { repository(followRenames: Boolean = true, name: String!, owner: String!): Repository viewer: User! }
input CommittableBranch { branchName: String id: ID repositoryNameWithOwner: String }
input CommitMessage { body: String = "" headline: String! }
input FileAddition { contents: Base64String! path: String! }
input FileDeletion { path: String! }
input FileChanges { additions: [FileAddition!] = [] deletions: [FileDeletion!] = [] }
input CreateCommitOnBranchInput {
  branch: CommittableBranch! clientMutationId: String expectedHeadOid: GitObjectID! fileChanges: FileChanges
  message: CommitMessage!
}
type CreateCommitOnBranchPayload { clientMutationId: String commit: Commit ref: Ref }
input MarkPullRequestReadyForReviewInput { clientMutationId: String pullRequestId: ID! }
type MarkPullRequestReadyForReviewPayload { clientMutationId: String pullRequest: PullRequest }
input ConvertPullRequestToDraftInput { clientMutationId: String pullRequestId: ID! }
type ConvertPullRequestToDraftPayload { clientMutationId: String pullRequest: PullRequest }
input EnablePullRequestAutoMergeInput {
  clientMutationId: String mergeMethod: PullRequestMergeMethod = MERGE pullRequestId: ID!
}
type EnablePullRequestAutoMergePayload { clientMutationId: String pullRequest: PullRequest }
input DisablePullRequestAutoMergeInput { clientMutationId: String pullRequestId: ID! }
type DisablePullRequestAutoMergePayload { clientMutationId: String pullRequest: PullRequest }
type Mutation {
  createCommitOnBranch(input: CreateCommitOnBranchInput!): CreateCommitOnBranchPayload
  markPullRequestReadyForReview(input: MarkPullRequestReadyForReviewInput!): MarkPullRequestReadyForReviewPayload
  convertPullRequestToDraft(input: ConvertPullRequestToDraftInput!): ConvertPullRequestToDraftPayload
  enablePullRequestAutoMerge(input: EnablePullRequestAutoMergeInput!): EnablePullRequestAutoMergePayload
  disablePullRequestAutoMerge(input: DisablePullRequestAutoMergeInput!): DisablePullRequestAutoMergePayload
}
"""


class _Said(GraphQLError):
    """An error with GitHub's own type."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message, extensions={"type": kind})


@cache
def _own() -> GraphQLSchema:
    return build_schema(_OWN)


@cache
def _github() -> GraphQLSchema | None:
    try:
        text = file_of(GRAPHQL).read_text()
    except Unavailable:
        if required():
            raise
        return None
    return build_ast_schema(parse(text, no_location=True), assume_valid=True, assume_valid_sdl=True)


def answer(hub: GitHub, actor: Actor, body: Any) -> Answer:
    """The answer to a query or a mutation."""
    if actor.account is None:
        raise Refused(401, "This endpoint requires you to be authenticated.")
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise Refused(400, "A query attribute must be specified and must be a string.")
    schema = (_github() if hub.description is not None else None) or _own()
    try:
        document = parse(body["query"])
        errors = validate(schema, document)
    except GraphQLError as error:
        errors = [error]
    if errors:
        hub.violations += [f"graphql: {error.message}" for error in errors]
        return _answered(None, errors)
    root = _Root(hub, actor)
    done = execute_sync(schema, document, root, variable_values=body.get("variables"))
    for one in done.errors or []:
        if one.original_error is not None and not isinstance(one.original_error, GraphQLError):
            hub.violations.append(f"graphql: the simulator broke down: {one.original_error!r}")
    return _answered(done.data, done.errors or [])


def _answered(data: Json | None, errors: list[GraphQLError]) -> Answer:
    made: Json = {"data": data}
    if errors:
        made["errors"] = [
            {
                "type": (error.extensions or {}).get("type", "INTERNAL"),
                "path": error.path,
                "locations": [{"line": one.line, "column": one.column} for one in error.locations or []],
                "message": error.message,
            }
            for error in errors
        ]
    return Answer(200, made, {"X-RateLimit-Resource": "graphql"})


class _Root:
    """The fields of `Query` and of `Mutation`, by their own names."""

    def __init__(self, hub: GitHub, actor: Actor) -> None:
        self._hub, self._actor = hub, actor

    # -- queries -----------------------------------------------------------------------------------------------------

    def viewer(self, info: Info) -> Json:
        return _actor(self._actor.account) or {}

    def repository(
        self,
        info: Info,
        owner: str,
        name: str,
        followRenames: bool = True,
    ) -> Json:
        repo = self._repo(f"{owner}/{name}", old=followRenames)

        def pull_request(_: Info, number: int) -> Json:
            issue = repo.issues.get(number)
            self._need(repo, "pull_requests:read")
            if issue is None or issue.pull is None:
                raise _Said("NOT_FOUND", f"Could not resolve to a PullRequest with the number of {number}.")
            return self._pull(issue.pull)

        def ref(_: Info, qualifiedName: str) -> Json | None:
            full = qualifiedName if qualifiedName.startswith("refs/") else f"refs/heads/{qualifiedName}"
            return _ref(repo, full)

        return {
            "id": shapes.node_id("R", repo.id),
            "databaseId": repo.id,
            "name": repo.name,
            "nameWithOwner": repo.full_name,
            "pullRequest": pull_request,
            "mergeQueue": lambda _, branch=None: _queue(repo, branch or repo.default_branch),
            "ref": ref,
            "defaultBranchRef": lambda _: _ref(repo, f"refs/heads/{repo.default_branch}"),
        }

    def _repo(self, name: str, *, old: bool) -> Repo:
        hub = self._hub
        number = hub.names.get(name.casefold()) or (hub.old_names.get(name.casefold()) if old else None)
        repo = hub.repos.get(number or 0)
        if repo is None or not auth.sees(self._actor, repo):
            raise _Said("NOT_FOUND", f"Could not resolve to a Repository with the name '{name}'.")
        return repo

    def _need(self, repo: Repo, needed: str) -> None:
        if not auth.may(self._actor, repo, needed):
            raise _Said("FORBIDDEN", f"Resource not accessible by {self._actor.noun}")

    def _pull(self, pull: Pull) -> Json:
        pulls.sync(pull)
        issue, repo = pull.issue, pull.repo
        mergeable, state = merging.mergeability(pull)
        auto = pull.auto_merge
        return {
            "id": shapes.node_id("PR", pull.id),
            "number": pull.number,
            "title": issue.title,
            "body": issue.body or "",
            "state": "MERGED" if pull.merged else pull.state.upper(),
            "isDraft": pull.draft,
            "merged": pull.merged,
            "author": _actor(issue.user),
            "headRefName": pull.head_ref,
            "headRefOid": pull.head_sha,
            "baseRefName": pull.base_ref,
            "baseRefOid": pull.base_sha,
            "mergeable": {True: "MERGEABLE", False: "CONFLICTING", None: "UNKNOWN"}[mergeable],
            "mergeStateStatus": state.upper(),
            "reviewDecision": rules.decision(pull),
            "isInMergeQueue": pull.queued,
            "autoMergeRequest": auto and {"enabledBy": _actor(auto["by"]), "mergeMethod": auto["method"].upper()},
            "createdAt": iso(issue.created_at),
            "updatedAt": iso(issue.updated_at),
            "url": f"{repo.html}/pull/{pull.number}",
        }

    # -- mutations ---------------------------------------------------------------------------------------------------

    def createCommitOnBranch(self, info: Info, input: Json) -> Json:  # noqa: A002
        repo, branch = self._branch(input["branch"])
        self._need(repo, "contents:write")
        git, ref, expected = repo.git, f"refs/heads/{branch}", input["expectedHeadOid"]
        tip = git.ref(ref)
        if tip is None:
            raise _Said("NOT_FOUND", f"Could not resolve to a Ref with the name '{branch}'.")
        if tip != expected:
            raise _stale(expected)
        texts = rules.push_objections(repo, self._actor, ref, "update")
        if texts:
            raise _Said("UNPROCESSABLE", "\n\n".join(["Repository rule violations found", *texts]))
        files = _files(repo, tip, input.get("fileChanges") or {})
        said = input["message"]
        text = f"{said['headline']}\n\n{said['body']}" if said.get("body") else said["headline"]
        by, now = self._account, self._hub.now()
        site = Who("GitHub", "noreply@github.com", int(now), "+0000")
        tree = git.write_tree(git.commit(tip).tree, files) or git.empty_tree()
        sha = git.write_commit(tree, [tip], gitdata.author(by, now), site, text)
        if not git.update_ref(ref, sha, tip):
            raise _stale(expected)
        pulls.ref_moved(repo, ref, tip, sha, by)
        return _echo(input) | {"commit": _commit(repo, sha), "ref": _ref(repo, ref)}

    def _branch(self, given: Json) -> tuple[Repo, str]:
        name, branch = given.get("repositoryNameWithOwner"), given.get("branchName")
        if name is not None and branch is not None:
            return self._repo(name, old=True), branch.removeprefix("refs/heads/")
        for repo in self._hub.repos.values():
            for ref in repo.git.refs("refs/heads/"):
                if shapes.node_id("REF", f"{repo.id}:{ref}") == given.get("id") and auth.sees(self._actor, repo):
                    return repo, ref.removeprefix("refs/heads/")
        raise _Said("NOT_FOUND", "Could not resolve to a node with the global id given.")

    @property
    def _account(self) -> Account:
        assert self._actor.account is not None
        return self._actor.account

    def _change(self, input: Json, change: Callable[[Pull], None]) -> Json:  # noqa: A002
        text = input["pullRequestId"]
        pull = pulls.of_node(self._hub, text)
        if pull is None or not auth.sees(self._actor, pull.repo):
            raise _Said("NOT_FOUND", f"Could not resolve to a node with the global id of '{text}'")
        self._need(pull.repo, "pull_requests:write")
        pulls.sync(pull)
        if pull.state != "open":
            raise _Said("UNPROCESSABLE", "Pull request is closed")
        change(pull)
        pulls.touch(pull.issue)
        return _echo(input) | {"pullRequest": self._pull(pull)}

    def markPullRequestReadyForReview(self, info: Info, input: Json) -> Json:  # noqa: A002
        def ready(pull: Pull) -> None:
            pull.draft = False

        return self._change(input, ready)

    def convertPullRequestToDraft(self, info: Info, input: Json) -> Json:  # noqa: A002
        def draft(pull: Pull) -> None:
            pull.draft = True

        return self._change(input, draft)

    def enablePullRequestAutoMerge(self, info: Info, input: Json) -> Json:  # noqa: A002
        def enable(pull: Pull) -> None:
            if not pull.repo.allow_auto_merge:
                raise _Said("UNPROCESSABLE", "Auto merge is not allowed for this repository")
            if merging.mergeability(pull)[1] == "clean":
                raise _Said("UNPROCESSABLE", "Pull request is in clean status")
            pull.auto_merge = {"by": self._account, "method": (input.get("mergeMethod") or "MERGE").lower()}
            merging.settle(pull)

        return self._change(input, enable)

    def disablePullRequestAutoMerge(self, info: Info, input: Json) -> Json:  # noqa: A002
        def disable(pull: Pull) -> None:
            pull.auto_merge = None

        return self._change(input, disable)


def _echo(given: Mapping[str, Any]) -> Json:
    return {"clientMutationId": given.get("clientMutationId")}


def _stale(expected: str) -> _Said:
    return _Said("STALE_DATA", f'Expected branch to point to "{expected}" but it did not. Pull and try again.')


def _actor(account: Account | None) -> Json | None:
    if account is None or account.deleted:
        return None
    login = account.login.removesuffix("[bot]") if account.type == "Bot" else account.login
    return {"__typename": account.type, "login": login, "databaseId": account.id}


def _commit(repo: Repo, sha: str) -> Json:
    message = repo.git.commit(sha).message
    return {"__typename": "Commit", "oid": sha, "url": f"{repo.html}/commit/{sha}", "message": message}


def _ref(repo: Repo, name: str) -> Json | None:
    sha = repo.git.ref(name)
    if sha is None:
        return None
    prefix = "/".join(name.split("/", 2)[:2]) + "/"
    short = name.removeprefix(prefix)
    return {"name": short, "prefix": prefix, "target": _commit(repo, repo.git.peel(sha) or sha)}


def _queue(repo: Repo, branch: str) -> Json | None:
    queued = any(rule["type"] == "merge_queue" for one in rules.rulesets_of(repo, branch) for rule in one.rules)
    if not queued:
        return None
    return {"id": shapes.node_id("MQ", repo.id), "url": f"{repo.html}/queue/{branch}"}


def _files(repo: Repo, tip: str, given: Json) -> dict[str, tuple[str, str] | None]:
    git, tree = repo.git, repo.git.commit(tip).tree
    files: dict[str, tuple[str, str] | None] = {}
    for one in given.get("deletions") or []:
        if git.at(tree, one["path"]) is None:
            text = f"A path was requested for deletion which does not exist as of commit oid `{tip}`"
            raise _Said("UNPROCESSABLE", text)
        files[one["path"]] = None
    for one in given.get("additions") or []:
        try:
            data = base64.b64decode(one["contents"], validate=True)
        except binascii.Error:
            raise _Said("UNPROCESSABLE", "contents is not valid Base64") from None
        had = git.at(tree, one["path"])
        mode = had.mode if had is not None and had.mode == "100755" else "100644"
        files[one["path"]] = (mode, git.write("blob", data))
    return files
