"""Methods of plugins: what servers and clients know them by."""

from __future__ import annotations

from pilothouse.kubelet.plugins import messages


def test_methods_are_keys() -> None:
    methods = [one for one in vars(messages).values() if isinstance(one, messages.Method)]
    assert messages.REGISTER in methods
    assert len({method: method.path for method in methods}) == len(methods)
