# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The built-in profiles: data only, imported one by one so that whatever packs the engine finds them."""

from __future__ import annotations

from typing import Any

from .kalshi import PROFILE as KALSHI

BUILT_IN: dict[str, dict[str, Any]] = {"kalshi": KALSHI}
