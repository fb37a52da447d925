"""Why a patch was refused."""

from __future__ import annotations

from pilothouse.apimachinery import errors

_HIDDEN = "the server rejected our request due to an error in our request"


class PatchError(Exception):
    """``code`` is 400 (malformed), 413 (too many operations), 422 (does not apply) or 500
    (kube-apiserver has no status for it: 400 for clients)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def to_status_error(self) -> errors.StatusError:
        """As kube-apiserver answers: it hides what a 422 was about."""
        if self.code == 413:
            return errors.new_request_entity_too_large(self.message)
        if self.code == 422:
            return errors.StatusError(422, "Invalid", _HIDDEN, {})
        if self.code == 500:
            return errors.new_unclassified(self.message)
        return errors.new_bad_request(self.message)
