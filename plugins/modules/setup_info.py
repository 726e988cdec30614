#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether an application is set up as it is defined."""

from __future__ import annotations

DOCUMENTATION = r"""
module: setup_info
short_description: Look whether an application is set up as it is defined
version_added: 0.1.0
description:
  - Looks in one execution whether M(tradekeep.ops.prerequisites), M(tradekeep.ops.tree), M(tradekeep.ops.configuration)
    and M(tradekeep.ops.units) would each leave the host as it is, and goes through all that the timers will need.
  - The playbook C(site) begins with it, so that a host on which nothing is to be done is asked once.
  - Ends at the first step that would do anything, or that fails. What it fails for is not said here, as the module of
    that step says it.
extends_documentation_fragment:
  - tradekeep.ops.common
  - tradekeep.ops.definition
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
options:
  accounts:
    description: As O(tradekeep.ops.prerequisites#module:accounts).
    type: bool
    default: true
  packages:
    description: As O(tradekeep.ops.prerequisites#module:packages).
    type: list
    elements: str
    default: []
  brought:
    description: As O(tradekeep.ops.prerequisites#module:brought).
    type: list
    elements: str
    default: []
  installed:
    description: Files of the controller that the role C(runtime) installs, which are keys and a passphrase.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the file.
        type: str
        required: true
      sha256:
        description: Digest of its content.
        type: str
        required: true
      mode:
        description: Its mode, in octal.
        type: str
        required: true
  credentials:
    description: As O(tradekeep.ops.tree#module:credentials).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file, relative to O(root).
        type: str
        required: true
      content:
        description: Content of the file, encoded as Base64.
        type: str
        required: true
      replace:
        description: Whether a file with another content is to be replaced.
        type: bool
        default: false
  command:
    description: As O(tradekeep.ops.configuration#module:command).
    type: dict
    suboptions:
      interpreter:
        description: The Python on the host that runs the command.
        type: path
        default: /usr/bin/python3
      allow_downgrade:
        description: Whether an older release may be put in the place of a newer one.
        type: bool
        default: false
  unit_dir:
    description: As O(tradekeep.ops.units#module:unit_dir).
    type: path
    default: /etc/systemd/system
  unit_files:
    description: As O(tradekeep.ops.units#module:unit_files).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the unit.
        type: str
        required: true
      content:
        description: The unit, in Base64.
        type: str
        required: true
      replace:
        description: Whether it takes the place of one that somebody else put there.
        type: bool
        default: false
  enable_unit_files:
    description: As O(tradekeep.ops.units#module:enable_unit_files).
    type: bool
    default: true
  take_over:
    description: As O(tradekeep.ops.tree#module:take_over).
    type: bool
    default: false
seealso:
  - module: tradekeep.ops.prerequisites
  - module: tradekeep.ops.tree
  - module: tradekeep.ops.configuration
  - module: tradekeep.ops.units
"""

EXAMPLES = r"""
- name: Look whether a server is as it has to be
  tradekeep.ops.setup_info:
    profile: kalshi
    command: {}
  register: server
"""

RETURN = r"""
record:
  description: Whether anything is to be done.
  returned: always
  type: dict
  contains:
    settled:
      description: Whether nothing is.
      returned: success
      type: bool
    differs:
      description: Where anything is, the step at which it ended. The name of its module, or another word.
      returned: success
      type: str
    steps:
      description: Where nothing is to be done, what each module would return of it, by its short name.
      returned: success
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

from ..module_utils.arguments import UNIT_FILES, definition_spec
from ..module_utils.core.ports import Ports
from ..module_utils.door import Answer, answer, serve
from ..module_utils.steps.installing import COMMAND
from ..module_utils.steps.layout import CREDENTIALS
from ..module_utils.steps.settled import INSTALLED, settled

NAMES: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
SPEC = definition_spec(
    accounts={"type": "bool", "default": True},
    packages=NAMES,
    brought=NAMES,
    installed=INSTALLED,
    credentials=CREDENTIALS,
    command=COMMAND,
    unit_dir={"type": "path", "default": "/etc/systemd/system"},
    unit_files=UNIT_FILES,
    enable_unit_files={"type": "bool", "default": True},
    take_over={"type": "bool", "default": False},
)


def run(module: Any, ports: Ports) -> Answer:
    """Look, and write nothing."""
    return answer(settled(module.params, ports))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
