"""A container's root filesystem: an overlay of the image's layers and a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator

from pilothouse.kubelet.network.namespaces import MS_BIND, MS_REC, mount, umount
from pilothouse.kubelet.runtime.shim.node import ShimError
from pilothouse.kubelet.runtime.shim.user_namespaces import attach_mapped
from pilothouse.kubelet.runtime.shim.users import NO_LINKS, open_in_root


class RootFilesystem:
    """``rootfs``, ``upper`` and ``work`` in the container's directory."""

    def __init__(
        self, directory: str, layers: list[str], *, rootless: bool, path: str = "", owner: int = 0
    ) -> None:
        """``owner``: who is root in the container's user namespace; 0: root."""
        self.path = path or f"{directory}/rootfs"
        self._owner = owner
        self._upper = f"{directory}/upper"
        self._work = f"{directory}/work"
        self._layers = layers
        self._rootless = rootless

    def mount(self, user_namespace: int = -1) -> None:
        """``user_namespace``: descriptor of the container's own.

        :raises ShimError: the kernel has no overlayfs here, or a layer is gone.
        """
        for directory in (self.path, self._upper, self._work):
            os.makedirs(directory, exist_ok=True)
        if self._owner:
            os.chown(self._upper, self._owner, self._owner)
        options = f",upperdir={self._upper},workdir={self._work}"
        with _mapped_layers(self._layers, f"{self.path}-layer", user_namespace) as layers:
            _mount_overlay(self.path, layers, options, rootless=self._rootless)

    def unmount(self) -> None:
        """Missing is fine."""
        try:
            umount(self.path)
        except OSError:
            pass

    def remove(self) -> None:
        self.unmount()
        for directory in (self.path, self._work, self._upper):
            shutil.rmtree(directory, ignore_errors=True)

    def used_bytes(self) -> int:
        """What the container has written."""
        total = 0
        for directory, _, files in os.walk(self._upper):
            for name in files:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(directory, name)).st_blocks * 512
        return total


class ImageVolume:
    """An image's files, read-only, in a directory of the container's."""

    def __init__(self, directory: str, layers: list[str], *, rootless: bool) -> None:
        self.path = directory
        self._layers = layers
        self._rootless = rootless

    def mount(self, sub_path: str, user_namespace: int = -1) -> str:
        """What is to be bound: the directory, or a file or directory in it.

        :raises ShimError: nothing is at ``sub_path``, or the image can't be mounted.
        """
        empty = f"{self.path}-empty"
        for directory in (self.path, empty):
            os.makedirs(directory, exist_ok=True)
        # An overlay without an upper directory needs two lower ones.
        layers = [empty, *self._layers]
        with _mapped_layers(layers, f"{self.path}-layer", user_namespace) as mapped:
            _mount_overlay(self.path, mapped, "", rootless=self._rootless)
        if not sub_path:
            return self.path
        found = os.path.realpath(os.path.join(self.path, sub_path))
        if not found.startswith(f"{self.path}/") or not os.path.exists(found):
            raise ShimError("StartError", f"image volume: no such path in the image: {sub_path}")
        return found

    def unmount(self) -> None:
        """Missing is fine."""
        with contextlib.suppress(OSError):
            umount(self.path)


class SubPath:
    """A file or directory of a volume that containers write to, held fast at ``path``."""

    def __init__(self, path: str, host_path: str, within: str) -> None:
        self.path = path
        self._within = within
        self._below = os.path.relpath(host_path, within)

    def mount(self) -> str:
        """What is to be bound. :raises ShimError: a link is on the way, or nothing is there."""
        try:
            fd = open_in_root(self._within, self._below, os.O_PATH, NO_LINKS)
        except OSError as error:
            raise ShimError(
                "StartError", f"failed to prepare subPath {self._below!r}: {error.strerror}"
            ) from error
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.makedirs(self.path, exist_ok=True)
            else:
                os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            mount(f"/proc/self/fd/{fd}", self.path, "", MS_BIND | MS_REC)
        finally:
            os.close(fd)
        return self.path

    def unmount(self) -> None:
        """Missing is fine. Never removes what is below: it is the volume's."""
        with contextlib.suppress(OSError):
            umount(self.path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)
        with contextlib.suppress(OSError):
            os.unlink(self.path)


@contextlib.contextmanager
def _mapped_layers(layers: list[str], prefix: str, user_namespace: int) -> Iterator[list[str]]:
    """The layers as a user namespace (a descriptor; -1: ours) sees them; the overlay keeps them."""
    if user_namespace < 0:
        yield layers
        return
    mapped: list[str] = []
    try:
        for number, layer in enumerate(layers):
            mapped.append(f"{prefix}{number}")
            attach_mapped(layer, mapped[-1], user_namespace)
        yield mapped
    finally:
        for path in mapped:
            with contextlib.suppress(OSError):
                umount(path)
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _mount_overlay(target: str, layers: list[str], options: str, *, rootless: bool) -> None:
    """``layers`` lowest first. :raises ShimError: with the reason."""
    with contextlib.ExitStack() as stack:
        # Short names for the layers: the kernel takes one page of options.
        lower = []
        for layer in reversed(layers):
            try:
                fd = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise ShimError("StartError", f"image layer is gone: {error}") from error
            stack.callback(os.close, fd)
            lower.append(f"/proc/self/fd/{fd}")
        if rootless:
            options += ",userxattr"
        try:
            mount("overlay", target, "overlay", 0, f"lowerdir={':'.join(lower)}{options}")
        except OSError as error:
            raise ShimError(
                "StartError",
                f"cannot mount the image as an overlay ({error.strerror}): the data directory "
                "must be on a filesystem that overlayfs can use (ext4, xfs, tmpfs)",
            ) from error
