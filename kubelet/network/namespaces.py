"""Namespaces by system call: pins, and code that runs inside another network namespace.

A namespace belongs to a thread, so whatever enters one does so in a thread of its own that ends
afterwards; the caller's thread never moves. (``os.setns`` exists only from Python 3.12.)
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        ctypes.c_ulong(flags),
        os.fsencode(data) or None,
    )
    _check(result, f"mount {fstype or 'bind'} on {target}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def run_in_thread(function: Callable[[], T]) -> T:
    """``function()`` in a thread that ends afterwards: what it does to its namespaces is lost."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # carried to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=body, name="namespace", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def run_in_netns(netns: str | int, function: Callable[[], T]) -> T:
    """``function()`` inside the network namespace at a path or open fd. Blocks until it is done.

    Sockets made inside stay in that namespace for good, wherever they are used.
    """

    def inside() -> T:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC) if isinstance(netns, str) else netns
        try:
            setns(fd, CLONE_NEWNET)
        finally:
            if isinstance(netns, str):
                os.close(fd)
        return function()

    return run_in_thread(inside)


def open_socket_in(netns: str | int | None, host: str, port: int) -> socket.socket:
    """A listening TCP socket bound inside ``netns`` (None: here). For servers of a node.

    :raises OSError: the address is in use or not there.
    """

    def bind() -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    return bind() if netns is None else run_in_netns(netns, bind)


def connect_in(netns: str | int | None, host: str, port: int, timeout: float) -> socket.socket:
    """A connected, non-blocking TCP socket from inside ``netns``."""

    def connect() -> socket.socket:
        connection = socket.create_connection((host, port), timeout)
        connection.setblocking(False)
        return connection

    return connect() if netns is None else run_in_netns(netns, connect)


def create_netns(path: str) -> None:
    """A new network namespace pinned at ``path`` (as ``ip netns add`` does), loopback down."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))

    def pin() -> None:
        unshare(CLONE_NEWNET)
        mount(f"/proc/self/task/{threading.get_native_id()}/ns/net", path, "", MS_BIND)

    try:
        run_in_thread(pin)
    except BaseException:
        os.unlink(path)
        raise


def is_netns(path: str) -> bool:
    """True when a namespace is pinned at ``path`` (an empty file is left after a reboot)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # All namespace files are on one internal file system, nsfs.
        return os.fstat(fd).st_dev == os.stat("/proc/self/ns/net").st_dev
    finally:
        os.close(fd)


def delete_netns(path: str) -> None:
    """Unpins ``path``; the namespace ends with its last process. Missing is fine."""
    try:
        umount(path)
    except OSError:
        pass
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
