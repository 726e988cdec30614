# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Keeping data out of a repository: its ``.gitignore``, and the data that it tracks already by mistake."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from ...application import Application
from ...errors import TradekeepError, UnsafePathError
from ...git.checkout import Checkout
from ...git.failures import failure_of
from ...git.ignored import RULES
from ...git.process import Git, private_directory
from ...host.account import Account, account_of, current_account
from ...host.files import atomic_write, components_of, open_directory, open_file_beneath, os_errors
from ...host.filesystem.identity import acting_as
from ...host.ownership import name_of_uid
from ...ports import Ports
from ..outcome import Outcome
from ..text import first_lines
from .ignore_lines import IgnoreLine, block_lines, ignore_lines, missing_lines, with_block, without_block
from .preserved import Preserved

# Files that only keep a directory, or speak to git: no data.
_NO_DATA = frozenset({".gitkeep", ".keep", ".gitignore", ".gitattributes"})
_SHOWN = 20


def gitignore(
    application: Application, ports: Ports, *, path: str, present: bool = True, dry_run: bool = False
) -> Outcome:
    """Have the protective lines in one managed block of a working copy's ``.gitignore``; the rest stays as it is.

    A line is missing when git would not ignore what it stands for; only the rules that the repository itself has count.
    """
    account = _owner(path)
    with acting_as(account):
        checkout = _working_copy(ports, path, account)
        return _managed(application, checkout, present=present, dry_run=dry_run)


def _managed(application: Application, checkout: Checkout, *, present: bool, dry_run: bool) -> Outcome:
    file = checkout.directory / RULES
    text = _read(checkout.directory) or ""
    wanted = ignore_lines(application)
    missing = _missing(checkout, wanted, text)
    block = _missing(checkout, wanted, without_block(text)) if present else []
    changed = _write(file, text, with_block(text, block), dry_run=dry_run)
    record = {"path": str(file), "lines": [item.line for item in wanted], "missing": missing, "block": block}
    return Outcome(
        changed=changed,
        record=record,
        lines=tuple(_account(file, missing, changed=changed, present=present)),
        before={"path": str(file), "block": block_lines(text)},
        after={"path": str(file), "block": block if changed else block_lines(text)},
    )


def tracked_data(application: Application, ports: Ports, *, path: Optional[str] = None) -> Outcome:
    """The data that a working copy tracks, and the lines that its ``.gitignore`` lacks. Nothing is written."""
    place = path or str(application.checkout)
    account = _owner(place)
    with acting_as(account):
        return _data_of(application, _working_copy(ports, place, account))


def _data_of(application: Application, checkout: Checkout) -> Outcome:
    tracked = [{"path": name, "why": why} for name, why in _tracked(application, checkout)]
    missing = _missing(checkout, ignore_lines(application), _read(checkout.directory) or "")
    lines = list(first_lines([f"tracked: {item['path']} ({item['why']})" for item in tracked], _SHOWN, "see --json"))
    if tracked:
        lines.append("untrack them, which leaves the files alone: git rm --cached PATH; then commit")
    else:
        lines.append("no data is tracked")
    lines.extend(f"missing in {RULES}: {line}" for line in missing)
    record = {"path": str(checkout.directory), "tracked": tracked, "missing": missing}
    return Outcome(changed=False, record=record, lines=tuple(lines))


def _account(file: Path, missing: Sequence[str], *, changed: bool, present: bool) -> Iterator[str]:
    yield from (f"missing: {line}" for line in missing)
    if changed:
        yield f"{file}: {'the missing lines are written' if present else 'the managed block is removed'}"
    else:
        yield f"{file}: nothing to do"


def _owner(path: str) -> Account:
    """Whoever the directory belongs to: all is done as that account, git and the rest.

    For root, no symlink leads there that somebody else could turn to another directory.
    """
    directory = Path(path).absolute()
    with os_errors(directory):
        if os.geteuid() != 0:
            return account_of(name_of_uid(directory.stat().st_uid))
        descriptor = open_directory(directory)
        try:
            uid = os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
    return current_account() if uid == 0 else account_of(name_of_uid(uid))


def _working_copy(ports: Ports, path: str, account: Account) -> Checkout:
    directory = Path(path).absolute()
    checkout = Checkout.at(ports.runner, account, directory)
    if checkout is None:
        raise TradekeepError("there is no .git", path=path, hint="name the top of a git working copy")
    return checkout


def _tracked(application: Application, checkout: Checkout) -> Iterator[tuple[str, str]]:
    preserved = Preserved(application)
    ask = ("ls-files", "-z", "--cached")
    ignored = set(checkout.git.fields(*ask, "--ignored", f"--exclude-per-directory={RULES}"))
    for name in checkout.git.fields(*ask, "--deduplicate"):
        if name.rpartition("/")[2] not in _NO_DATA:
            why = preserved.reason(name) or ("tracked although ignored" if name in ignored else None)
            if why is not None:
                yield name, why


def _missing(checkout: Checkout, wanted: Sequence[IgnoreLine], text: str) -> list[str]:
    samples = [sample for item in wanted for sample in item.samples]
    return missing_lines(wanted, text, _ignored(checkout, samples, text))


def _ignored(checkout: Checkout, samples: Sequence[str], text: str) -> set[str]:
    """The samples that the repository's rules ignore, with this text as the topmost; git itself decides.

    In a place of its own, where no rules of the person who runs this count, as others do not have them.
    """
    nested = checkout.git.fields("ls-files", "-z", "--cached", "--deduplicate")
    rules = {name for name in nested if name.endswith(f"/{RULES}")}
    with private_directory(checkout.account) as place, private_directory(checkout.account) as tree:
        _lay_down(tree, RULES, text)
        for name in sorted(rules):
            _lay_down(tree, name, _read(checkout.directory, name) or "")
        alone = Git(
            checkout.git.runner,
            checkout.account,
            git_dir=place / "git",
            work_tree=tree,
            # check-ignore knows no literal ones; a path that begins with a dot is none with magic.
            environment={"GIT_LITERAL_PATHSPECS": "0"},
            settings=("core.excludesFile=/dev/null",),
        )
        alone.run("init", "--quiet", "--template=")
        names = [f"./{sample}" for sample in samples]
        asked = alone.run("check-ignore", "--no-index", "-z", "--stdin", names=names, check=False)
        if asked.status not in (0, 1):
            raise failure_of(asked.stderr, path=checkout.directory, status=asked.status)
        return {name[2:] for name in asked.stdout.split("\0")}


def _lay_down(tree: Path, name: str, content: str) -> None:
    """For git to read. The name can come from an index that somebody has made up."""
    target = tree.joinpath(*components_of(name))
    with os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(os.fsencode(content))


def _read(directory: Path, name: str = RULES) -> Optional[str]:
    """The text of a rules file byte by byte; None where there is none, as git does not follow a symlink there."""
    try:
        descriptor = open_file_beneath(directory, name)
    except (FileNotFoundError, UnsafePathError):
        return None
    with os_errors(directory / name), open(descriptor, "rb") as file:
        return os.fsdecode(file.read())


def _write(file: Path, old: str, new: str, *, dry_run: bool) -> bool:
    if new == old:
        return False
    if os.path.lexists(file) and _read(file.parent) is None:
        raise TradekeepError("is not a plain file, and git does not follow it", path=file, hint="make it one")
    if not dry_run:
        with os_errors(file):
            present = os.path.lexists(file)
            found = os.lstat(file if present else file.parent)
        mode = stat.S_IMODE(found.st_mode) & 0o777 if present else 0o644
        atomic_write(file, os.fsencode(new), mode=mode, gid=found.st_gid)
    return True
