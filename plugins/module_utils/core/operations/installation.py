# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Puts the program and the configuration of an application on the host, and takes them away."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..configuration import parse_configuration, render_configuration
from ..errors import CommandError, ConfigurationError, TradekeepError
from ..host.files import atomic_write, failure_of, fsync_directory, make_private_directory
from ..ports import Ports
from ..program import DEFAULT_INTERPRETER, PROGRAM_NAME, PYTHON_OPTIONS, build_program, compiler_source
from ..version import VERSION
from .claims import refuse_claimed
from .host_key import plan_keys, with_keys
from .key_checks import readable_by_anybody
from .outcome import Outcome

_PROBE = "import sqlite3, sys, zlib; sys.exit(sys.version_info < (3, 9))"


def install_program(
    ports: Ports,
    *,
    bin_dir: str,
    config_dir: str,
    interpreter: str = DEFAULT_INTERPRETER,
    present: bool = True,
    dry_run: bool = False,
) -> Outcome:
    """Install the program, or remove it. It is tried out before it replaces another."""
    path = Path(bin_dir) / PROGRAM_NAME
    content: Optional[bytes] = None
    if present:
        sources = build_program(interpreter=interpreter, config_dir=config_dir)
        _check_interpreter(ports, interpreter)
        content = _with_byte_code(ports, sources, interpreter, path)
    changed = _facts(path) != _wanted(content, 0o755)
    outcome = _outcome(path, content, 0o755, changed, {"version": VERSION if present else None})
    if not changed or dry_run:
        return outcome
    if content is None:
        _remove(path)
        return outcome
    _make_directory(path.parent)
    with _candidate(path, content) as candidate:
        ports.runner.run((interpreter, PYTHON_OPTIONS, str(candidate), "--version"), timeout_seconds=60)
    atomic_write(path, content, mode=0o755)
    return outcome


def install_configuration(
    application: Application, *, present: bool = True, dry_run: bool = False, renamed: bool = False
) -> Outcome:
    """Install the configuration and the directories that it names, or remove the configuration alone.

    renamed: what the application had under another name or elsewhere was taken along.
    """
    path = Path(application.config_file)
    content = render_configuration(application).encode("ascii") if present else None
    if content is not None:
        # What cannot be read back must not replace what can.
        parse_configuration(content, path=path)
        if not renamed:
            refuse_claimed(application)
    missing = _missing_directories(application) if present else []
    changed = bool(missing) or _facts(path) != _wanted(content, 0o600)
    outcome = _outcome(path, content, 0o600, changed, {"application": application.name, "directories": missing})
    if not changed or dry_run:
        return outcome
    if content is None:
        _remove(path)
        return outcome
    _make_directory(path.parent)
    for directory in _private_directories(application):
        make_private_directory(directory)
    atomic_write(path, content, mode=0o600)
    return outcome


def install_application(
    application: Application, ports: Ports, *, present: bool = True, dry_run: bool = False
) -> Outcome:
    """Install the configuration of an application with the host's key for it, or remove the configuration alone.

    The keys come before it: a host that cannot make one is left as it was.
    """
    if not present:
        return install_configuration(application, present=False, dry_run=dry_run)
    for text in readable_by_anybody(application):
        ports.progress.note(text)
    keys = plan_keys(application)
    # What is refused leaves no key behind.
    planned = install_configuration(application, dry_run=True)
    if dry_run:
        return with_keys(planned, keys, dry_run=True)
    keys.before(ports)
    outcome = install_configuration(application)
    keys.after()
    return with_keys(outcome, keys, dry_run=False)


def _check_interpreter(ports: Ports, interpreter: str) -> None:
    try:
        status = ports.runner.run((interpreter, PYTHON_OPTIONS, "-c", _PROBE), check=False, timeout_seconds=60).status
    except CommandError as error:
        raise ConfigurationError(
            f"the interpreter cannot be run: {error.message}", path=interpreter, hint="set runtime_interpreter"
        ) from error
    if status != 0:
        raise ConfigurationError(
            "the interpreter is older than Python 3.9 or lacks sqlite3 or zlib",
            path=interpreter,
            hint="set runtime_interpreter",
        )


def _with_byte_code(ports: Ports, program: bytes, interpreter: str, path: Path) -> bytes:
    """The program as its interpreter makes it of the sources; the same bytes each time, written nowhere."""
    argv = (interpreter, "-S", "-s", "-c", compiler_source(), str(path))
    # The order of a set in compiled code follows the hashes of its members. Isolated mode would ignore the setting; the
    # runner's environment names no modules either, and its directory is the root.
    pipe = ports.runner.pipe(argv, environment={"PYTHONHASHSEED": "0"})
    compiled = b""
    try:
        # It reads everything before it answers; if it ends before that, finish() says why.
        with suppress(BrokenPipeError):
            pipe.stdin.write(program)
            pipe.stdin.close()
            compiled = pipe.stdout.read()
    except BaseException:
        pipe.kill()
        raise
    finally:
        pipe.stdout.close()
    pipe.finish()
    return compiled


@contextmanager
def _candidate(path: Path, content: bytes) -> Iterator[Path]:
    """The program under another name, for as long as it is tried out."""
    candidate = path.parent / f".tradekeep-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        atomic_write(candidate, content, mode=0o755)
        yield candidate
    finally:
        candidate.unlink(missing_ok=True)


def _private_directories(application: Application) -> tuple[Path, ...]:
    return (Path(application.application_state_dir), Path(application.backup_dir))


def _missing_directories(application: Application) -> list[str]:
    places = (Path(application.config_dir), *_private_directories(application))
    return [str(place) for place in places if not place.is_dir()]


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise failure_of(error, path) from error


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    fsync_directory(path.parent)


def _wanted(content: Optional[bytes], mode: int) -> dict[str, Any]:
    if content is None:
        return {"state": "absent"}
    digest = hashlib.sha256(content).hexdigest()
    return {"state": "present", "mode": f"{mode:04o}", "size": len(content), "sha256": digest}


def _facts(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return {"state": "absent"}
    except IsADirectoryError:
        raise TradekeepError("is a directory", path=path, hint="move it away") from None
    except OSError as error:
        raise failure_of(error, path) from error
    return _wanted(content, mode)


def _outcome(path: Path, content: Optional[bytes], mode: int, changed: bool, more: dict[str, Any]) -> Outcome:
    after = _wanted(content, mode)
    record = {"path": str(path), "sha256": after.get("sha256"), "size": after.get("size"), **more}
    word = "installed" if content is not None else "removed"
    line = f"{path}: {word}" if changed else f"{path}: nothing to do"
    return Outcome(
        changed=changed,
        record=record,
        lines=(line,),
        before={"path": str(path), **_facts(path)},
        after={"path": str(path), **after},
    )
