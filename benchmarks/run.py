# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""`make bench`: ratios against tar and gzip, restic and builtin modules, measured in one run.

    run.py [--rounds N] [--only bulk,small,restore,ansible,deploy,drill,recover,migrate]

Data is kept in ~/.cache/tradekeep-ops/bench. The part about Ansible needs root: it starts a Debian host.
Writes RESULTS.md; a part that was left out keeps its rows.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional

import dataset
from ansible_side import ansible_rows
from deploy_side import deploy_rows
from measure import Run, Subject, interleaved, measure
from migrate_side import migrate_rows
from recover_side import drill_rows, recover_rows, whole_gigabyte
from restore_side import restore_rows

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / ".cache" / "collections"))
PEERS = ("tar", "gzip", "sha256sum", "restic")
MEMORY_LIMIT = 150_000
Row = dict[str, Any]


def row(what: str, ours: Run, peer: Run, against: str, target: Optional[float], least: bool = False) -> Row:
    """One line of the table. least: the ratio is to be at least the target (how many times faster)."""
    times = (peer.wall / ours.wall, peer.cpu / ours.cpu) if least else (ours.wall / peer.wall, ours.cpu / peer.cpu)
    met = target is None or (times[0] >= target if least else times[0] <= target)
    return {
        "what": what,
        "ours": f"{ours.wall:.2f} s ({ours.cpu:.2f} s CPU)",
        "against": f"{against}: {peer.wall:.2f} s ({peer.cpu:.2f} s CPU)",
        "ratio": f"{times[0]:.2f} ({times[1]:.2f})",
        "target": "" if target is None else f"{'>=' if least else '<='} {target:g}",
        "met": "" if target is None else ("yes" if met else "NO"),
    }


def fact(what: str, value: str, target: str, met: bool) -> Row:
    """A line that compares nothing."""
    return {
        "what": what,
        "ours": value,
        "against": "",
        "ratio": "",
        "target": target,
        "met": "yes" if met else "NO",
    }


class Installation:
    """A configured application over existing data, whose backups lie in a scratch directory."""

    def __init__(self, scratch: Path, name: str, root: Path) -> None:
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.configuration import render_configuration
        from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

        self.backups = scratch / f"{name}-backups"
        (scratch / "etc").mkdir(exist_ok=True)
        self._file = scratch / "etc" / f"{name}.json"
        application = resolve_application(
            "kalshi",
            app=name,
            become=False,
            root=str(root),
            backup_dir=str(self.backups),
            state_dir=str(scratch / "state"),
            config_dir=str(scratch / "etc"),
            bin_dir=str(scratch / "bin"),
        )
        self._file.write_text(render_configuration(application))

    def run(self, engine: str, *words: str) -> list[str]:
        """A command of the on-host door."""
        return [sys.executable, str(HERE / "measured.py"), engine, "--config", str(self._file), *words]

    def clear(self) -> None:
        """No backups, as if for the first time."""
        shutil.rmtree(self.backups, ignore_errors=True)


def bulk_rows(cache: Path, scratch: Path, rounds: int) -> list[Row]:
    """About 800 MB."""
    root = dataset.kalshi_tree(cache)
    ours = Installation(scratch, "kalshi", root)
    archive, repository, password = scratch / "peer.tar.gz", scratch / "restic", scratch / "password"
    password.write_text("benchmark\n")
    restic = f"restic -q --no-cache -r {repository} --password-file {password}"

    def new_repository() -> None:
        shutil.rmtree(repository, ignore_errors=True)
        os.system(f"{restic} init")

    tar = f"tar czf {archive} -C {root} . && sha256sum {archive} > {archive}.sha256 && tar tzf {archive} > /dev/null"
    programs = [engine for engine in ("igzip", "pigz") if shutil.which(engine)]
    runs = interleaved(
        [
            Subject("tar czf + sha256sum + tar tzf", tar),
            Subject("zlib", ours.run("zlib", "backup"), ours.clear),
            Subject("restic", f"{restic} backup {root}", new_repository),
            *(Subject(engine, ours.run(engine, "backup"), ours.clear) for engine in programs),
            Subject("isal", ours.run("isal", "backup"), ours.clear),
        ],
        rounds,
    )
    made = next(ours.backups.glob("*.tar.gz"))
    reads = interleaved(
        [
            Subject("gzip -d", f"gzip -dc {made} > /dev/null"),
            Subject("sha256sum", f"sha256sum {made}"),
            Subject("zlib", ours.run("zlib", "verify", "latest")),
            Subject("isal", ours.run("isal", "verify", "latest")),
            Subject("igzip -d", f"igzip -dc {made} > /dev/null"),
            Subject("sha256sum of the contents", f"cd {root} && find . -type f -print0 | xargs -0 sha256sum"),
        ],
        rounds,
    )
    whole, first = runs["tar czf + sha256sum + tar tzf"], runs["restic"]
    alone = max((reads["gzip -d"], reads["sha256sum"]), key=lambda run: run.wall)
    fast = max((reads["igzip -d"], reads["sha256sum of the contents"]), key=lambda run: run.wall)
    rows = []
    for engine, wanted in (("isal", True), ("zlib", False)):
        mine = runs[engine]
        target = {"tar": 0.20, "restic": 1.0, "verify": 1.5} if wanted else dict.fromkeys(("tar", "restic", "verify"))
        rows += [
            row(f"backup with its checks, {engine}", mine, whole, "tar czf + sha256sum + tar tzf", target["tar"]),
            row(f"backup with its checks, {engine}", mine, first, "restic, first backup", target["restic"]),
            row(f"verify, {engine}", reads[engine], alone, "the slower of gzip -d and sha256sum", target["verify"]),
        ]
    rows.append(row("verify, isal", reads["isal"], fast, "the slower of igzip -d and sha256sum of the contents", 1.5))
    for engine in programs:
        rows.append(
            row(f"backup with its checks, {engine}", runs[engine], whole, "tar czf + sha256sum + tar tzf", None)
        )
        rows.append(row(f"backup with its checks, {engine}", runs[engine], first, "restic, first backup", None))
    # The kernel hands a parent's peak to the child it starts, so the children's figure is an upper bound.
    for name, run in (("backup", runs["isal"]), ("verify", reads["isal"])):
        rows.append(fact(f"{name}: peak memory", f"{run.own / 1000:.0f} MB", "< 150 MB", run.own < MEMORY_LIMIT))
        children = f"{run.children / 1000:.0f} MB"
        rows.append(fact(f"{name}: its children", children, "< 150 MB", run.children < MEMORY_LIMIT))
    return rows


