"""One GET with a kubeconfig over the standard library: for commands that must start fast.

``python -m pilothouse.cli.fetch KUBECONFIG PATH`` prints the answer (for scripts).
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def fetch(kubeconfig: Path, path: str, timeout: float = 5.0) -> Any:
    """Decoded JSON. :raises OSError: no file, no connection, or an error status."""
    config = json.loads(kubeconfig.read_bytes())  # we write it as JSON, which is YAML
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    url = urlsplit(cluster["server"])
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    with tempfile.NamedTemporaryFile() as pem:  # mode 0600
        for part in ("client-certificate-data", "client-key-data"):
            pem.write(base64.b64decode(user[part]))
        pem.flush()
        context.load_cert_chain(pem.name)
    connection = http.client.HTTPSConnection(
        url.hostname or "", url.port, timeout=timeout, context=context
    )
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"no proper answer from {cluster['server']}: {error!r}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"{path}: {response.status} {reason(body)}")
    return json.loads(body) if body[:1] in (b"{", b"[") else body.decode()


def reason(body: bytes) -> str:
    """A Status's message, or the beginning of what came instead."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:200])


if __name__ == "__main__":
    try:
        print(json.dumps(fetch(Path(sys.argv[1]), sys.argv[2])))
    except OSError as failure:
        sys.exit(str(failure))
