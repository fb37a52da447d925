"""A row of the table of controllers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.controllermanager.config import ControllerManagerConfig
    from pilothouse.controllermanager.controller import Controller
    from pilothouse.kubeclient.interfaces import Environment

_PACKAGE = "pilothouse.controllermanager"


@dataclass(frozen=True, slots=True)
class Entry:
    """One controller: its names (upstream's present one, then the older ones) and its class."""

    name: str
    module: str
    class_name: str
    options: Callable[[ControllerManagerConfig], dict[str, Any]]
    aliases: tuple[str, ...] = ()
    wanted: Callable[[ControllerManagerConfig], bool] = lambda config: True
    account: str = ""
    """Its service account in kube-system, when that is not called as the controller."""
    own_account: bool = True
    """False: it acts as the controller manager itself."""
    by_default: bool = True
    """Whether ``*`` means it, too."""

    def make(self, env: Environment, config: ControllerManagerConfig) -> Controller:
        module = importlib.import_module(f"{_PACKAGE}.{self.module}")
        controller: Controller = getattr(module, self.class_name)(env, **self.options(config))
        return controller
