# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the data that are mounts: no rename leads from one into another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import UnsafePathError
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.mounts import DeviceRoot, device_root_of

COLLECTIONS = Path(__file__).resolve().parents[3] / ".cache" / "collections"

BACKS_UP_AND_RESTORES = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import conftest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.backup import backup
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.restore import restore
bench = conftest.Bench(Path(sys.argv[3]))
bench.make_tree()
bench.database().close()
mode = bench.root / "state/account_mode.json"
backup(bench.application, bench.ports)
mode.write_text("{}")
(bench.root / conftest.FILLS).write_bytes(b"")
assert restore(bench.application, bench.ports).changed
assert json.loads(mode.read_text()) == {"mode": "demo"} and bench.rows() == 100
left = [path for path in bench.root.rglob(".tradekeep*")]
assert left == [], left
"""


@pytest.mark.root
def test_hazard_c5_a_restore_over_a_bind_mount(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data/state").mkdir(parents=True)
    mount = f'mount --bind "{tmp_path}/disk" "{tmp_path}/data/state" || exit 77; exec "$0" "$@"'
    program = [sys.executable, "-c", BACKS_UP_AND_RESTORES, str(COLLECTIONS), str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount, *program], capture_output=True, text=True)
    if done.returncode in (1, 77) and not done.stderr.startswith("Traceback"):
        pytest.skip(f"no bind mount can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "disk") == ["account_mode.json"]


def test_hazard_c5_a_mount_point_itself_is_refused() -> None:
    roots = (DeviceRoot("", "/data", 1), DeviceRoot("state", "/data/state", 2))
    assert device_root_of(roots, "state/x.json") is roots[1]
    assert device_root_of(roots, "stateless.json") is roots[0]
    with pytest.raises(UnsafePathError, match="is a mount point"):
        device_root_of(roots, "state")
