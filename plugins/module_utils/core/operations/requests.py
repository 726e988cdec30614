# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Requests that another process carries out, and what it answers: a file each, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

from ..errors import ExitStatus, FindingsError, NeedsPersonError, TradekeepError, UsageError
from ..host.files import atomic_write, os_errors
from .outcome import Outcome

_ERRORS = {
    ExitStatus.FINDINGS: FindingsError,
    ExitStatus.USAGE: UsageError,
    ExitStatus.FAILED: TradekeepError,
    ExitStatus.NEEDS_PERSON: NeedsPersonError,
}


def write_request(path: Path, request: Mapping[str, Any]) -> None:
    """What is asked for."""
    atomic_write(path, json.dumps(request).encode("ascii"))


def read_request(path: Path) -> dict[str, Any]:
    """What was asked for."""
    with os_errors(path):
        request: dict[str, Any] = json.loads(path.read_bytes())
    return request


def answered(path: Path, carry_out: Callable[[], Outcome]) -> Outcome:
    """Carry a request out and write the answer, whatever it is."""
    try:
        outcome = carry_out()
    except TradekeepError as error:
        write_request(_answer_file(path), {"error": error.as_dict()})
        raise
    answer = {key: value for key, value in asdict(outcome).items() if key != "fitted"}
    write_request(_answer_file(path), {"outcome": answer})
    return outcome


def answer_to(path: Path, unit: str) -> Outcome:
    """What the unit has answered: its outcome, or its error as if it had come up here."""
    try:
        document = json.loads(_answer_file(path).read_bytes())
    except (OSError, ValueError) as error:
        raise NeedsPersonError(
            "ended without an answer", path=unit, hint=f"see: journalctl -u {unit}, then run: tradekeep recover"
        ) from error
    if "error" in document:
        raise _as_error(document["error"])
    answer = document["outcome"]
    answer["lines"], answer["status"] = tuple(answer["lines"]), ExitStatus(answer["status"])
    return Outcome(**answer)


def _answer_file(request: Path) -> Path:
    return request.with_suffix(".answer")


def _as_error(found: Mapping[str, Any]) -> TradekeepError:
    kind = _ERRORS.get(ExitStatus(found["exit_status"]), TradekeepError)
    return kind(found["message"], path=found["path"], hint=found["hint"])
