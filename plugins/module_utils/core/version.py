# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""The version of the collection, as the program on a host states it."""

from __future__ import annotations

# Equal to galaxy.yml's; tests/unit/cli/test_program.py keeps it so.
VERSION = "0.1.0"
