# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""One `tradekeep` command in a process of its own, which says at its end how much memory it has had.

measured.py ENGINE ARGUMENT ...        where ENGINE, the means of compression, is isal, pigz, igzip or zlib
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".cache" / "collections"))


def only(engine: str) -> str:
    """Hide the faster means from the engine; the path on which it may look for programs."""
    programs = tempfile.mkdtemp(prefix="tradekeep-bench-")
    if engine == "isal":
        import isal  # noqa: F401  # without it, something else would be measured under its name
    else:
        sys.modules["isal"] = None  # type: ignore[assignment]  # how Python is told that a module is not there
        found = shutil.which(engine)
        if found:
            os.symlink(found, Path(programs, engine))
    return programs


def peak_memory() -> dict[str, Any]:
    """Peaks in kilobytes. The kernel's figure for this process alone is of its present program, as wanted."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"own": int(status["VmHWM"].split()[0]), "children": children}


def main(engine: str, arguments: list[str]) -> int:
    """Carry the command out."""
    programs = only(engine)
    from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
    from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner

    # A function in the place of a class, which makes runners that see these programs alone.
    cli.SubprocessRunner = lambda: SubprocessRunner(search_path=programs)  # type: ignore[assignment,misc]
    try:
        return cli.main(arguments)
    finally:
        shutil.rmtree(programs)
        print("peak memory: " + json.dumps(peak_memory()), file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
