# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an application that is already configured on the host is named."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules that work on a configured application."""

    DOCUMENTATION = r"""
options:
  app:
    description:
      - Name of the application.
      - May be left out where only one is configured on the host.
    type: str
  config_dir:
    description: Directory of the configurations that M(tradekeep.ops.configuration) installs.
    type: path
    default: /etc/tradekeep
"""
