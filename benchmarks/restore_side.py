# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Restores against tar alone: the tree of 800 MB, and a lake of many small files; every digest is checked."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, Callable

from measure import Subject, interleaved

RATIO = 1.5
PEER = "tar -xzf of the same archive"
Row = dict[str, Any]


def restore_rows(
    install: Callable[[str, Path], Any], trees: dict[str, Path], scratch: Path, rounds: int, row: Any
) -> list[Row]:
    """Beside the data (``--to``), and in its place where all of it is gone.

    install: makes an installation of that name over a tree. trees: what each is called, and where it is kept.
    """
    rows: list[Row] = []
    for name, kept in trees.items():
        root = scratch / f"restored-{len(rows)}"
        shutil.copytree(kept, root, symlinks=True)
        ours = install(f"restore{len(rows)}", root)
        os.system(" ".join(ours.run("isal", "backup")))
        archive = next(ours.backups.glob("*[0-9].tar.gz"))
        place, beside = scratch / "unpacked", scratch / "beside"

        def lose(ours: Any = ours, root: Path = root) -> None:
            for path in root.iterdir():
                shutil.rmtree(path)
            for path in ours.backups.glob("*_before_restore*"):
                path.unlink()

        runs = interleaved(
            [
                Subject("tar", f"mkdir {place} && tar -xzf {archive} -C {place}", _without(place)),
                Subject("--to", ours.run("isal", "restore", archive.name, "--to", str(beside)), _without(beside)),
                Subject("in place", ours.run("isal", "restore", archive.name), lose),
            ],
            rounds,
        )
        wanted = digests(place)
        if not wanted or digests(beside) != wanted or digests(root) != wanted:
            raise SystemExit(f"{name}: what was restored is not what tar unpacks")
        rows += [
            row(f"restore --to of {name}, isal", runs["--to"], runs["tar"], PEER, RATIO),
            row(f"restore of {name} in its place, isal", runs["in place"], runs["tar"], PEER, RATIO),
        ]
        for path in (place, beside, root):
            shutil.rmtree(path)
        ours.clear()
    return rows


def _without(path: Path) -> Callable[[], None]:
    return lambda: shutil.rmtree(path, ignore_errors=True)


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every file below, but for the archive's own list."""
    found = {}
    for directory, _directories, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path != root / "MANIFEST.json":
                found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
