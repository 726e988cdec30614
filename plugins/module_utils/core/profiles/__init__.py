# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The built-in profiles: data only, imported one by one so that whatever packs the engine finds them."""

from __future__ import annotations

from typing import Any

from .crypto_bot import PROFILE as CRYPTO_BOT
from .freqtrade import PROFILE as FREQTRADE
from .kalshi import PROFILE as KALSHI
from .paper_bot import PROFILE as PAPER_BOT
from .trade_agent import PROFILE as TRADE_AGENT
from .v6 import PROFILE as V6

BUILT_IN: dict[str, dict[str, Any]] = {
    "crypto_bot": CRYPTO_BOT,
    "freqtrade": FREQTRADE,
    "kalshi": KALSHI,
    "paper_bot": PAPER_BOT,
    "trade_agent": TRADE_AGENT,
    "v6": V6,
}
