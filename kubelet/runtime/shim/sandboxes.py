"""Pod sandboxes without a pause container: namespaces held open by file descriptors.

A sandbox is network, IPC and UTS namespaces made in a throw-away thread, an address from the pod
network, and a shared /dev/shm. The shim's open descriptors keep the namespaces; after a restart
they are taken again from a container that still runs. Only ``shareProcessNamespace`` needs a
process: a tiny ``pause`` under crun.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.network import namespaces as ns
from pilothouse.kubelet.network.pod_network import loopback_up, write_sysctl
from pilothouse.kubelet.runtime.shim import user_namespaces
from pilothouse.kubelet.runtime.shim.iptables import HostPorts
from pilothouse.kubelet.runtime.shim.node import ShimError, load_all, save, start_ticks
from pilothouse.kubelet.runtime.shim.pause import PauseProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.kubelet.runtime.shim.node import Node

SHM_SIZE = "65536k"
_KINDS = {"net": "network", "ipc": "ipc", "uts": "uts", "user": "user"}
_FLAGS = {"net": ns.CLONE_NEWNET, "ipc": ns.CLONE_NEWIPC, "uts": ns.CLONE_NEWUTS}


class Sandbox:
    """``record`` is what is on disk; ``fds`` the namespaces by /proc name (net, ipc, uts)."""

    def __init__(self, node: Node, record: dict[str, Any]) -> None:
        self._node = node
        self.record = record
        self.fds: dict[str, int] = {}
        self.pause: PauseProcess | None = None
        self.lock = threading.Lock()

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.record["config"]
        return config

    @property
    def directory(self) -> str:
        return self._node.directory("sandboxes", self.id)

    @property
    def cgroup(self) -> str:
        parent = self.config["cgroup_parent"]
        return str(parent or f"{self._node.cgroup_root}/pod{self.config['uid']}")

    @property
    def user_first(self) -> int:
        """Who is root inside; 0: the pod has the node's users."""
        return int(self.config.get("user_namespace") or 0)

    @property
    def place(self) -> str:
        """Where the pod finds files that the shim makes for it."""
        if not self.user_first:
            return self.directory
        return user_namespaces.place_of(self._node.state_dir, self.id)

    @property
    def shm(self) -> str:
        return "" if self.config["host_ipc"] else f"{self.place}/shm"

    @property
    def hostname_file(self) -> str:
        return f"{self.place}/hostname"

    @property
    def shares_processes(self) -> bool:
        return bool(self.config["share_process_namespace"] and not self.config["host_pid"])

    def namespaces(self) -> dict[str, str]:
        """OCI namespaces of its containers: type -> path to join, or empty for a new one."""
        joined = {_KINDS[k]: f"/proc/{os.getpid()}/fd/{fd}" for k, fd in self.fds.items()}
        result = {**joined, "mount": ""}
        if not self.config["host_pid"]:
            shared = self.pause is not None and self.shares_processes
            holder = self.pause.pid if self.pause is not None and shared else 0
            result["pid"] = f"/proc/{holder}/ns/pid" if holder else ""
        if self._node.machine.cgroups == "v2":
            result["cgroup"] = ""
        return result

    def save(self) -> None:
        save(f"{self.directory}/sandbox.json", self.record)

    def wanted(self) -> list[str]:
        kinds = ["uts"]
        if not self.config["host_network"]:
            kinds.append("net")
        if not self.config["host_ipc"]:
            kinds.append("ipc")
        if self.user_first:
            kinds.append("user")
        return kinds

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.popitem()[1])


