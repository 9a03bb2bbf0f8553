"""The cluster's keys: one authority for servers and clients, a key pair for service-account tokens, and kubeconfig files."""

from __future__ import annotations

import base64
import json
from pathlib import Path


class Keys:
    """Files in a folder, made once. A client's user name is its common name, its group the organization."""

    def __init__(self, folder: Path) -> None:
        # Loaded here: every run of pytest loads this module, few make keys.
        import trustme

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *, user: str = "127.0.0.1", group: str | None = None) -> tuple[Path, Path]:
        """A certificate for loopback, and for a user; gives the paths of certificate and key."""
        made = self._authority.issue_cert("127.0.0.1", "localhost", common_name=user, organization_name=group)
        cert, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
        made.private_key_pem.write_to_path(key)
        return cert, key

    def service_account_pair(self) -> tuple[Path, Path]:
        """Private and public key for service-account tokens."""
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        made = ec.generate_private_key(ec.SECP256R1())
        private, public = self._folder / "sa.key", self._folder / "sa.pub"
        private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return private, public


def write_kubeconfig(
    path: Path,
    server: str,
    ca: Path,
    *,
    client: tuple[Path, Path] | None = None,
    token: str | None = None,
    namespace: str = "default",
) -> Path:
    """A kubeconfig that holds all it needs: a client's certificate and key, or a bearer token."""
    user: dict[str, str] = {}
    if client is not None:
        user = {"client-certificate-data": _data(client[0]), "client-key-data": _data(client[1])}
    if token is not None:
        user = {"token": token}
    # JSON is YAML.
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": _data(ca)}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user", "namespace": namespace}}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1))
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
