#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime
short_description: Install the tradekeep command
version_added: 0.1.0
description:
  - Builds the C(tradekeep) command from the code that the module itself runs and installs it.
  - The program is the same, byte for byte, for the same release of the collection and the same O(interpreter), which
    adds its byte code to the sources. It needs Python 3.9 or newer on the host and nothing else.
extends_documentation_fragment:
  - tradekeep.ops.common
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
options:
  bin_dir:
    description: Directory that the command is installed in. It is created where it is missing.
    type: path
    default: /usr/local/bin
  config_dir:
    description: Directory that the command reads configurations from, unless it is told otherwise.
    type: path
    default: /etc/tradekeep
  interpreter:
    description: The Python on the host that runs the command.
    type: path
    default: /usr/bin/python3
  allow_downgrade:
    description:
      - Put an older release in the place of a newer one. Without it a controller with an older collection is refused,
        as the timers and records on the host may need the newer one.
    type: bool
    default: false
  state:
    description: Whether the command is there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: tradekeep.ops.configuration
"""

EXAMPLES = r"""
- name: Install the command
  tradekeep.ops.runtime:

- name: Install the command for an ordinary user
  tradekeep.ops.runtime:
    bin_dir: "{{ ansible_user_dir }}/bin"
    config_dir: "{{ ansible_user_dir }}/.config/tradekeep"
"""

RETURN = r"""
record:
  description: The program's C(path), C(sha256), C(size) and C(version), and the version that was C(installed) before.
  returned: always
  type: dict
  contains:
    path:
      description: Path of the program.
      returned: success
      type: str
    sha256:
      description: Digest of the program, or none where it is absent.
      returned: success
      type: str
    size:
      description: Size of the program in bytes.
      returned: success
      type: int
    version:
      description: Version of the collection it was built from.
      returned: success
      type: str
    installed:
      description: Version of the program that was there, or none.
      returned: success
      type: str
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

from ..module_utils.core.operations.installation import install_program
from ..module_utils.core.ports import Ports
from ..module_utils.door import Answer, answer, serve

SPEC: dict[str, Any] = {
    "bin_dir": {"type": "path", "default": "/usr/local/bin"},
    "config_dir": {"type": "path", "default": "/etc/tradekeep"},
    "interpreter": {"type": "path", "default": "/usr/bin/python3"},
    "allow_downgrade": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def run(module: Any, ports: Ports) -> Answer:
    """Install or remove the program."""
    params = module.params
    return answer(
        install_program(
            ports,
            bin_dir=params["bin_dir"],
            config_dir=params["config_dir"],
            interpreter=params["interpreter"],
            present=params["state"] == "present",
            allow_downgrade=params["allow_downgrade"],
            dry_run=module.check_mode,
        )
    )


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