class Sandboxes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._host_ports = HostPorts(node.reaper)
        self.all: dict[str, Sandbox] = {}
        self.submit: Callable[[Callable[[], None]], None] = lambda job: job()
        """Runs a job in a worker thread."""

    def get(self, sandbox_id: str) -> Sandbox:
        try:
            return self.all[sandbox_id]
        except KeyError:
            raise ShimError("NotFound", f"no such sandbox: {sandbox_id}") from None

    def run(self, config: dict[str, Any]) -> str:
        """:raises ShimError: the network is not ready, or the kernel refused."""
        if not config["host_network"] and self._node.network is None:
            raise ShimError("RuntimeFailure", "network is not ready: the node has no pod CIDR yet")
        record = {
            "id": os.urandom(32).hex(),
            "config": config,
            "state": "notready",
            "created_at": time.time_ns() / 1e9,
            "ips": [],
        }
        sandbox = Sandbox(self._node, record)
        os.makedirs(sandbox.directory)
        sandbox.save()
        self.all[sandbox.id] = sandbox
        try:
            self._bring_up(sandbox)
        except BaseException as error:
            self._take_down(sandbox)
            self._forget(sandbox)
            if isinstance(error, OSError):
                raise ShimError("RuntimeFailure", f"failed to create sandbox: {error}") from error
            raise
        record["state"] = "ready"
        sandbox.save()
        self._node.event(sandbox.id, config["uid"], "", "sandbox")
        return sandbox.id

    def _bring_up(self, sandbox: Sandbox) -> None:
        config, node = sandbox.config, self._node
        hostname = config["hostname"] or config["name"]
        if sandbox.user_first:
            self._make_user_namespace(sandbox, hostname)
        else:
            sandbox.fds = ns.run_in_thread(
                lambda: _make_namespaces(sandbox.wanted(), hostname, config["sysctls"])
            )
        if config["host_network"]:
            sandbox.record["ips"] = [node.node_ip] if node.node_ip else []
        elif node.network is not None:
            sandbox.record["ips"] = [node.network.attach(sandbox.id, sandbox.fds["net"])]
            if config["port_mappings"]:
                sandbox.save()  # what is opened now must be closed after a crash
                ip = sandbox.record["ips"][0]
                self._host_ports.add(sandbox.id, ip, config["port_mappings"])
        else:
            loopback_up(sandbox.fds["net"])
        with open(sandbox.hostname_file, "w", encoding="utf-8") as file:
            file.write(f"{hostname}\n")
        os.chown(sandbox.hostname_file, sandbox.user_first, sandbox.user_first)
        self._mount_shm(sandbox)
        if config.get("resources"):
            with contextlib.suppress(OSError):  # a limit that this machine can't set
                node.cgroups.limit(sandbox.cgroup, config["resources"])
        if sandbox.shares_processes and sandbox.pause is None:
            sandbox.pause = PauseProcess(node, sandbox.id, sandbox.cgroup)
            sandbox.pause.start(sandbox.namespaces())
            sandbox.record["pause"] = [sandbox.pause.pid, start_ticks(sandbox.pause.pid)]

    def _make_user_namespace(self, sandbox: Sandbox, hostname: str) -> None:
        """Only a process of its own can make one; the pod's other namespaces belong to it."""
        first = sandbox.user_first
        user_namespaces.make_place(sandbox.place, first)
        sandbox.pause = PauseProcess(
            self._node, sandbox.id, sandbox.cgroup, place=sandbox.place, user_first=first
        )
        kinds = [_KINDS[kind] for kind in sandbox.wanted()]
        if not sandbox.config["host_pid"]:
            kinds.append("pid")
        sandbox.pause.start(dict.fromkeys([*kinds, "mount"], ""), hostname[:64])
        sandbox.record["pause"] = [sandbox.pause.pid, start_ticks(sandbox.pause.pid)]
        sandbox.save()
        for kind in sandbox.wanted():
            path = f"/proc/{sandbox.pause.pid}/ns/{kind}"
            sandbox.fds[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        sysctls = sandbox.config["sysctls"]
        if sysctls:
            ns.run_in_thread(lambda: _set_inside(sandbox.fds, sysctls))

    def _mount_shm(self, sandbox: Sandbox) -> None:
        if sandbox.shm:
            os.makedirs(sandbox.shm, exist_ok=True)
            flags = ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC
            owner = f",uid={sandbox.user_first},gid={sandbox.user_first}"
            ns.mount("shm", sandbox.shm, "tmpfs", flags, f"mode=1777,size={SHM_SIZE}{owner}")

    def update_resources(self, sandbox_id: str, resources: dict[str, Any]) -> None:
        sandbox = self.get(sandbox_id)
        if self._node.cgroups.version == "disabled":
            raise ShimError("Unsupported", "there are no cgroups here")
        try:
            self._node.cgroups.limit(sandbox.cgroup, resources)
        except OSError as error:
            raise ShimError("RuntimeFailure", f"failed to update resources: {error}") from error
        sandbox.config["resources"] = resources
        sandbox.save()

    def stop(self, sandbox_id: str) -> None:
        """Its containers must have been stopped."""
        sandbox = self.get(sandbox_id)
        with sandbox.lock:
            if sandbox.record["state"] == "notready" and not sandbox.fds:
                return
            sandbox.record["state"] = "notready"
            sandbox.save()
            self._take_down(sandbox)
            sandbox.record["ips"] = []
            sandbox.save()
        self._node.event(sandbox.id, sandbox.config["uid"], "", "sandbox")

    def _take_down(self, sandbox: Sandbox) -> None:
        if sandbox.pause is not None:
            sandbox.pause.stop()
            sandbox.pause = None
        if self._node.network is not None and not sandbox.config["host_network"]:
            for ip in sandbox.record["ips"] if sandbox.config["port_mappings"] else ():
                self._host_ports.remove(sandbox.id, ip, sandbox.config["port_mappings"])
            self._node.network.detach(sandbox.id)
        if sandbox.shm:
            try:
                ns.umount(sandbox.shm)
            except OSError:
                pass
        sandbox.close()

    def remove(self, sandbox_id: str) -> None:
        """After ``stop``; its containers must have been removed."""
        sandbox = self.get(sandbox_id)
        self._forget(sandbox)
        self._node.event(sandbox_id, sandbox.config["uid"], "", "deleted")

    def _forget(self, sandbox: Sandbox) -> None:
        same_pod = [s for s in self.all.values() if s is not sandbox and s.cgroup == sandbox.cgroup]
        if not same_pod:
            self._node.cgroups.remove(sandbox.cgroup)
        if sandbox.user_first:
            user_namespaces.remove_place(sandbox.place)
        shutil.rmtree(sandbox.directory, ignore_errors=True)
        self.all.pop(sandbox.id, None)

    def status(self, sandbox: Sandbox) -> dict[str, Any]:
        config, record = sandbox.config, sandbox.record
        same = ("name", "namespace", "uid", "attempt", "host_network", "labels", "annotations")
        return {
            **{key: config[key] for key in same},
            **{key: record[key] for key in ("id", "state", "created_at")},
            "ips": record["ips"] if record["state"] == "ready" else [],
        }

    # --- after a restart

    def load(self, processes: dict[str, list[int]]) -> None:
        """``processes``: live containers' first processes by sandbox, to take namespaces from."""
        stale: list[Sandbox] = []
        for record in load_all(os.path.join(self._node.state_dir, "sandboxes"), "sandbox.json"):
            sandbox = Sandbox(self._node, record)
            self.all[sandbox.id] = sandbox
            if record["state"] == "notready" and record["ips"]:
                stale.append(sandbox)
            pids = list(processes.get(sandbox.id, []))
            pause = record.get("pause")
            if pause and start_ticks(pause[0]) == pause[1]:
                sandbox.pause = PauseProcess(
                    self._node,
                    sandbox.id,
                    sandbox.cgroup,
                    pause[0],
                    place=sandbox.place if sandbox.user_first else "",
                )
                pids.insert(0, pause[0])
            if record["state"] == "ready" and not self._adopt(sandbox, pids):
                record["state"] = "notready"
                sandbox.save()
                stale.append(sandbox)
        for sandbox in stale:
            self._take_down_later(sandbox)
        if self._node.network is not None:
            ready = [s.id for s in self.all.values() if s.record["state"] == "ready"]
            self._node.network.keep_only(ready)

    def _take_down_later(self, sandbox: Sandbox) -> None:
        """Waits for processes, which needs the main loop to run."""

        def job() -> None:
            with sandbox.lock:
                if sandbox.record["state"] == "notready":
                    self._take_down(sandbox)
                    sandbox.record["ips"] = []
                    sandbox.save()

        self.submit(job)

    def _adopt(self, sandbox: Sandbox, pids: list[int]) -> bool:
        needs_pause = sandbox.shares_processes or sandbox.user_first
        if not pids or (needs_pause and sandbox.pause is None):
            return False
        try:
            for kind in sandbox.wanted():
                path = f"/proc/{pids[0]}/ns/{kind}"
                sandbox.fds[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._mount_shm(sandbox)
        except OSError:
            return False
        return True


def _make_namespaces(kinds: list[str], hostname: str, sysctls: dict[str, str]) -> dict[str, int]:
    """Runs in a thread of its own, which ends inside the new namespaces."""
    ns.unshare(sum(_FLAGS[kind] for kind in kinds))
    socket.sethostname(hostname[:64])
    _set_sysctls(sysctls)
    base = f"/proc/self/task/{threading.get_native_id()}/ns"
    return {kind: os.open(f"{base}/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}


def _set_inside(fds: dict[str, int], sysctls: dict[str, str]) -> None:
    """In a thread of its own, which ends inside of the namespaces."""
    for kind, flag in _FLAGS.items():
        if kind in fds:
            ns.setns(fds[kind], flag)
    _set_sysctls(sysctls)


def _set_sysctls(sysctls: dict[str, str]) -> None:
    for name, value in sysctls.items():
        try:
            write_sysctl(name, value)
        except (OSError, ValueError) as error:
            raise ShimError("RuntimeFailure", f"failed to set sysctl {name}: {error}") from error
