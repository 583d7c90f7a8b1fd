"""AWS's refusals, in the form of each service's protocol."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from xml.sax.saxutils import escape

_QUERY = {"iam", "sts"}


class Refused(Exception):
    """An operation is refused with one of AWS's codes."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def json_answer(told: object, status: int = 200) -> Answer:
    """Answer as services with JSON do."""
    headers = [
        ("Content-Type", "application/x-amz-json-1.1"),
        ("x-amzn-RequestId", request_id()),
    ]
    return Answer(status, headers, json.dumps(told).encode())


def refusal(service: str, refused: Refused) -> Answer:
    """Put a refusal in the words of the service's protocol."""
    code, message, number = refused.code, refused.message, request_id()
    if service == "ec2":
        text = (
            "<Response><Errors><Error>"
            f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
            f"</Error></Errors><RequestID>{number}</RequestID></Response>"
        )
    elif service in _QUERY:
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(code)}</Code>"
            f"<Message>{escape(message)}</Message></Error>"
            f"<RequestId>{number}</RequestId></ErrorResponse>"
        )
    else:
        answer = json_answer({"__type": code, "message": message}, refused.status)
        return Answer(answer.status, [*answer.headers, ("x-amzn-ErrorType", code)], answer.body)
    return Answer(refused.status, [("Content-Type", "text/xml")], text.encode())


def unknown_key(service: str) -> Refused:
    """Refuse an access key, as each kind of service does."""
    told = "The security token included in the request is invalid."
    if service == "ec2":
        return Refused(
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            status=401,
        )
    if service in _QUERY:
        return Refused("InvalidClientTokenId", told, status=403)
    return Refused("UnrecognizedClientException", told)


def wrong_signature(service: str) -> Refused:
    """Refuse a call that was signed with another secret, as each kind of service does."""
    told = (
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method."
    )
    if service == "ec2":
        return Refused(
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            status=401,
        )
    if service in _QUERY:
        return Refused("SignatureDoesNotMatch", told, status=403)
    return Refused("InvalidSignatureException", told, status=403)


def denied(service: str, operation: str, who: str) -> Refused:
    """Refuse for want of permission, as each kind of service does."""
    told = f"User: {who} is not authorized to perform: {service}:{operation}"
    if service == "ec2":
        return Refused(
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {told}",
            status=403,
        )
    if service in _QUERY:
        return Refused("AccessDenied", told, status=403)
    return Refused("AccessDeniedException", told)


def throttled(service: str) -> Refused:
    """Refuse because there were too many calls, as each kind of service does."""
    if service == "ec2":
        return Refused("RequestLimitExceeded", "Request limit exceeded.", status=503)
    if service in _QUERY:
        return Refused("Throttling", "Rate exceeded")
    return Refused("ThrottlingException", "Rate exceeded")


def broken(service: str) -> Refused:
    """Fail as a service that is ill does."""
    if service == "ec2":
        return Refused("InternalError", "An internal error has occurred", status=500)
    if service in _QUERY:
        return Refused("ServiceFailure", "Service failure", status=500)
    return Refused("ServerException", "Service Unavailable. Please try again later.", status=500)


def request_id() -> str:
    """Make up a request's number."""
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
