#!/usr/bin/env python3
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The part of the bot that supervisor runs. At its start it says what it finds."""

from __future__ import annotations

import signal
from pathlib import Path

LOG = Path(__file__).resolve().parent / "paper_trading_outputs" / "fills.jsonl"


def main() -> None:
    """Stay until somebody ends it."""
    found = len(LOG.read_text(encoding="utf-8").splitlines()) if LOG.exists() else 0
    print(f"started with {found} fills", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
