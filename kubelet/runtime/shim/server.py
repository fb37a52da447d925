"""The shim's socket: connections of kubelets, the table of operations, events to all.

Quick operations run in the main loop; those that start processes or touch the network run in
worker threads; ``stop_container`` and ``exec_wait`` answer when something has ended.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.network.ipam import FilePool, NoFreeAddress
from pilothouse.kubelet.network.pod_network import NetworkUnavailable, PodNetwork
from pilothouse.kubelet.runtime.shim import user_namespaces
from pilothouse.kubelet.runtime.shim.containers import Containers
from pilothouse.kubelet.runtime.shim.host_tree import NodeMounts
from pilothouse.kubelet.runtime.shim.logs import LogFile
from pilothouse.kubelet.runtime.shim.loop import Workers
from pilothouse.kubelet.runtime.shim.node import ShimError
from pilothouse.kubelet.runtime.shim.protocol import FrameReader, ProtocolError, encode
from pilothouse.kubelet.runtime.shim.sandboxes import Sandboxes
from pilothouse.kubelet.runtime.shim.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.kubelet.runtime.shim.node import Node

WORKERS = 6
NO_FDS: tuple[int, ...] = ()


class Connection:
    """One kubelet. All methods but ``post`` run in the main loop."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._loop = server.node.loop
        self._reader = FrameReader()
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        connection.setblocking(False)
        self._loop.watch(connection.fileno(), selectors.EVENT_READ, self._ready)

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not events & selectors.EVENT_READ or self._socket.fileno() < 0:
            return
        try:
            alive = self._reader.receive(self._socket)
            for message, fds in self._reader.messages():
                for fd in fds:
                    os.close(fd)  # no operation takes descriptors
                self._server.dispatch(self, message)
        except BlockingIOError:
            return
        except (OSError, ProtocolError, ValueError):
            alive = False
        if not alive:
            self.close()

    def post(self, message: dict[str, Any], fds: tuple[int, ...] = NO_FDS) -> None:
        """From any thread. Closes ``fds`` when they are sent (or can't be)."""
        frame = encode(message, fds)
        self._loop.soon(lambda: self.send(frame, fds))

    def send(self, frame: bytes, fds: tuple[int, ...]) -> None:
        self._outgoing.append((frame, fds))
        self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            frame, fds = self._outgoing.popleft()
            if self._socket.fileno() < 0:
                _close(fds)
                continue
            try:
                sent = socket.send_fds(self._socket, [frame], list(fds))
            except BlockingIOError:
                self._outgoing.appendleft((frame, fds))
                self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
                return
            except OSError:
                _close(fds)
                self.close()
                continue
            _close(fds)
            if sent < len(frame):
                self._outgoing.appendleft((frame[sent:], NO_FDS))
        self._watch(selectors.EVENT_READ)

    def _watch(self, events: int) -> None:
        if self._socket.fileno() >= 0:
            self._loop.watch(self._socket.fileno(), events, self._ready)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
        self._reader.close()
        self._server.connections.discard(self)


