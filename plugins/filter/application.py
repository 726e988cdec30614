# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a definition amounts to, known on the controller before any host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: application
short_description: Resolve the definition of an application
version_added: 0.1.0
author:
  - tradekeep.ops contributors (@tradekeep)
description:
  - Resolves a definition, as the module M(tradekeep.ops.configuration) takes it, on the controller.
  - A definition that is wrong fails with the key that is wrong and what was expected there.
positional: _input
options:
  _input:
    description: The options of M(tradekeep.ops.configuration) as a mapping.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say where the data of a built-in profile is kept
  ansible.builtin.debug:
    msg: "{{ ({'profile': 'kalshi'} | tradekeep.ops.application).root }}"
"""

RETURN = r"""
_value:
  description: The application with its profile, as the C(tradekeep config show) command prints it.
  type: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..module_utils.core.errors import TradekeepError
from ..module_utils.core.formatting import output_line


def application(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The application as its configuration describes it."""
    # For any filter of a collection Ansible loads all of them, once for each task and host.
    from ..module_utils.core.configuration import application_as_dict
    from ..module_utils.definition import defined_application

    try:
        return application_as_dict(defined_application(definition))
    except TradekeepError as error:
        raise AnsibleFilterError(output_line(error)) from error


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"application": application}
