#!/usr/bin/python
# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The data that a repository tracks by mistake."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tracked_data
short_description: Find data that a repository tracks by mistake
version_added: 0.1.0
description:
  - Lists the files that git tracks in a working copy although they belong to the data of an application, or although
    the repository's own rules ignore them. Each is a collision of a deploy to come.
  - Says too which protective lines its C(.gitignore) lacks, see M(tradekeep.ops.gitignore).
  - Files that only keep a directory, such as C(.gitkeep), are no data.
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
  path:
    description: Top of the working copy. The place of the application's code where it is not given.
    type: path
seealso:
  - module: tradekeep.ops.gitignore
  - module: tradekeep.ops.deploy
"""

EXAMPLES = r"""
- name: Look for data in a repository
  tradekeep.ops.tracked_data:
    profile: paper_bot
    path: /home/me/paper_bot
  delegate_to: localhost
  register: found

- name: Insist that there is none
  ansible.builtin.assert:
    that: found.record.tracked | length == 0
"""

RETURN = r"""
record:
  description: What was found.
  returned: always
  type: dict
  contains:
    path:
      description: Path of the working copy.
      returned: success
      type: str
    tracked:
      description: The data that is tracked, with C(path) and C(why).
      returned: success
      type: list
      elements: dict
      sample:
        - path: logs/bot.log
          why: component logs
    missing:
      description: The lines that the C(.gitignore) lacks.
      returned: success
      type: list
      elements: str
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
    message: there is no .git
    path: /home/me/bot
    hint: name the top of a git working copy
    exit_status: 3
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.arguments import definition_spec
from ..module_utils.core.operations.deploy.working_copy import tracked_data
from ..module_utils.core.ports import Ports
from ..module_utils.definition import application_of_code
from ..module_utils.door import Answer, answer, serve

SPEC = definition_spec(path={"type": "path"})


def run(module: Any, ports: Ports) -> Answer:
    """Look for it."""
    return answer(tracked_data(application_of_code(module.params), ports, path=module.params["path"]))


def main() -> None:
    """Build the module and serve it."""
    serve(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
