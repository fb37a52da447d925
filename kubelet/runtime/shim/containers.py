"""Containers: created as a record, started by one ``crun run``, watched until they end.

States and the record are written before and after each step, so that a restarted shim finds what
runs. Methods block and run in worker threads unless they say otherwise; the end of a process and
stop timers are handled in the main loop.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.runtime.shim import stdio
from pilothouse.kubelet.runtime.shim.crun import CrunError
from pilothouse.kubelet.runtime.shim.host_tree import HostTree
from pilothouse.kubelet.runtime.shim.logs import LogFile, Pump
from pilothouse.kubelet.runtime.shim.node import ShimError, load_all, save, start_ticks
from pilothouse.kubelet.runtime.shim.rootfs import ImageVolume, RootFilesystem, SubPath
from pilothouse.kubelet.runtime.shim.spec import Place, build_spec, linux_resources
from pilothouse.kubelet.runtime.shim.user_namespaces import MappedMounts, place_of
from pilothouse.kubelet.runtime.shim.users import UnknownUser, resolve_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.kubelet.runtime.shim.node import Node
    from pilothouse.kubelet.runtime.shim.sandboxes import Sandbox, Sandboxes

UNKNOWN_EXIT = 255
_FIELDS = (
    "id", "sandbox_id", "state", "image", "image_id", "created_at", "started_at", "finished_at",
    "exit_code", "reason", "message", "log_path", "pid",
)  # fmt: skip


class Container:
    def __init__(
        self, node: Node, record: dict[str, Any], cgroup_parent: str, user_first: int = 0
    ) -> None:
        """``user_first``: who is root in its user namespace; 0: it has the node's users."""
        self.record = record
        place = place_of(node.state_dir, record["id"]) if user_first else ""
        self.mapped = MappedMounts(place, user_first)
        self.directory = node.directory("containers", record["id"])
        self.cgroup = f"{cgroup_parent}/{record['id']}"
        self.rootfs = RootFilesystem(
            self.directory, record["layers"], rootless=node.machine.rootless,
            path=f"{place}/rootfs" if user_first else "", owner=user_first,
        )  # fmt: skip
        self.image_volumes = {
            number: ImageVolume(
                f"{self.directory}/images/{number}", mount["layers"],
                rootless=node.machine.rootless,
            )
            for number, mount in enumerate(record["config"]["mounts"])
            if mount.get("image")
        }  # fmt: skip
        # Not in the container's directory, which is removed with all that is below.
        self.sub_paths = {
            number: SubPath(
                f"{node.directory('subpaths', record['id'])}-{number}",
                mount["host_path"], mount["within"],
            )
            for number, mount in enumerate(record["config"]["mounts"])
            if mount.get("within")
        }  # fmt: skip
        self.host_trees = {
            number: HostTree(f"{node.directory('shared', record['id'])}-{number}", node.mounts)
            for number, mount in enumerate(record["config"]["mounts"])
            if mount["propagation"] != "private" and not (mount.get("within") or mount.get("image"))
        }
        self.lock = threading.Lock()
        self.log: LogFile | None = None
        self.pumps: dict[str, Pump] = {}
        self.stdin = -1
        self.terminal = -1
        self.ended: list[Callable[[], None]] = []
        self.cleaned = False
        self.adopted = False

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def state(self) -> str:
        return str(self.record["state"])

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.record["config"]
        return config

    def update(self, **changes: Any) -> None:
        self.record.update(changes)
        save(f"{self.directory}/container.json", self.record)

    def status(self) -> dict[str, Any]:
        config = self.config
        return {
            **{key: self.record[key] for key in _FIELDS},
            "user": self.record.get("user"),
            **{key: config[key] for key in ("name", "attempt", "labels", "annotations")},
        }

    def process(self, command: list[str], *, tty: bool) -> dict[str, Any]:
        """The container's own process with another command line: for exec."""
        with open(f"{self.directory}/config.json", encoding="utf-8") as file:
            process: dict[str, Any] = json.load(file)["process"]
        if tty and not any(item.startswith("TERM=") for item in process["env"]):
            process["env"].append("TERM=xterm")
        return {**process, "args": command, "terminal": tty}

    def send_signal(self, number: int) -> None:
        pid = self.record["pid"]
        if self.state == "running" and start_ticks(pid) == self.record["start_ticks"]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def close_streams(self) -> None:
        for pump in self.pumps.values():
            pump.close()
        if self.log is not None:
            self.log.close()
        stdio.close_all((self.stdin, self.terminal))
        self.stdin = self.terminal = -1


