"""What ``secrets`` of a container definition stand for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from moto.core.exceptions import JsonRESTError, ServiceException

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud

# arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, and up to three words for a part of it:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
_ARN = re.compile(
    r"(?P<arn>arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:[^:]+)"
    r"(?::(?P<key>[^:]*):(?P<stage>[^:]*):(?P<version>[^:]*))?"
)


class SecretNotThere(Exception):
    """ECS could not get a secret; the text is its own sentence."""


def secret_value(cloud: Cloud, given: str) -> str:
    """Look up the text behind a ``valueFrom``.

    Raises
    ------
    SecretNotThere
        There is no such secret, version or key.
    """
    fits = _ARN.fullmatch(given)
    if fits is None:
        raise SecretNotThere(
            f"unable to retrieve secret from asm: {given} is not the ARN of a secret (parameters "
            "of Systems Manager are not rehearsed)"
        )
    arn, key = fits["arn"], fits["key"]
    try:
        with cloud.lock:
            found = cloud.secrets.get_secret_value(
                arn, fits["version"] or None, fits["stage"] or None
            )
    except (JsonRESTError, ServiceException) as error:
        code = getattr(error, "error_type", None) or getattr(error, "code", "")
        raise SecretNotThere(
            "execution resource retrieval failed: unable to retrieve secret from asm: service "
            f"call has been retried 1 time(s): failed to fetch secret {arn} from secrets manager: "
            f"{code}: {error.message}"
        ) from error
    text = str(found.get("SecretString") or "")
    if not key:
        return text
    try:
        return _as_text(json.loads(text)[key])
    except (ValueError, KeyError, TypeError) as error:
        raise SecretNotThere(
            "execution resource retrieval failed: unable to retrieve secret from asm: retrieved "
            f"secret from Secrets Manager did not contain json key {key}"
        ) from error


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
