"""A small typed client of the Kubernetes API for tests: plain HTTP and JSON, no generated classes."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from ruamel.yaml import YAML

Json = dict[str, Any]
Query = Mapping[str, str | int | bool]
Rule = Mapping[str, Sequence[str]]
T = TypeVar("T")

_PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class KubeError(Exception):
    """An answer that is no success: `status` is the HTTP one, `reason` and `message` are those of the API's Status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Resource(NamedTuple):
    """Where a kind is served."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, name: str | None = None, namespace: str | None = None) -> str:
        """The path of the collection, or of one object. Raises ValueError when a namespaced object has no namespace."""
        base = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        if self.namespaced and namespace:
            base += f"/namespaces/{quote(namespace)}"
        elif self.namespaced and name:
            raise ValueError(f"{self.plural} {name!r} lives in a namespace, and none is given")
        return f"{base}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


class Kube:
    """Requests to one API server as one user: a client certificate (`cert` and `key`) or a bearer `token`, or nobody.

    Kinds are named as in manifests (`Deployment`), or with their group where two share a name
    (`kustomize.toolkit.fluxcd.io/v1/Kustomization`). Every method raises KubeError for an answer that is no success, and
    OSError when the server can't be reached.
    """

    def __init__(
        self, server: str, ca: Path, *, cert: Path | None = None, key: Path | None = None, token: str | None = None
    ) -> None:
        self.server = server
        self._token = token
        self._host = urlsplit(server).netloc
        self._tls = ssl.create_default_context(cafile=str(ca))
        if cert is not None:
            self._tls.load_cert_chain(cert, key)
        self._kinds: dict[str, Resource] = {}

    # -- requests ----------------------------------------------------------------------------------------------------

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Query | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = 30.0,
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; the answer is read by the caller while the context lasts. `timeout` is in seconds, of silence."""
        words = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in (query or {}).items()}
        target = path + (f"?{urlencode(words)}" if words else "")
        headers = {"Accept": accept, "User-Agent": "modekeeper-tests"}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = content_type
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = http.client.HTTPSConnection(self._host, timeout=timeout, context=self._tls)
        try:
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            try:
                if response.status >= 300:
                    raise _error(response.status, response.reason, response.read())
                yield response
            finally:
                response.close()
        finally:
            connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Query | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request whose answer is a JSON object."""
        with self.open(method, path, body, query=query, content_type=content_type) as response:
            found: Json = json.loads(response.read())
            return found

    # -- kinds -------------------------------------------------------------------------------------------------------

    def resource(self, kind: str, *, timeout: float = 5.0) -> Resource:
        """Where a kind is served. A new kind is served late: it is asked for again until `timeout` (seconds) is over.

        Raises LookupError when there is no such kind.
        """
        deadline = time.monotonic() + timeout
        while kind not in self._kinds:
            self._discover()
            if kind in self._kinds:
                break
            if time.monotonic() > deadline:
                raise LookupError(f"{self.server} serves no kind {kind!r}")
            time.sleep(0.05)
        return self._kinds[kind]

    def _discover(self) -> None:
        found: dict[str, Resource] = {}
        for root in ("/api", "/apis"):
            with self.open("GET", root, accept=_DISCOVERY) as response:
                groups = json.loads(response.read())["items"]
            for group in groups:
                for version in group["versions"]:
                    name = group.get("metadata", {}).get("name", "")
                    api = f"{name}/{version['version']}" if name else version["version"]
                    for one in version.get("resources", ()):
                        kind = one["responseKind"]["kind"]
                        resource = Resource(api, one["resource"], one["scope"] == "Namespaced")
                        found.setdefault(f"{api}/{kind}", resource)
                        found.setdefault(kind, resource)
        self._kinds = found

    # -- objects -----------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json:
        """One object."""
        return self.request("GET", self.resource(kind).path(name, namespace))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Json | None:
        """One object, or None when it isn't there."""
        try:
            return self.get(kind, name, namespace)
        except KubeError as exc:
            if exc.status == 404:
                return None
            raise

    def objects(self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "") -> list[Json]:
        """All objects of a kind, in one namespace or in all, that these selectors choose."""
        query = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        items: list[Json] = self.request("GET", self.resource(kind).path(None, namespace), query=query)["items"]
        return items

    def create(self, manifest: Mapping[str, Any], namespace: str | None = None, *, dry_run: bool = False) -> Json:
        """Create one object; gives what the server made of it."""
        path = self._path_of(manifest, namespace, named=False)
        return self.request("POST", path, manifest, query={"dryRun": "All"} if dry_run else None)

    def apply(
        self,
        manifests: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        namespace: str | None = None,
        *,
        manager: str = "tests",
        dry_run: bool = False,
    ) -> tuple[Json, ...]:
        """Server-side apply of manifests, by force: YAML text with any number of documents, one object, or several.

        `namespace` is for those that name none.
        """
        if isinstance(manifests, str):
            documents: Sequence[Mapping[str, Any]] = [d for d in YAML(typ="safe").load_all(manifests) if d]
        else:
            documents = [manifests] if isinstance(manifests, Mapping) else manifests
        query: dict[str, str | int | bool] = {"fieldManager": manager, "force": True}
        if dry_run:
            query["dryRun"] = "All"
        return tuple(
            self.request(
                "PATCH", self._path_of(one, namespace, named=True), one, query=query, content_type=_PATCHES["apply"]
            )
            for one in documents
        )

    def patch(
        self,
        kind: str,
        name: str,
        patch: object,
        namespace: str | None = None,
        *,
        how: Literal["merge", "strategic", "json"] = "merge",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Json:
        """Patch one object, or a subresource of it."""
        path = self.resource(kind).path(name, namespace) + (f"/{subresource}" if subresource else "")
        query = {"dryRun": "All"} if dry_run else None
        return self.request("PATCH", path, patch, query=query, content_type=_PATCHES[how])

    def delete(self, kind: str, name: str, namespace: str | None = None, *, propagation: str = "Background") -> None:
        """Delete one object; harmless when it is gone."""
        try:
            self.request("DELETE", self.resource(kind).path(name, namespace), query={"propagationPolicy": propagation})
        except KubeError as exc:
            if exc.status != 404:
                raise

    def _path_of(self, manifest: Mapping[str, Any], namespace: str | None, *, named: bool) -> str:
        resource = self.resource(f"{manifest['apiVersion']}/{manifest['kind']}")
        meta = manifest["metadata"]
        return resource.path(meta["name"] if named else None, meta.get("namespace", namespace))

    # -- pods --------------------------------------------------------------------------------------------------------

    def log(self, namespace: str, pod: str, **options: str | int | bool) -> bytes:
        """What a container has written: `container`, `timestamps`, `sinceTime`, `tailLines`, `limitBytes`, `previous`."""
        with self.open(
            "GET", self.resource("Pod").path(pod, namespace) + "/log", query=options, accept="*/*"
        ) as answer:
            return answer.read()

    @contextmanager
    def follow(
        self, namespace: str, pod: str, *, timeout: float = 30.0, **options: str | int | bool
    ) -> Iterator[Iterator[bytes]]:
        """The lines of a container's log as they come. TimeoutError when `timeout` seconds pass without one."""
        path = self.resource("Pod").path(pod, namespace) + "/log"
        with self.open("GET", path, query={**options, "follow": True}, accept="*/*", timeout=timeout) as answer:
            yield iter(answer.readline, b"")

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_rollout(self, name: str, namespace: str, *, kind: str = "Deployment", timeout: float = 60.0) -> Json:
        """Wait until a Deployment is as its spec says, with no pod of before left. TimeoutError tells what it is like."""
        state: Json = {}

        def done() -> Json | None:
            nonlocal state
            state = self.get(kind, name, namespace)
            status, want = state.get("status", {}), state["spec"].get("replicas", 1)
            seen = status.get("observedGeneration", 0) >= state["metadata"]["generation"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            return state if seen and counts == [want] * 3 and not status.get("terminatingReplicas") else None

        try:
            return wait_for(done, timeout, f"the rollout of {namespace}/{name}")
        except TimeoutError as exc:
            pods = [{"name": p["metadata"]["name"], **p["status"]} for p in self.objects("Pod", namespace)]
            raise TimeoutError(f"{exc}; status {json.dumps(state.get('status'))}; pods {json.dumps(pods)}") from None

    # -- who may what ------------------------------------------------------------------------------------------------

    def service_account(
        self,
        namespace: str,
        name: str,
        *,
        rules: Sequence[Rule] = (),
        cluster_rules: Sequence[Rule] = (),
        role: str | None = None,
    ) -> str:
        """Make a service account, and bind it: to `rules` in its namespace, to `cluster_rules` everywhere, to the
        ClusterRole `role` in its namespace. Gives its user name.

        A rule is one of RBAC's: `{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}`.
        """
        rbac, api = "rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1"
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
        wide = f"{namespace}-{name}"
        made: list[Json] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}]

        def bind(binding: str, called: str, kind: str, to: str) -> None:
            ref = {"apiGroup": rbac, "kind": kind, "name": to}
            meta = {"name": called}
            made.append({"apiVersion": api, "kind": binding, "metadata": meta, "subjects": subjects, "roleRef": ref})

        if rules:
            made.append({"apiVersion": api, "kind": "Role", "metadata": {"name": name}, "rules": [*rules]})
            bind("RoleBinding", name, "Role", name)
        if cluster_rules:
            made.append(
                {"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": wide}, "rules": [*cluster_rules]}
            )
            bind("ClusterRoleBinding", wide, "ClusterRole", wide)
        if role is not None:
            bind("RoleBinding", f"{name}-{role}", "ClusterRole", role)
        self.apply(made, namespace)
        return f"system:serviceaccount:{namespace}:{name}"

    def token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """A bearer token of a service account, by TokenRequest. The API gives none for less than 600 s."""
        path = self.resource("ServiceAccount").path(name, namespace) + "/token"
        spec = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token: str = self.request("POST", path, spec)["status"]["token"]
        return token


def wait_for(done: Callable[[], T | None], timeout: float, what: str, *, every: float = 0.05) -> T:
    """Ask again until the answer isn't None. TimeoutError after `timeout` seconds, with `what` in its text."""
    deadline = time.monotonic() + timeout
    while True:
        found = done()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(every)


def _error(status: int, reason: str, body: bytes) -> KubeError:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict) and found.get("kind") == "Status":
        return KubeError(status, str(found.get("reason", reason)), str(found.get("message", "")))
    return KubeError(status, reason, body.decode("utf-8", "replace").strip()[:500])