class Containers:
    def __init__(self, node: Node, sandboxes: Sandboxes) -> None:
        self._node = node
        self._sandboxes = sandboxes
        self.all: dict[str, Container] = {}
        self.submit: Callable[[Callable[[], None]], None] = lambda job: job()
        """Runs a job in a worker thread."""

    def get(self, container_id: str) -> Container:
        try:
            return self.all[container_id]
        except KeyError:
            raise ShimError("NotFound", f"no such container: {container_id}") from None

    def running(self, container_id: str) -> Container:
        container = self.get(container_id)
        if container.state != "running":
            raise ShimError("NotFound", f"container {container_id} is not running")
        return container

    def of(self, sandbox_id: str) -> list[Container]:
        return [c for c in list(self.all.values()) if c.record["sandbox_id"] == sandbox_id]

    def _event(self, container: Container, kind: str) -> None:
        uid = container.record["pod_uid"]
        self._node.event(container.record["sandbox_id"], uid, container.id, kind)

    # --- create and start

    def create(self, sandbox_id: str, config: dict[str, Any], image: dict[str, Any]) -> str:
        """``image``: id, reference, layers (paths, lowest first) and config (the image's)."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox.record["state"] != "ready":
            message = f"sandbox {sandbox_id} is not running"
            raise ShimError("StartError", message, "CreateContainerError")
        log_path = os.path.join(sandbox.config["log_directory"], config["log_path"])
        record = {
            "id": os.urandom(32).hex(),
            "sandbox_id": sandbox_id,
            "pod_uid": sandbox.config["uid"],
            "config": config,
            "image": image["reference"],
            "image_id": image["id"],
            "image_config": image["config"],
            "layers": image["layers"],
            "state": "created",
            "created_at": time.time_ns() / 1e9,
            "started_at": 0.0,
            "finished_at": 0.0,
            "exit_code": 0,
            "reason": "",
            "message": "",
            "log_path": log_path if config["log_path"] else "",
            "pid": 0,
            "start_ticks": 0,
        }
        container = Container(self._node, record, sandbox.cgroup, sandbox.user_first)
        os.makedirs(container.directory)
        container.update()
        self.all[container.id] = container
        self._event(container, "created")
        return container.id

    def start(self, container_id: str) -> None:
        """:raises ShimError: StartError; the container has exited with 128 then."""
        container = self.get(container_id)
        with container.lock:
            if container.state != "created":
                raise ShimError("StartError", f"container is {container.state}, not created")
            sandbox = self._sandboxes.get(container.record["sandbox_id"])
            try:
                pid = self._launch(container, sandbox)
            except (CrunError, UnknownUser, ShimError, OSError) as error:
                self._failed(container, str(error))
                raise ShimError("StartError", str(error)) from error
            container.update(
                state="running",
                pid=pid,
                start_ticks=start_ticks(pid),
                started_at=time.time_ns() / 1e9,
            )
        self._event(container, "started")
        loop = self._node.loop
        self._node.reaper.watch(pid, lambda code: loop.soon(lambda: self._exited(container, code)))

    def _launch(self, container: Container, sandbox: Sandbox) -> int:
        config, directory = container.config, container.directory
        users = sandbox.fds.get("user", -1)
        container.mapped.prepare()
        container.rootfs.mount(users)
        for number, volume in container.image_volumes.items():
            mount = config["mounts"][number]
            mount["host_path"] = volume.mount(mount["image_sub_path"], users)
        for number, sub_path in container.sub_paths.items():
            config["mounts"][number]["host_path"] = sub_path.mount()
        for number, tree in container.host_trees.items():
            mount = config["mounts"][number]
            mount["host_path"] = tree.mount(mount["host_path"])
        container.mapped.mount(config["mounts"], users)
        place = Place(
            rootfs=container.rootfs.path,
            cgroup_path=container.cgroup,
            hostname=sandbox.config["hostname"] or sandbox.config["name"],
            namespaces=self._namespaces(container, sandbox),
            shm=sandbox.shm,
            hostname_file=sandbox.hostname_file,
            user_first=sandbox.user_first,
        )
        image = container.record["image_config"]
        user = resolve_user(place.rootfs, image.get("User") or "", config["security"])
        container.record["user"] = {
            "uid": user.uid, "gid": user.gid, "supplementalGroups": user.groups
        }  # fmt: skip
        spec = build_spec(config, image, place, user, self._node.machine)
        if not spec["process"]["args"]:
            raise ShimError("StartError", "no command specified")
        if self._node.nofile:
            limit = {"type": "RLIMIT_NOFILE", "soft": self._node.nofile, "hard": self._node.nofile}
            spec["process"]["rlimits"] = [limit]
        with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
            json.dump(spec, file)
        container.log = LogFile(container.record["log_path"])
        return self._run_tty(container) if config["tty"] else self._run(container)

    def _namespaces(self, container: Container, sandbox: Sandbox) -> dict[str, str]:
        namespaces, target = sandbox.namespaces(), container.config.get("target")
        if target and "pid" in namespaces:
            running = (c for c in self.of(sandbox.id) if c.state == "running")
            found = [c.record["pid"] for c in running if c.config["name"] == target]
            if not found:
                raise ShimError("StartError", f"target container {target} is not running")
            namespaces["pid"] = f"/proc/{found[-1]}/ns/pid"
        return namespaces

    def _run(self, container: Container) -> int:
        directory, wants_stdin = container.directory, container.config["stdin"]
        stdio.make_fifos(directory, stdin=wants_stdin)
        readers = {stream: stdio.open_reader(directory, stream) for stream in stdio.STREAMS}
        ends, container.stdin = stdio.open_container_ends(directory, stdin=wants_stdin)
        try:
            pid = self._node.crun.run(directory, container.id, ends, tty=False)
        except BaseException:
            stdio.close_all(tuple(readers.values()))
            raise
        finally:
            stdio.close_all(ends)
        self._pump(container, readers)
        return pid

    def _run_tty(self, container: Container) -> int:
        with stdio.console(f"{container.directory}/console.sock") as receive:
            pid = self._node.crun.run(container.directory, container.id, (-1, -1, -1), tty=True)
            container.terminal = receive()
        self._pump(container, {"stdout": os.dup(container.terminal)})
        return pid

    def _pump(self, container: Container, readers: dict[str, int]) -> None:
        """Made here, watched from the main loop: selectors allow it, the loop wakes up."""
        assert container.log is not None
        loop = self._node.loop
        for stream, fd in readers.items():
            container.pumps[stream] = Pump(loop, fd, stream, container.log)
        loop.wake()

    def _failed(self, container: Container, message: str) -> None:
        container.close_streams()
        now = time.time_ns() / 1e9
        container.update(
            state="exited",
            exit_code=128,
            reason="StartError",
            message=message,
            started_at=0.0,
            finished_at=now,
        )
        self._clean(container)
        self._event(container, "stopped")

    # --- the end (main loop)

    def _exited(self, container: Container, code: int, reason: str = "") -> None:
        if container.state == "exited":
            return
        for pump in container.pumps.values():
            pump.drain()
        oom = self._node.cgroups.oom_kills(container.cgroup) > 0
        if not reason:
            reason = "OOMKilled" if oom and code else ("Error" if code else "Completed")
        container.update(
            state="exited", exit_code=code, reason=reason, finished_at=time.time_ns() / 1e9
        )
        self._event(container, "stopped")
        waiting, container.ended = container.ended, []
        for callback in waiting:
            callback()
        self.submit(lambda: self._clean_locked(container))

    def stop(self, container_id: str, grace: float, done: Callable[[], None]) -> None:
        """In the main loop; ``done`` is called when it has ended."""
        container = self.get(container_id)
        if container.state == "created":
            container.update(
                state="exited", exit_code=137, reason="Error", finished_at=time.time_ns() / 1e9
            )
            self._event(container, "stopped")
        if container.state != "running":
            done()
            return
        timer = None
        if grace > 0:
            image = container.record["image_config"]
            wanted = container.config["stop_signal"] or image.get("StopSignal") or "TERM"
            container.send_signal(stdio.parse_signal(wanted))
            timer = self._node.loop.later(grace, lambda: self.kill(container))
        else:
            self.kill(container)

        def ended() -> None:
            if timer is not None:
                timer.cancel()
            done()

        container.ended.append(ended)

    def kill(self, container: Container) -> None:
        if container.state == "running":
            container.send_signal(9)
            self._node.cgroups.kill_all(container.cgroup)

    # --- cleaning up

    def _clean_locked(self, container: Container) -> None:
        with container.lock:
            self._clean(container)

    def _clean(self, container: Container) -> None:
        """Everything but the record and what the container wrote; once."""
        if container.cleaned:
            return
        container.cleaned = True
        self._node.cgroups.kill_all(container.cgroup)
        self._node.crun.delete(container.directory, container.id)
        container.rootfs.unmount()
        for volume in container.image_volumes.values():
            volume.unmount()
        for sub_path in container.sub_paths.values():
            sub_path.unmount()
        for tree in container.host_trees.values():
            tree.unmount()
        container.mapped.unmount()
        self._node.cgroups.remove(container.cgroup)

    def remove(self, container_id: str) -> None:
        """The container must have been stopped."""
        container = self.all.get(container_id)
        if container is None:
            return
        if container.state == "running":
            raise ShimError("RuntimeFailure", f"container {container_id} is running")
        with container.lock:
            if self.all.pop(container_id, None) is None:
                return
            self._clean(container)
            done = threading.Event()

            def close() -> None:
                container.close_streams()
                done.set()

            self._node.loop.soon(close)
            done.wait()
            container.rootfs.remove()
            shutil.rmtree(container.directory, ignore_errors=True)
        self._event(container, "deleted")

    # --- while it runs

    def update_resources(self, container_id: str, resources: dict[str, Any]) -> None:
        container = self.running(container_id)
        changes = linux_resources(resources, False, self._node.machine)
        if not changes:
            raise ShimError("Unsupported", "there are no cgroups here")
        del changes["devices"]
        changes.pop("unified", None)
        if not resources["memory_limit"]:
            changes["memory"] = {"limit": -1}
        try:
            if not resources["cpu_quota"]:
                self._node.cgroups.unlimit_cpu(container.cgroup, resources["cpu_period"])
            self._node.crun.update(container.directory, container.id, changes)
        except (CrunError, OSError) as error:
            raise ShimError("RuntimeFailure", f"failed to update resources: {error}") from error
        container.config["resources"] = resources
        container.update()

    def stats(self, container_id: str) -> dict[str, Any]:
        container = self.get(container_id)
        cpu, memory, working_set, anonymous = self._node.cgroups.usage(container.cgroup)
        return {
            "id": container.id,
            "timestamp": time.time_ns() / 1e9,
            "cpu_usage_core_nanoseconds": cpu,
            "memory_working_set_bytes": working_set,
            "memory_usage_bytes": memory,
            "memory_rss_bytes": anonymous,
            "rootfs_used_bytes": container.rootfs.used_bytes(),
        }

    # --- after a restart (before the loop runs)

    def load(self) -> dict[str, list[int]]:
        """Live containers' processes by sandbox; ``adopt`` comes after the sandboxes are loaded."""
        alive: dict[str, list[int]] = {}
        parents = {
            record["id"]: record["config"]
            for record in load_all(os.path.join(self._node.state_dir, "sandboxes"), "sandbox.json")
        }
        for record in load_all(os.path.join(self._node.state_dir, "containers"), "container.json"):
            config = parents.get(record["sandbox_id"], {})
            root = f"{self._node.cgroup_root}/pod{record['pod_uid']}"
            parent, first = config.get("cgroup_parent") or root, config.get("user_namespace") or 0
            container = Container(self._node, record, parent, first)
            self.all[container.id] = container
            if record["state"] == "running" and start_ticks(record["pid"]) == record["start_ticks"]:
                alive.setdefault(record["sandbox_id"], []).append(record["pid"])
        return alive

    def adopt(self) -> None:
        for container in list(self.all.values()):
            if container.state == "running":
                self._adopt(container)
            elif container.state == "exited":
                self.submit(lambda container=container: self._clean_locked(container))  # type: ignore[misc]

    def _adopt(self, container: Container) -> None:
        container.adopted = True
        pid = container.record["pid"]
        try:
            if start_ticks(pid) != container.record["start_ticks"]:
                raise ProcessLookupError
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._exited(container, UNKNOWN_EXIT, "Unknown")
            return
        container.log = LogFile(container.record["log_path"])
        if not container.config["tty"]:
            readers = {s: stdio.open_reader(container.directory, s) for s in stdio.STREAMS}
            self._pump(container, readers)

        def gone(_: int) -> None:
            self._node.loop.unwatch(pidfd)
            os.close(pidfd)
            self._exited(container, UNKNOWN_EXIT, "Unknown")

        self._node.loop.watch(pidfd, selectors.EVENT_READ, gone)
