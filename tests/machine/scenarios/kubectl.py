"""What kubectl does with running containers: each answer of each version, by name."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

from lib import HOME, NAME, leftovers, output, report, until

KUBECTLS = dict(argument.split("=", 1) for argument in os.environ["KUBECTLS"].split(","))
PODS = r"""
apiVersion: v1
kind: Pod
metadata: {name: main, labels: {app: main}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: busybox
    command:
    - sh
    - -c
    - echo web starts; echo page > /tmp/index.html; exec httpd -f -p 8080 -h /tmp
    ports: [{containerPort: 8080, name: http}]
  - name: shell
    image: busybox
    command:
    - sh
    - -c
    - for i in 1 2 3; do echo line $i; done; echo problem >&2; while true; do sleep 1; done
  - name: cat
    image: busybox
    command: [sh, -c, 'while read line; do echo got $line; done; sleep 1000']
    stdin: true
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: busybox, command: [sh, -c, 'echo run; exit 3']}
---
apiVersion: v1
kind: Service
metadata: {name: main}
spec: {selector: {app: main}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: busybox
        command: [sh, -c, 'echo deployed; echo page > index.html; exec httpd -f -p 8080']
"""


class Kubectl:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, *arguments: str, input: str = "") -> str:
        """stdout, then stderr, then the exit code when it is not 0."""
        done = subprocess.run(
            [self.path, *arguments], input=input, capture_output=True, text=True, timeout=30
        )
        return f"{done.stdout}{done.stderr}{f'exit {done.returncode}' if done.returncode else ''}"

    def out(self, *arguments: str, input: str = "") -> str:
        command = [self.path, *arguments]
        return subprocess.run(
            command, input=input, stdout=subprocess.PIPE, text=True, timeout=30
        ).stdout

    def out_with_open_stdin(self, *arguments: str) -> str:
        """When its stdin ends, an attached client is let go, whatever the container still says."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([self.path, *arguments], text=True, **pipes) as process:
            assert process.stdout is not None
            return str(process.stdout.read())

    def terminal(self, *arguments: str, typed: str, after: str) -> str:
        """Runs on a terminal; types when ``after`` has come (a prompt: '# ')."""
        pid, master = pty.fork()
        if pid == 0:
            os.execv(self.path, [self.path, *arguments])
        seen, deadline = "", time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                seen += os.read(master, 4096).decode()
            except OSError:
                break
            if typed and after in seen:
                os.write(master, typed.encode())
                typed = ""
        os.close(master)
        os.waitpid(pid, 0)
        return seen.replace("\r", "")

    def first_line(self, *arguments: str, wanted: str) -> str:
        """The first line of output that holds ``wanted``; the command is ended then."""
        process = subprocess.Popen([self.path, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        found = next((line for line in process.stdout if wanted in line), "")
        process.kill()
        process.communicate()
        return found

    def forwarded(self, target: str, port: int) -> str:
        process = subprocess.Popen(
            [self.path, "port-forward", target, f":{port}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        local = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert local, said
        page = output("curl", "-s", "-m", "5", f"http://127.0.0.1:{local[1]}/index.html")
        process.kill()
        process.communicate()
        return page


def logs(k: Kubectl) -> dict[str, str]:
    return {
        "all": k("logs", "main", "-c", "shell"),
        "default container": k("logs", "main"),
        "tail": k("logs", "main", "-c", "shell", "--tail=2"),
        "timestamps": re.sub(r"\S+Z", "TIME", k.out("logs", "main", "-c", "web", "--timestamps")),
        "prefixes": k.out("logs", "main", "--all-containers", "--tail=1", "--prefix"),
        "selector": k("logs", "-l", "app=main", "-c", "web", "--tail=1"),
        "since": k("logs", "main", "-c", "web", "--since=1h"),
        "since now": k("logs", "main", "-c", "web", "--since=1ms"),
        "limit": k("logs", "main", "-c", "web", "--limit-bytes=3"),
        "previous": k("logs", "crash", "--previous"),
        "no previous": k("logs", "main", "-c", "web", "--previous"),
        "no container": k("logs", "main", "-c", "nosuch"),
        "no pod": k("logs", "nosuch"),
        "deployment": k("logs", "deploy/web"),
        "follow": k.first_line("logs", "-f", "main", "-c", "shell", wanted="line 3"),
    }


def execs(k: Kubectl) -> dict[str, str]:
    shell = ("exec", "main", "-c", "shell")
    return {
        "streams": k(*shell, "--", "sh", "-c", "echo out; exit 4"),
        "stderr": k(*shell, "--", "sh", "-c", "echo err >&2"),
        "stdin": k("exec", "-i", "main", "-c", "shell", "--", "cat", input="in\n"),
        "terminal": k.terminal(
            "exec", "-it", "main", "-c", "shell", "--", "sh",
            typed="tty && echo $((40+2)); exit 6\n", after="# ",
        ),
        "no container": k("exec", "main", "-c", "nosuch", "--", "true"),
        "no command": k(*shell, "--", "nosuch"),
        "service": k.out("exec", "svc/main", "-c", "shell", "--", "echo", "there"),
        "deployment": k("exec", "deploy/web", "--", "echo", "there"),
    }  # fmt: skip


def attached(k: Kubectl) -> str:
    process = subprocess.Popen(
        [k.path, "attach", "-i", "main", "-c", "cat", "-q"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    line = process.stdout.readline()
    process.kill()
    process.communicate()
    return line


def copies(k: Kubectl, folder: Path) -> dict[str, str]:
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("content\n" * 5000)
    there, back = f"main:/tmp/{folder.name}", HOME / f"{folder.name}-back"
    k("cp", str(folder), there, "-c", "shell")
    k("cp", there, str(back), "-c", "shell")
    k("cp", str(folder / "deep" / "file"), f"{there}-file", "-c", "shell")
    same = (back / "deep" / "file").read_text() == (folder / "deep" / "file").read_text()
    return {
        "there": k("exec", "main", "-c", "shell", "--", "wc", "-l", f"/tmp/{folder.name}-file"),
        "back": str(same),
    }


def runs(k: Kubectl) -> dict[str, str]:
    one = ("--image=busybox", "--restart=Never", "--rm", "--quiet")
    return {
        "stdin": k.out("run", "one", *one, "-i", "--", "sh", "-c", "sleep 0.5; cat", input="in\n"),
        "terminal": k.terminal(
            "run", "two", *one, "-it", "--", "sh", typed="echo $((40+2)); exit\n", after="# "
        ),
        "exit code": k(
            "run", "three", *one, "--attach", "--", "sh", "-c", "sleep 0.5; exit 5"
        ).splitlines()[-1],
        "gone": k("get", "pods", "one", "two", "three", "--ignore-not-found"),
    }


def debugs(k: Kubectl, name: str) -> dict[str, str]:
    ps = ("sh", "-c", "sleep 0.5; ps")
    common = ("--image=busybox", "--profile=general", "-q")
    debug = ("debug", "main", "--target=web", "-c", f"dbg-{name}", *common, "-i", "--", *ps)
    target = k.out_with_open_stdin(*debug)
    k("debug", "main", "--copy-to=copy", "-c", "extra", *common, "--", "sleep", "1000")
    waited = k("wait", "pod/copy", "--for=condition=Ready", "--timeout=15s")
    copied = k("get", "pod", "copy", "-o", "jsonpath={.spec.containers[*].name}")
    k("delete", "pod", "copy", "--now")
    node = k.out_with_open_stdin(
        "debug", f"node/{NAME}-1", *common, "-i", "--", "ls", "-d", "/host/proc"
    )
    for pod in k.out("get", "pods", "-o", "name").split():
        if "node-debugger" in pod:
            k("delete", pod, "--now")
    return {
        "sees the target": str("httpd -f -p 8080 -h /tmp" in target),
        "copy": f"{waited}{copied}",
        "node": node,
    }


def answers(name: str, path: str) -> dict[str, object]:
    k = Kubectl(path)
    return {
        "logs": logs(k),
        "exec": execs(k),
        "attach": attached(k),
        "cp": copies(k, HOME / f"folder-{name}"),
        "port-forward": [
            k.forwarded("pod/main", 8080),
            k.forwarded("svc/main", 80),
            k.forwarded("deploy/web", 8080),
        ],
        "run": runs(k),
    }


output("pilothouse", "up", "--name", NAME, "--runtime", "oci", "--port", "0")
first = Kubectl(next(iter(KUBECTLS.values())))
until(lambda: "exit " not in first("get", "serviceaccount", "default"), "there is an account")
print(first("apply", "-f", "-", input=PODS), file=sys.stderr)
first("wait", "pod/main", "--for=condition=Ready", "--timeout=20s")
first("wait", "deploy/web", "--for=condition=Available", "--timeout=20s")
first(
    "wait", "pod/crash", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1",
    "--timeout=20s",
)  # fmt: skip
results = {name: answers(name, path) for name, path in KUBECTLS.items()}
for name, path in KUBECTLS.items():  # last: the pod has one container more after it
    results[name]["debug"] = debugs(Kubectl(path), name.replace(".", ""))
output("pilothouse", "down", "--name", NAME, "--delete")
report(results=results, leftovers=leftovers())