class Server:
    def __init__(self, node: Node, listener: socket.socket, info: dict[str, Any]) -> None:
        self.node = node
        self._info = info
        self.connections: set[Connection] = set()
        self._workers = Workers(WORKERS)
        self._network_lock = threading.Lock()
        self.sandboxes = Sandboxes(node)
        self.containers = Containers(node, self.sandboxes)
        self.containers.submit = self.sandboxes.submit = self._workers.submit
        self.streams = Streams(node, self.containers)
        self._node_mounts = NodeMounts(node.mounts, node.state_dir)
        self._listener = listener
        node.emit = self._emit
        self._quick: dict[str, Callable[[dict[str, Any]], Any]] = {
            "info": lambda _: {**self._info, "network": self.node.network is not None},
            "pod_sandbox_status": lambda a: self.sandboxes.status(self.sandboxes.get(a["id"])),
            "list_pod_sandboxes": lambda _: [
                self.sandboxes.status(s) for s in list(self.sandboxes.all.values())
            ],
            "container_status": lambda a: self.containers.get(a["id"]).status(),
            "list_containers": lambda _: [c.status() for c in list(self.containers.all.values())],
            "reopen_container_log": self._reopen_log,
            "exec_kill": lambda a: self.streams.exec_kill(a["exec_id"]),
            "resize": lambda a: self.streams.resize(a["id"], a["width"], a["height"]),
        }
        self._slow: dict[str, Callable[[dict[str, Any]], Any]] = {
            "set_pod_cidr": self._set_pod_cidr,
            "run_pod_sandbox": lambda a: self.sandboxes.run(a["config"]),
            "stop_pod_sandbox": self._stop_sandbox,
            "remove_pod_sandbox": self._remove_sandbox,
            "create_container": lambda a: self.containers.create(
                a["sandbox_id"], a["config"], a["image"]
            ),
            "start_container": lambda a: self.containers.start(a["id"]),
            "remove_container": self._remove_container,
            "update_container_resources": lambda a: self.containers.update_resources(
                a["id"], a["resources"]
            ),
            "update_pod_sandbox_resources": lambda a: self.sandboxes.update_resources(
                a["id"], a["resources"]
            ),
            "container_stats": lambda a: self.containers.stats(a["id"]),
            "mount_tmpfs": self._mount_tmpfs,
            "show_mount": lambda a: self._node_mounts.show(a["path"]),
            "unmount": lambda a: self._node_mounts.unmount(a["path"]),
            "shutdown": self._shutdown,
        }

    def start(self) -> None:
        """Adopts what an earlier shim left, then listens."""
        alive = self.containers.load()
        self.sandboxes.load(alive)
        self.containers.adopt()
        self._listener.setblocking(False)
        self.node.loop.watch(self._listener.fileno(), selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        self.connections.add(Connection(self, connection))

    def _emit(self, event: dict[str, Any]) -> None:
        # At once, not through ``post``: an answer must not overtake the events before it.
        frame = encode({"event": event})
        for connection in list(self.connections):
            connection.send(frame, NO_FDS)

    # --- requests

    def dispatch(self, connection: Connection, message: dict[str, Any]) -> None:
        identity, name, args = message["id"], message["op"], message.get("args") or {}

        def answer(result: Any, fds: tuple[int, ...] = NO_FDS) -> None:
            connection.post({"id": identity, "ok": result}, fds)

        def attempt(operation: Callable[[], None]) -> None:
            try:
                operation()
            except Exception as error:
                connection.post({"id": identity, "error": _describe(error)})

        if name in self._quick:
            attempt(lambda: answer(self._quick[name](args)))
        elif name in self._slow:
            self._workers.submit(lambda: attempt(lambda: answer(self._slow[name](args))))
        elif name == "exec":
            self._workers.submit(lambda: attempt(lambda: answer(*self.streams.exec(args))))
        elif name == "port_forward":
            self._workers.submit(lambda: attempt(lambda: answer({}, self._port_forward(args))))
        elif name == "attach":
            attempt(lambda: answer(*self.streams.attach(args)))
        elif name == "stop_container":
            attempt(lambda: self.containers.stop(args["id"], args["grace"], lambda: answer(None)))
        elif name == "exec_wait":
            attempt(lambda: self.streams.exec_wait(args["exec_id"], answer))
        else:
            unknown = ShimError("RuntimeFailure", f"unknown operation {name}")
            connection.post({"id": identity, "error": _describe(unknown)})

    def _port_forward(self, args: dict[str, Any]) -> tuple[int, ...]:
        return self.streams.port_forward(self.sandboxes.get(args["id"]), args["port"])

    def _set_pod_cidr(self, args: dict[str, Any]) -> None:
        with self._network_lock:
            network = self.node.network
            if network is not None and network.cidr == args["cidr"]:
                return
            fresh = PodNetwork(FilePool(args["cidr"], f"{self.node.state_dir}/ipam.json"))
            fresh.setup()
            self.node.network = fresh
            self.node.remember("--pod-cidr", args["cidr"])

    def _reopen_log(self, args: dict[str, Any]) -> None:
        container = self.containers.get(args["id"])
        log: LogFile | None = container.log
        if log is not None and container.state == "running":
            log.reopen()

    def _stop_containers(self, sandbox_id: str) -> None:
        """Kills what still runs; returns when all have ended."""
        for container in self.containers.of(sandbox_id):
            self._kill(container.id)

    def _kill(self, container_id: str) -> None:
        done = threading.Event()
        self.node.loop.soon(lambda: self._kill_soon(container_id, done))
        done.wait()

    def _kill_soon(self, container_id: str, done: threading.Event) -> None:
        try:
            self.containers.stop(container_id, 0, done.set)
        except ShimError:
            done.set()  # removed in between

    def _stop_sandbox(self, args: dict[str, Any]) -> None:
        self.sandboxes.get(args["id"])
        self._stop_containers(args["id"])
        self.sandboxes.stop(args["id"])

    def _remove_sandbox(self, args: dict[str, Any]) -> None:
        if args["id"] not in self.sandboxes.all:
            return
        self._stop_sandbox(args)
        for container in self.containers.of(args["id"]):
            self.containers.remove(container.id)
        self.sandboxes.remove(args["id"])

    def _remove_container(self, args: dict[str, Any]) -> None:
        if args["id"] in self.containers.all:
            self._kill(args["id"])
            self.containers.remove(args["id"])

    def _mount_tmpfs(self, args: dict[str, Any]) -> None:
        """For emptyDir in memory."""
        options = f"mode={args['mode']:o},gid={args['gid']}"
        if args["size"]:
            options += f",size={args['size']}"
        self._node_mounts.mount_tmpfs(args["path"], options)

    def _shutdown(self, args: dict[str, Any]) -> None:
        """Ends the shim; with ``everything`` all pods before."""
        if args["everything"]:
            for sandbox_id in list(self.sandboxes.all):
                self._remove_sandbox({"id": sandbox_id})
            if self.node.network is not None:
                self.node.network.teardown()
            self._node_mounts.unmount_all()
            user_namespaces.remove_all(self.node.state_dir)
            shutil.rmtree(f"{self.node.state_dir}/crun", ignore_errors=True)
            self.node.cgroups.remove(self.node.cgroup_root)
        self.node.loop.soon(self._stop_soon)

    def _stop_soon(self) -> None:
        """After the answer is out."""
        self.node.loop.later(0.02, self.node.loop.stop)


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def _describe(error: Exception) -> dict[str, str]:
    if isinstance(error, ShimError):
        return {"type": error.kind, "message": str(error), "reason": error.reason}
    if not isinstance(error, (NetworkUnavailable, NoFreeAddress, OSError)):
        traceback.print_exc()
    return {"type": "RuntimeFailure", "message": f"{error}", "reason": ""}
