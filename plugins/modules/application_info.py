#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A configured application."""

from __future__ import annotations

DOCUMENTATION = r"""
module: application_info
short_description: Read the configuration of an application
version_added: 0.1.0
description:
  - Reads how an application is configured on the host, with its profile, its places, its schedules and its retention
    rules.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.configured
attributes:
  check_mode:
    support: full
    details: Nothing is ever written.
  diff_mode:
    support: N/A
    details: Nothing is ever written.
  idempotent:
    support: full
  platform:
    platforms: linux
seealso:
  - module: tradekeep.ops.configuration
"""

EXAMPLES = r"""
- name: Read the configuration
  tradekeep.ops.application_info:
    app: kalshi
"""

RETURN = r"""
record:
  description: The configuration.
  returned: always
  type: dict
exit_status:
  description: The exit status that the C(tradekeep) command gives for the same outcome. V(0) is success.
  returned: always
  type: int
  sample: 0
error:
  description: What went wrong, with C(message), C(path), C(hint) and C(exit_status).
  returned: failure, unless the operation ended and found problems
  type: dict
  sample:
    message: another run holds the lock
    path: /var/lib/tradekeep/kalshi/lock
    hint: wait for it to end
    exit_status: 3
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import configured_spec
from ..module_utils.core.operations.configured import show_configuration
from ..module_utils.core.ports import Ports
from ..module_utils.definition import configured_application
from ..module_utils.door import Answer, answer, serve


def run(module: Any, ports: Ports) -> Answer:
    """Read the configuration."""
    return answer(show_configuration(configured_application(module.params)))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=configured_spec(), supports_check_mode=True), run)


if __name__ == "__main__":
    main()
