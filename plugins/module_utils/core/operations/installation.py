# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Puts the program and the configuration of an application on the host, and takes them away."""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..application import Application
from ..configuration import parse_configuration, render_configuration, shown_configuration
from ..errors import CommandError, ConfigurationError, TradekeepError
from ..host.files import atomic_write, failure_of, fsync_directory, make_private_directory
from ..host.fstab import require_mounted
from ..ports import Ports
from ..program import (
    DEFAULT_INTERPRETER,
    PROGRAM_NAME,
    PYTHON_OPTIONS,
    UNREADABLE,
    build_program,
    compiler_source,
    made_before,
)
from ..version import VERSION, is_newer, stated_version
from .claims import refuse_claimed
from .host_key import plan_keys, with_keys
from .key_checks import readable_by_anybody
from .outcome import Outcome

_VERSION_MODULE = "tradekeep/version.py"
_LONGEST_VERSION_MODULE = 1 << 16
_PROBE = """\
import importlib.util, sqlite3, sys, zlib
print(importlib.util.MAGIC_NUMBER.hex())
sys.exit(sys.version_info < (3, 9))
"""


def install_program(
    ports: Ports,
    *,
    bin_dir: str,
    config_dir: str,
    interpreter: str = DEFAULT_INTERPRETER,
    present: bool = True,
    allow_downgrade: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """Install the program, or remove it. It is tried out before it replaces another.

    allow_downgrade: put an older release in the place of a newer one, which is refused otherwise.
    """
    path = Path(bin_dir) / PROGRAM_NAME
    content: Optional[bytes] = None
    installed = installed_version(path)
    if present:
        if not allow_downgrade:
            _refuse_downgrade(path, installed)
        sources = build_program(interpreter=interpreter, config_dir=config_dir)
        magic = _check_interpreter(ports, interpreter)
        # To compile it takes longer than all else that a play does which changes nothing.
        content = made_before(path, sources, magic) or _with_byte_code(ports, sources, interpreter, path)
    changed = _facts(path) != _wanted(content, 0o755)
    version = VERSION if present else None
    outcome = _with_versions(_outcome(path, content, 0o755, changed, {}), installed, version)
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
        for directory in _private_directories(application):
            require_mounted(directory)
        if not renamed:
            refuse_claimed(application)
    missing = _missing_directories(application) if present else []
    changed = bool(missing) or _facts(path) != _wanted(content, 0o600)
    outcome = _outcome(path, content, 0o600, changed, {"application": application.name, "directories": missing})
    before = {**outcome.before, "configuration": _shown(path.read_bytes() if path.is_file() else None)}
    outcome = replace(outcome, before=before, after={**outcome.after, "configuration": _shown(content)})
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


def _shown(content: Optional[bytes]) -> Optional[dict[str, Any]]:
    return None if content is None else shown_configuration(content)


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


def installed_version(path: Path) -> Optional[str]:
    """The version of the program at a path, read and not run; None where there is none, or none of ours."""
    try:
        with zipfile.ZipFile(path) as program, program.open(_VERSION_MODULE) as source:
            return stated_version(source.read(_LONGEST_VERSION_MODULE).decode("utf-8", "replace"))
    except UNREADABLE:
        return None


def _refuse_downgrade(path: Path, installed: Optional[str]) -> None:
    """An older controller would take away what newer timers, configurations and records need."""
    if installed is not None and is_newer(installed, VERSION):
        raise ConfigurationError(
            f"version {installed} is installed, and this controller would put the older {VERSION} in its place",
            path=path,
            hint="upgrade the collection here (ansible-galaxy collection install --upgrade tradekeep.ops), or set "
            "runtime_allow_downgrade to true",
        )


def _with_versions(outcome: Outcome, installed: Optional[str], version: Optional[str]) -> Outcome:
    """An outcome that says which release was there and which one is."""
    lines = outcome.lines
    if outcome.changed and installed is not None and version is not None and installed != version:
        lines = tuple(f"{line} ({installed} -> {version})" for line in lines)
    return replace(
        outcome,
        record={**outcome.record, "installed": installed, "version": version},
        lines=lines,
        before={**outcome.before, "version": installed},
        after={**outcome.after, "version": version},
    )


def _check_interpreter(ports: Ports, interpreter: str) -> bytes:
    """What byte code of the interpreter begins with."""
    try:
        done = ports.runner.run((interpreter, PYTHON_OPTIONS, "-c", _PROBE), check=False, timeout_seconds=60)
    except CommandError as error:
        raise ConfigurationError(
            f"the interpreter cannot be run: {error.message}", path=interpreter, hint="set runtime_interpreter"
        ) from error
    if done.status != 0:
        raise ConfigurationError(
            "the interpreter is older than Python 3.9 or lacks sqlite3 or zlib",
            path=interpreter,
            hint="set runtime_interpreter",
        )
    return bytes.fromhex(done.stdout.strip())


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
