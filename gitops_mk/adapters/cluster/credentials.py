"""Who we are to which API server: a kubeconfig, or the service account of the pod we run in."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitops_mk.adapters.cluster.plain_config import Plain, read_plain
from gitops_mk.errors import ConfigError

if TYPE_CHECKING:
    import urllib3

IN_CLUSTER = "in-cluster"
ALLOW_EXEC = "MODEKEEPER_ALLOW_KUBECONFIG_EXEC"
_SERVICE_HOST = "KUBERNETES_SERVICE_HOST"
_TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

CONNECT_S = 5.0
READ_S = 30.0


@dataclass(frozen=True)
class Connection:
    """An address, a pool of connections to it, and the headers that say who asks (read afresh: tokens rotate)."""

    server: str
    context: str
    pool: urllib3.PoolManager
    headers: Callable[[], Mapping[str, str]]


def kubeconfig_paths(kubeconfig: str | None) -> tuple[Path, ...]:
    """The files kubectl would read, those that exist.

    Raises ConfigError where the variable KUBECONFIG names nothing that is there: that must not pass for "no cluster".
    """
    named = kubeconfig or os.environ.get("KUBECONFIG") or ""
    paths = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    if not paths:
        paths = [Path("~/.kube/config").expanduser()]
    elif not kubeconfig and not any(path.exists() for path in paths):
        raise ConfigError(
            f"KUBECONFIG is {named!r}, and no such file is there",
            hint="mend it; to work without a cluster, unset it or set it to /dev/null",
        )
    return tuple(path for path in paths if path.is_file())


def available(kubeconfig: str | None = None) -> bool:
    """True when there is a kubeconfig or an in-cluster identity to use. Opens no connection. Raises ConfigError."""
    return bool(kubeconfig) or bool(kubeconfig_paths(None)) or _in_cluster()


def connect(*, kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """The connection that kubectl would use; in a pod without a kubeconfig, the pod's own.

    Raises ConfigError for a kubeconfig that can't be used.
    """
    if kubeconfig and not kubeconfig_paths(kubeconfig):
        raise ConfigError(f"{kubeconfig}: no such kubeconfig", hint="name one with --kubeconfig, or set KUBECONFIG")
    paths = kubeconfig_paths(kubeconfig)
    plain = read_plain(paths[0], context) if len(paths) == 1 else None
    if plain is not None:
        _check_address(plain.server)
        return Connection(plain.server, plain.context, _plain_pool(plain), plain.headers)
    from kubernetes.client.configuration import Configuration
    from kubernetes.config.config_exception import ConfigException

    settings = Configuration()
    try:
        if paths:
            name = _from_files(settings, paths, context)
        elif _in_cluster():
            from kubernetes.config.incluster_config import load_incluster_config

            load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            name = IN_CLUSTER
        else:
            raise ConfigError(
                "there is no kubeconfig, and this is no pod", hint="set KUBECONFIG, or name one with --kubeconfig"
            )
    except ConfigException as exc:
        raise ConfigError(f"the kubeconfig can't be used: {exc}", hint="does `kubectl get ns` work with it?") from exc

    _check_address(settings.host)

    def headers() -> dict[str, str]:
        token = settings.get_api_key_with_prefix("authorization", alias="BearerToken")
        return {"Authorization": token} if token else {}

    return Connection(server=settings.host.rstrip("/"), context=name, pool=_pool(settings), headers=headers)


def _in_cluster() -> bool:
    return bool(os.environ.get(_SERVICE_HOST)) and _TOKEN_FILE.is_file()


def _from_files(settings: Any, paths: tuple[Path, ...], context: str | None) -> str:
    import yaml  # type: ignore[import-untyped]
    from kubernetes.config.kube_config import KubeConfigMerger, load_kube_config

    joined = os.pathsep.join(map(str, paths))
    try:
        merged = KubeConfigMerger(joined).config  # type: ignore[no-untyped-call]
        raw: Any = _plain(merged) or {}
        name = context or raw.get("current-context")
        chosen = _named(raw.get("contexts"), name)
        if chosen is None:
            known = ", ".join(str(item.get("name")) for item in raw.get("contexts") or ()) or "none"
            raise ConfigError(
                f"{joined} has no context {name!r}, only {known}" if name else f"{joined} has no current context",
                hint="name one with --context, or set it: kubectl config use-context NAME",
            )
        user = _named(raw.get("users"), chosen.get("context", {}).get("user")) or {}
        _refuse_programs(user.get("user") or {}, joined)
        load_kube_config(  # type: ignore[no-untyped-call]
            config_file=joined, context=name, client_configuration=settings, persist_config=False
        )
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, ValueError, OSError) as exc:
        raise ConfigError(
            f"{joined} is no usable kubeconfig: {type(exc).__name__}", hint="does `kubectl config view` read it?"
        ) from exc
    return str(name)


def _plain(node: Any) -> Any:
    """The data behind the library's own nodes."""
    value = getattr(node, "value", node)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _named(items: Any, name: Any) -> Any:
    return next((item for item in items or () if item.get("name") == name), None)


def _refuse_programs(user: Mapping[str, Any], path: str) -> None:
    """A kubeconfig can name a program to run for a token: run only where the person says so."""
    for key in ("exec", "auth-provider"):
        if key in user and os.environ.get(ALLOW_EXEC) != "1":
            raise ConfigError(
                f"{path}: its user gets a token from a program (`{key}`), which is not run unasked",
                hint=f"set {ALLOW_EXEC}=1 if you trust that kubeconfig, or use a token: kubectl create token ACCOUNT",
            )


def _check_address(server: str) -> None:
    """An address is shown in reports: what is secret has no place in it."""
    if not server.startswith(("https://", "http://")):
        raise ConfigError("the kubeconfig names no server, or none with https://", hint="set `server` of its cluster")
    if "@" in server.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            "the kubeconfig's `server` holds a user or a password, which is never sent",
            hint="write the address alone, and who asks under `users`",
        )


def _plain_pool(plain: Plain) -> urllib3.PoolManager:
    import urllib3

    named: dict[str, Any] = {}
    if plain.server_name is not None:
        named = {"server_hostname": plain.server_name, "assert_hostname": plain.server_name}
    timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
    return urllib3.PoolManager(maxsize=16, retries=False, timeout=timeout, ssl_context=plain.tls, **named)


def _pool(settings: Any) -> urllib3.PoolManager:
    import urllib3

    options: dict[str, Any] = {
        "maxsize": 16,
        "retries": False,
        "timeout": urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        "cert_reqs": ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE,
        "ca_certs": settings.ssl_ca_cert,
        "cert_file": settings.cert_file,
        "key_file": settings.key_file,
    }
    if settings.tls_server_name:
        options["server_hostname"] = settings.tls_server_name
        options["assert_hostname"] = settings.tls_server_name
    if settings.assert_hostname is not None:
        options["assert_hostname"] = settings.assert_hostname
    from kubernetes.client.rest import should_bypass_proxies

    if settings.proxy and not should_bypass_proxies(settings.host, settings.no_proxy or ""):
        return urllib3.ProxyManager(settings.proxy, proxy_headers=settings.proxy_headers, **options)
    return urllib3.PoolManager(**options)
