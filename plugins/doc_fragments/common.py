# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every module of the collection says about itself."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes; each module states its own support."""

    DOCUMENTATION = r"""
author:
  - tradekeep.ops contributors (@tradekeep)
requirements:
  - Python 3.9 or newer on the host, with its standard library.
attributes:
  check_mode:
    description: Computes what would be done and fails where the real run would fail, without writing anything.
  diff_mode:
    description:
      - Shows facts about what changes, such as sizes, digests, counts and modes, never the content of a file.
      - The configuration and the units are shown in full, but for what may hold a secret, of which there is a digest.
  idempotent:
    description: A second run with the same options changes nothing.
  platform:
    description: The systems that the module works on.
    support: full
    platforms: linux
notes:
  - RV(record) has the same content as the C(record) that the C(tradekeep) command prints with C(--json).
"""