def small_rows(cache: Path, scratch: Path, rounds: int) -> list[Row]:
    """100,000 files of about 300 bytes: plain files, and without a target JSON documents, which tar does not parse."""
    rows = []
    for suffix, what, target in (("txt", "plain files", 2.0), ("json", "JSON documents, parsed and read twice", None)):
        root = dataset.small_files(cache, suffix)
        ours = Installation(scratch, f"small-{suffix}", root)
        runs = interleaved(
            [
                Subject("warm up", f"tar cf - -C {root} . | cat > /dev/null"),
                Subject("tar", f"tar cf - -C {root} . | gzip -1 > {scratch / 'small.tar.gz'}"),
                Subject("ours", ours.run("isal", "backup"), ours.clear),
            ],
            rounds,
        )
        rows.append(row(f"backup of 100,000 {what}, isal", runs["ours"], runs["tar"], "GNU tar + gzip -1", target))
        reading = measure(Subject("verify", ours.run("isal", "verify", "latest")))
        for whose, peak in (
            ("its", runs["ours"].own),
            ("its children's", runs["ours"].children),
            ("its verification's", reading.own),
        ):
            rows.append(fact(f"{whose} peak memory", f"{peak / 1000:.0f} MB", "< 150 MB", peak < MEMORY_LIMIT))
        ours.clear()
    return rows


def write_results(parts: dict[str, list[Row]]) -> str:
    """The table as Markdown; also kept as JSON, so that one part can be measured anew."""
    (HERE / "results.json").write_text(json.dumps(parts, indent=1) + "\n")
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`: medians of runs in turn with their peers on a machine with"
        f" {os.cpu_count()} cores, data in the page cache.",
        "The ratio is of wall time, in brackets of CPU time. `backup` checks every database, counts rows, and reads",
        "the finished archive back from the disk before it counts as made.",
        "",
        "| what | tradekeep | measured against | ratio | target | met |",
        "|---|---|---|---|---|---|",
    ]
    keys = ("what", "ours", "against", "ratio", "target", "met")
    lines += ["| " + " | ".join(item[key] for key in keys) + " |" for rows in parts.values() for item in rows]
    text = "\n".join(lines) + "\n"
    notes = HERE / "NOTES.md"
    (HERE / "RESULTS.md").write_text(text + ("\n" + notes.read_text() if notes.exists() else ""))
    return text


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="bulk,small,restore,ansible,deploy,drill,recover,migrate")
    options = parser.parse_args()
    missing = [name for name in PEERS if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; install them with: apt-get install restic")
    cache = Path(os.environ.get("TRADEKEEP_CACHE") or Path.home() / ".cache" / "tradekeep-ops") / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    # The installed command brings its byte code along.
    compileall.compile_dir(str(HERE.parent / "plugins" / "module_utils"), quiet=2)
    kept = HERE / "results.json"
    parts: dict[str, list[Row]] = json.loads(kept.read_text()) if kept.exists() else {}
    measured = {
        "bulk": bulk_rows,
        "small": small_rows,
        "restore": lambda cache, scratch, rounds: restore_rows(
            lambda name, root: Installation(scratch, name, root),
            {"800 MB": dataset.kalshi_tree(cache), "a lake of 22,800 files": dataset.lake(cache)},
            scratch,
            rounds,
            row,
        ),
        "ansible": ansible_rows,
        "deploy": lambda cache, scratch, rounds: deploy_rows(scratch, rounds, row, fact),
        "drill": lambda cache, scratch, rounds: drill_rows(
            Installation(scratch, "drill", dataset.kalshi_tree(cache)), scratch, rounds, row
        ),
        "recover": lambda cache, scratch, _rounds: recover_rows(
            Installation(scratch, "recover", whole_gigabyte(dataset.kalshi_tree(cache), scratch)), scratch, fact
        ),
        "migrate": lambda cache, _scratch, rounds: migrate_rows(dataset.kalshi_tree(cache), rounds, fact),
    }
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=cache) as scratch:
        for name in options.only.split(","):
            parts[name] = measured[name](cache, Path(scratch), options.rounds)
            write_results(parts)
    print(write_results({name: parts[name] for name in measured if name in parts}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
