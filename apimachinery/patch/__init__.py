"""The three patch types as pure functions on JSON values (see ARCHITECTURE.md).

None of them changes its input. What a patch does not touch is shared between the input and the
result, so copy before changing a result in place.
"""

from pilothouse.apimachinery.patch.errors import PatchError

__all__ = ["PatchError"]
