"""What the four RBAC kinds share.

That nobody grants what he does not have is checked by the admission plugin ``rbac_escalation``,
which knows the authorizer.
"""

from __future__ import annotations

from pilothouse.apimachinery.names import is_path_segment_name
from pilothouse.apiserver.registry.builtin import BuiltInStrategy


class RBACStrategy(BuiltInStrategy):
    has_status = False
    has_generation = False
    allow_create_on_update = True

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_path_segment_name(name)
