# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""Migrations and fences as they are typed."""

from __future__ import annotations

import io
import json
from typing import Any

from ansible_collections.tradekeep.ops.plugins.module_utils.core import cli
from operations_migrate.servers import listing


def said(server: Any, *words: str) -> tuple[int, dict[str, Any], str]:
    out, err = io.StringIO(), io.StringIO()
    config = ["--config", str(server.application.config_file), "--json"]
    status = cli.main([*words, *config], config_dir="/nonexistent", stdout=out, stderr=err)
    return int(status), json.loads(out.getvalue()), err.getvalue()


def told(server: Any, *words: str) -> str:
    out = io.StringIO()
    config = ["--config", str(server.application.config_file)]
    cli.main([*words, *config], config_dir="/nonexistent", stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_a_migration_from_its_plan_to_its_end(old: Any, new: Any) -> None:
    new.write("preferences/mine.json", "{}")
    status, answer, _ = said(new, "migrate", str(old.root), "--dry-run")
    assert (status, answer["record"]["state"]) == (3, "refused")
    assert "against it: preferences/mine.json: is on this host only" in told(new, "migrate", str(old.root), "--dry-run")
    status, answer, _ = said(new, "migrate", str(old.root))
    assert (status, answer["changed"]) == (3, False)
    assert not (new.root / "preferences/own.json").exists()
    status, answer, _ = said(new, "migrate", str(old.root), "--force")
    assert (status, answer["record"]["state"]) == (0, "migrated")
    status, answer, _ = said(new, "migrate", str(old.root))
    assert (status, answer["record"]["state"]) == (0, "unchanged")
    assert said(new, "migrate", str(old.root / "nothing"))[0] == 2


def test_a_fence_from_up_to_down(new: Any) -> None:
    before = listing(new.root)
    status, answer, _ = said(new, "fence", "--reason", "moved")
    assert (status, answer["record"]["fenced"], answer["record"]["reason"]) == (0, True, "moved")
    assert said(new, "fence")[1]["changed"] is False
    assert said(new, "unfence", "--no-start")[1]["changed"] is True
    assert said(new, "unfence")[1]["changed"] is False
    assert listing(new.root) == before
