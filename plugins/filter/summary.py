# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules did on a host, in a few plain lines."""

from __future__ import annotations

DOCUMENTATION = r"""
name: summary
short_description: Say in a few lines what the modules did
version_added: 0.1.0
author:
  - tradekeep.ops contributors (@tradekeep)
description:
  - Tells from the C(record) of each result what was done on the host, one or a few lines for each module.
  - Results of tasks that failed or were skipped say nothing. Every line is safe to show on a terminal.
positional: _input, check
options:
  _input:
    description:
      - Registered results by the short name of their module.
      - These are C(backup), C(configuration), C(deploy), C(migrate), C(prune), C(recover), C(restore), C(runtime),
        C(tree), C(units) and C(verify).
    type: dict
    required: true
  check:
    description: Whether they ran in check mode. What changed is then said not to be done.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what was done
  ansible.builtin.debug:
    msg: "{{ {'restore': restore_result} | tradekeep.ops.summary(ansible_check_mode) }}"
"""

RETURN = r"""
_value:
  description: Plain lines.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..module_utils.summaries import SUMMARISED, summary_lines


def summary(results: Mapping[str, Any], check: bool = False) -> list[str]:
    """A few lines on what each module did."""
    unknown = [name for name in results if name not in SUMMARISED]
    if unknown:
        raise AnsibleFilterError(f"summary: {', '.join(unknown)} is not one of {', '.join(SUMMARISED)}")
    return summary_lines(results, check)


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filters by name."""
        return {"summary": summary}
