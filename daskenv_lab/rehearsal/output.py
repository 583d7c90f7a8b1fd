"""What containers write, into CloudWatch Logs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import JsonRESTError, ServiceException

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from daskenv_lab.rehearsal.cloud import Cloud

_LONGEST = 262_000
"""Bytes of one event, which CloudWatch limits to 256 KB."""


class LogsRefused(Exception):
    """The stream cannot be made; the text is ECS's own sentence."""


class Output:
    """One container's stream, or nowhere, if its definition names no log group."""

    def __init__(self, cloud: Cloud, options: Mapping[str, Any], container: str, task: str) -> None:
        self._cloud = cloud
        self._group = options.get("awslogs-group")
        prefix = options.get("awslogs-stream-prefix")
        self._stream = f"{prefix}/{container}/{task}" if prefix else task
        self._create = str(options.get("awslogs-create-group", "false")).lower() == "true"

    def open(self) -> None:
        """Make the stream.

        Raises
        ------
        LogsRefused
            There is no such group, and it is not to be created.
        """
        if not self._group:
            return
        logs = self._cloud.logs
        with self._cloud.lock:
            if self._create:
                logs.ensure_log_group(self._group)
            try:
                logs.ensure_log_stream(self._group, self._stream)
            except (JsonRESTError, ServiceException) as error:
                raise LogsRefused(
                    "ResourceInitializationError: failed to validate logger args: create stream "
                    "has been retried 1 times: failed to create Cloudwatch log stream: "
                    "ResourceNotFoundException: The specified log group does not exist. : exit "
                    "status 1"
                ) from error

    async def copy(self, source: asyncio.StreamReader) -> None:
        """Copy lines until the end."""
        rest = b""
        while chunk := await source.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], b""
            self._write(lines)
        if rest:
            self._write([rest])

    def _write(self, lines: list[bytes]) -> None:
        texts = [line.decode("utf-8", "replace").rstrip("\r") for line in lines]
        now = int(time.time() * 1000)
        # CloudWatch takes no empty event.
        events = [{"timestamp": now, "message": text} for text in texts if text]
        if not self._group or not events:
            return
        with self._cloud.lock:
            group = self._cloud.logs.groups.get(self._group)
            # Somebody may have deleted it under us; the words are lost then, as on AWS.
            if group is not None and self._stream in group.streams:
                group.put_log_events(self._stream, events)
