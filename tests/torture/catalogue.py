# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""All cases."""

from __future__ import annotations

import checkouts
import places
import tracked

CASES = (*tracked.CASES, *places.CASES, *checkouts.CASES)
