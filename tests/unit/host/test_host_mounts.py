# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Which mounts hold a path, as the kernel lists them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host import mounts

LINES = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:40 / /opt rw - autofs systemd-1 rw
31 27 254:1 / /opt rw - xfs /dev/vdb rw
32 31 0:41 / /opt/bot/data\\040base rw - nfs4 server:/x rw
33 31 254:2 / /opt/bots rw - btrfs /dev/vdc rw
"""


@pytest.fixture(autouse=True)
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(LINES)
    monkeypatch.setattr(mounts, "_MOUNTINFO", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("/opt/bot", ["31", "32"]),
        ("/opt/bot/data base", ["32"]),
        ("/opt/bot/data", ["31"]),
        ("/srv", ["27"]),
        ("/", ["27", "30", "31", "32", "33"]),
    ],
)
def test_the_mount_that_a_path_lies_on_and_all_beneath_it(path: str, numbers: list[str]) -> None:
    found = mounts.mounts_holding(path)
    assert [mount.number for mount in found] == numbers
    assert mounts.filesystem_type(path) == found[0].filesystem


def test_where_the_system_does_not_tell_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mounts, "_MOUNTINFO", tmp_path / "none")
    assert (mounts.mounts_holding("/opt"), mounts.filesystem_type("/opt")) == ((), "")
