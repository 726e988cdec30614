# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""HAZARDS D15: what becomes of one file, and what the proof of a deploy makes of it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.account import current_account
from ansible_collections.tradekeep.ops.plugins.module_utils.core.host.runner import SubprocessRunner, SystemClock
from ansible_collections.tradekeep.ops.plugins.module_utils.core.kinds.base import CaptureContext
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.data_reader import DataReader
from ansible_collections.tradekeep.ops.plugins.module_utils.core.operations.deploy.proof import Fact, Witness
from ansible_collections.tradekeep.ops.plugins.module_utils.core.ports import NoProgress, Ports
from ansible_collections.tradekeep.ops.plugins.module_utils.core.profile import resolve_application

LOG = "logs/bot.log"
PRICES = "data/prices.csv"
FIRST_LINES = b"started\n" * 50


class Bot:
    """The data of a bot, and the proof of what is done to it."""

    def __init__(self, base: Path) -> None:
        self.root = base / "live"
        scratch = base / "scratch"
        scratch.mkdir()
        for name in ("logs", "data"):
            (self.root / name).mkdir(parents=True)
        (self.root / LOG).write_bytes(FIRST_LINES)
        (self.root / PRICES).write_bytes(b"1,2\n" * 50)
        (self.root / "data" / "portfolio.json").write_bytes(b"{}")
        paths = {name: str(base / name) for name in ("state_dir", "backup_dir", "config_dir", "bin_dir")}
        profile = {
            "name": "bot",
            "components": {"data": {"paths": ["data"]}, "logs": {"paths": ["logs"]}},
            "deploy": {"layout": "in_place"},
        }
        application = resolve_application(profile, root=str(self.root), owner="bot", become=False, **paths)
        ports = Ports(SubprocessRunner(), SystemClock(), NoProgress())
        reader = DataReader(CaptureContext(scratch, SystemClock()), current_account(), ports)
        self.witness = Witness(application, (), reader)
        self.before = self.witness.facts()
        self.samples = self.witness.samples(self.before)

    def after(self) -> dict[str, Fact]:
        return self.witness.facts()

    def damaged(self, after: dict[str, Fact] | None = None) -> list[str]:
        """The paths in which the proof finds damage."""
        lines = self.witness.compare(self.before, after or self.after(), self.samples).damaged
        return sorted(line.split(": ")[0][len(str(self.root)) + 1 :] for line in lines)

    def with_inode_of(self, removed: str, taken_by: str) -> dict[str, Fact]:
        """What is there now, as if the next file made had got the inode of one that was removed."""
        after, taker = self.after(), str(self.root / taken_by)
        number = self.before[str(self.root / removed)].inode
        after[taker] = Fact(**{**vars(after[taker]), "inode": number})
        return after


@pytest.fixture
def bot(tmp_path: Path) -> Bot:
    return Bot(tmp_path)


@pytest.mark.parametrize("removed", [LOG, PRICES])
def test_hazard_d15_an_inode_used_again_does_not_hide_that_a_file_is_gone(bot: Bot, removed: str) -> None:
    (bot.root / removed).unlink()
    portfolio = bot.root / "data" / "portfolio.json"
    portfolio.with_suffix(".tmp2").write_bytes(b'{"cash": 1}')
    portfolio.with_suffix(".tmp2").replace(portfolio)
    assert bot.damaged(bot.with_inode_of(removed, "data/portfolio.json")) == [removed]


def test_hazard_d15_an_inode_used_again_does_not_hide_that_a_log_was_copied(bot: Bot) -> None:
    (bot.root / "logs" / "copy").write_bytes(FIRST_LINES)
    (bot.root / "logs" / "copy").replace(bot.root / LOG)
    (bot.root / "data" / "new.csv").write_bytes(b"3,4\n")
    assert bot.damaged(bot.with_inode_of(LOG, "data/new.csv")) == [LOG]


def test_hazard_d15_a_temporary_file_of_its_name_does_not_stand_for_a_file_that_is_gone(bot: Bot) -> None:
    (bot.root / PRICES).unlink()
    (bot.root / f"{PRICES}.tmp").write_bytes(b"1,2\n" * 50)
    assert bot.damaged() == [PRICES]


def compressing(compress: Callable[[bytes], bytes], suffix: str) -> Callable[[Path], None]:
    def rotate(log: Path) -> None:
        log.with_name(f"bot.log.1{suffix}").write_bytes(compress(log.read_bytes()))
        log.unlink()

    return rotate


def renaming(log: Path) -> None:
    log.replace(log.with_name("bot.log.1"))
    log.write_bytes(b"a new one\n")


def copying_and_truncating(log: Path) -> None:
    log.with_name("bot.log.1").write_bytes(log.read_bytes())
    os.truncate(log, 0)


ROTATIONS = {
    "renamed": renaming,
    "copied and truncated": copying_and_truncating,
    "gzip": compressing(gzip.compress, ".gz"),
    "bzip2": compressing(bz2.compress, ".bz2"),
    "xz": compressing(lzma.compress, ".xz"),
}


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_hazard_d15_a_log_that_was_rotated_is_no_damage(bot: Bot, rotation: str) -> None:
    with (bot.root / LOG).open("ab") as log:
        log.write(b"and a line of the bot's\n")
    ROTATIONS[rotation](bot.root / LOG)
    assert bot.damaged() == []


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_hazard_d15_a_rotation_that_loses_lines_is_damage(bot: Bot, rotation: str) -> None:
    os.truncate(bot.root / LOG, 100)
    ROTATIONS[rotation](bot.root / LOG)
    assert bot.damaged() == [LOG]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_hazard_d15_what_is_no_compressed_log_does_not_stand_for_one(bot: Bot, suffix: str) -> None:
    (bot.root / f"{LOG}.1.{suffix}").write_bytes(b"not compressed at all")
    (bot.root / LOG).unlink()
    assert bot.damaged() == [LOG]


def test_a_table_that_was_moved_to_another_name_is_no_damage(bot: Bot) -> None:
    (bot.root / PRICES).replace(bot.root / "data" / "prices-2026.csv")
    assert bot.damaged() == []
