# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The law of dry runs for deploys: what one foresees is what the deploy does, and it fails where the deploy fails.

Random situations, each from its number; TRADEKEEP_SITUATIONS asks for more of them.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.errors import TradekeepError

from .conftest import FIRST, World, listing

SITUATIONS = int(os.environ.get("TRADEKEEP_SITUATIONS", "12"))
NAMES = (
    "bot.py",
    "lib/a.py",
    "lib/b.py",
    "lib/c.py",
    "lib",
    "new/x.py",
    "config.json",
    "paper_trading_outputs/state.json",
)
DATA = ("paper_trading_outputs/state.json", "paper_trading_outputs/trades.jsonl", "logs/bot.log", "fills.jsonl")


def upstream_goes_on(world: World, chance: random.Random) -> None:
    """Code changes, goes and comes; now and then data is tracked, and a file becomes a directory."""
    for _commit in range(chance.randrange(1, 4)):
        changes: dict[str, str | None] = {}
        for name in chance.sample(NAMES, chance.randrange(1, 4)):
            place = world.upstream / name
            if place.is_dir():
                continue
            if place.exists() and chance.random() < 0.4:
                changes[name] = None
            elif not any((world.upstream / above).is_file() for above in Path(name).parents):
                changes[name] = f"{chance.random()}\n"
        if chance.random() < 0.2:
            changes[chance.choice(DATA)] = "tracked by now\n"
        world.push({name: content for name, content in changes.items() if content or (world.upstream / name).is_file()})


def somebody_was_there(world: World, chance: random.Random) -> None:
    """Edits, files of its own, and what is missing, on the server."""
    for name in (*FIRST, *NAMES):
        place, what = world.live / name, chance.random()
        if what < 0.1 and place.is_file():
            place.write_text("edited here\n")
        elif what < 0.15 and place.is_file():
            place.unlink()
        elif what < 0.2 and place.parent.is_dir() and not place.exists():
            place.write_text("its own\n")
        elif what < 0.23 and place.is_file():
            place.unlink()
            place.symlink_to("nowhere")
    if chance.random() < 0.1:
        shutil.rmtree(world.live / "lib", ignore_errors=True)
    if chance.random() < 0.1:
        (world.live / "paper_trading_outputs").rename(world.base / "disk")
        (world.live / "paper_trading_outputs").symlink_to(world.base / "disk")


def outcome_of(world: World, options: dict[str, Any], *, dry_run: bool) -> Any:
    try:
        record = world.deploy(dry_run=dry_run, **options).record
    except TradekeepError as error:
        return type(error).__name__, error.message, str(error.path), error.hint
    state = {"planned": "deployed"}.get(record["state"], record["state"])
    return state, record["changes"], record["collisions"], record.get("obstacles")


@pytest.mark.parametrize("number", range(SITUATIONS))
def test_a_deploy_does_what_its_dry_run_foresees(tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    world = World(tmp_path, on_collision=chance.choice(("fail", "keep_live", "seed_if_absent")))
    world.clone()
    if chance.random() < 0.5:
        assert world.deploy().record["state"] in ("unchanged", "deployed")
    upstream_goes_on(world, chance)
    somebody_was_there(world, chance)
    options: dict[str, Any] = {"adopt": True} if chance.random() < 0.3 else {}
    before = listing(world.live)
    foreseen = outcome_of(world, options, dry_run=True)
    assert listing(world.live) == before
    assert outcome_of(world, options, dry_run=False) == foreseen
    if foreseen[0] not in ("deployed", "unchanged"):
        after = listing(world.live)
        assert {path: facts[3] for path, facts in after.items() if "/.git/" not in path} == {
            path: facts[3] for path, facts in before.items() if "/.git/" not in path
        }
