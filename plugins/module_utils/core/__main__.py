# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""``python -m ...core`` and the installed program start here."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
