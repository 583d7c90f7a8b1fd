"""The signature of a call, checked: whoever finds the port must also know the secret.

RunTask runs any program as this user, so that the key's name alone, which is no secret, must not
be enough on a machine with other users. The rule is AWS's own:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
import urllib.parse
from typing import Any

_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/(?P<scope>[^,\s]+),\s*"
    r"SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


def signed_with(secret: str, environ: dict[str, Any], body: bytes) -> bool:
    """Tell whether a request was signed with a secret.

    Parameters
    ----------
    secret : str
        The secret access key.
    environ : dict
        The request, as WSGI has it.
    body : bytes
        The request's body, which was read already.
    """
    fits = _SIGNED.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    if fits is None:
        return False
    scope, names = fits["scope"], fits["headers"].split(";")
    if "host" not in names:
        return False
    payload = environ.get("HTTP_X_AMZ_CONTENT_SHA256") or hashlib.sha256(body).hexdigest()
    path, _, query = str(environ.get("RAW_URI") or environ.get("PATH_INFO", "/")).partition("?")
    canonical = "\n".join(
        [
            environ["REQUEST_METHOD"],
            urllib.parse.quote(path or "/", safe="/~"),
            "&".join(sorted(query.split("&"))),
            *(f"{name}:{_header(environ, name)}" for name in names),
            "",
            fits["headers"],
            payload,
        ]
    )
    told = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            environ.get("HTTP_X_AMZ_DATE", ""),
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(key, told.encode(), "sha256").hex(), fits["signature"])


def _header(environ: dict[str, Any], name: str) -> str:
    key = name.upper().replace("-", "_")
    # WSGI keeps these two apart from the others.
    found = environ.get(key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}", "")
    return " ".join(str(found).split())
