"""Commands that are run against a cluster, and how two runs are compared.

``commands/*.txt`` hold shell commands, a line each (several between ``<<<`` and ``>>>``); one that
begins with ``~`` only prepares and its output is not looked at; one with ``%`` cleans up, which is
needed only where several transcripts share a cluster. ``recorded/<kubectl>/*.txt`` hold
what they print against upstream's kube-apiserver, scheduler and controller manager v1.37.2 with
our fake kubelet; of the versions between only what differs from 1.32's is kept
(``recorded/1.XX.diff``). To record anew, with KUBECONFIG of such a cluster (reference.sh):

    python tests/e2e/transcripts.py record

1.32 and 1.37 are tried by default; hack/install_kubectl.sh brings others, and
PILOTHOUSE_KUBECTLS="1.30 1.36" (or "all") says which are tried.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "commands").glob("*.txt"))
IN_FULL = ["1.32", "1.37"]
BASE = "1.32"
_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]"
_REPLACED = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w+ \d{4} \d\d:\d\d:\d\d \+0000", "DATE"),
    (r'(resourceVersion"?|Resource Version): *"?\d+"?', r"\1: RV"),
    (rf"(?<=-){_RANDOM}{{8,10}}\b", "HASH"),
    (rf"(hash[:=] ?){_RANDOM}{{8,10}}\b", r"\1HASH"),
    (rf"(?<=-){_RANDOM}{{5}}\b", "RND"),
    (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", "IP"),
    (r"\b[0-9a-f]{1,4}(::?[0-9a-f]{1,4})+:?:?\b(?!\.)", "IP6"),
    (r"(https?://)?(IP|localhost):\d{4,5}", "SERVER"),
    (r"(?<![\w.-])(\d+(ms|us|\.\d+s|[smhd])){1,2}(?![\w-])", "AGE"),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
    (r"fake://[0-9a-f]{16,}", "fake://ID"),
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"((nodePort|NodePort):? +(\S+ +)?|\d+:)3\d{4}\b", r"\1NODEPORT"),
    (r"tls\.(crt|key): \S+", r"tls.\1: DATA"),
    (r"AGE \(x\d+ over AGE\)", "AGE"),
    # Differences that we know of. Upstream's structs write a null for what nobody has set.
    (r"\n( *)- lastProbeTime: null\n +(?=lastTransitionTime)", r"\n\1- "),
    (r"\b(endpoints|ports): (null|\[\])", r"\1: []"),
    (r"[ \t]+", " "),
]


def normal(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text)
    return "\n".join(line.rstrip() for line in text.split("\n") if "FailedScheduling" not in line)


def commands(name: str) -> list[str]:
    found: list[str] = []
    block: list[str] | None = None
    for line in (HERE / "commands" / f"{name}.txt").read_text().splitlines():
        if line == "<<<":
            block = []
        elif line == ">>>":
            assert block is not None
            found.append("\n".join(block))
            block = None
        elif block is not None:
            block.append(line)
        elif line:
            found.append(line)
    return found


def run(command: str, environment: dict[str, str], folder: Path) -> str:
    try:
        done = subprocess.run(
            ["bash", "-c", command], env=environment, cwd=folder, capture_output=True, text=True,
            timeout=45, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "timed out\n"
    return f"{done.stdout}{done.stderr}{f'exit {done.returncode}' if done.returncode else ''}\n"


def transcript(
    name: str, kubectl: Path, kubeconfig: Path, folder: Path, *, clean_up: bool = False
) -> list[tuple[str, str]]:
    """Each command that counts, with its normal output."""
    (folder / "bin").mkdir()
    (folder / "bin" / "kubectl").symlink_to(kubectl)
    (folder / "kubeconfig").write_bytes(kubeconfig.read_bytes())
    environment = os.environ | {
        "KUBECONFIG": str(folder / "kubeconfig"),
        "KUBECACHEDIR": str(folder / "cache"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
        "LC_ALL": "C.UTF-8",
    }
    answers = []
    for command in commands(name):
        if command.startswith("% ") and not clean_up:
            continue
        output = run(command.removeprefix("~ ").removeprefix("% "), environment, folder)
        if command[:2] not in ("~ ", "% ") or "\n" in command:
            answers.append((command, normal(output).strip("\n")))
    return answers


def text_of(answers: list[tuple[str, str]]) -> str:
    return "".join(f"$ {command}\n{output}\n\n" for command, output in answers)


def recorded(name: str, version: str) -> str:
    if version in IN_FULL:
        return (HERE / "recorded" / version / f"{name}.txt").read_text()
    differences = (HERE / "recorded" / f"{version}.diff").read_text().split("=== ")
    found = next(d for d in differences if d.startswith(f"{name}\n"))
    return patched(recorded(name, BASE), found)


def patched(text: str, difference: str) -> str:
    """``text`` with the hunks of a unified difference without context."""
    lines = text.splitlines(keepends=True)
    hunks = re.split(r"(?m)^@@ -(\d+)(?:,(\d+))? .*\n", difference)[1:]
    # From the end, so that the places of the rest stay.
    for start, count, body in reversed(
        list(zip(hunks[::3], hunks[1::3], hunks[2::3], strict=True))
    ):
        length = int(count or 1)
        at = int(start) - (length > 0)
        added = [line[1:] for line in body.splitlines(keepends=True) if line.startswith("+")]
        lines[at : at + length] = added
    return "".join(lines)


def difference(name: str, text: str) -> str:
    """What ``patched`` needs to make ``text`` of the base's transcript."""
    base = recorded(name, BASE).splitlines(keepends=True)
    hunks = list(difflib.unified_diff(base, text.splitlines(keepends=True), n=0))[2:]
    return "".join([f"=== {name}\n", *hunks])


def kubectls() -> dict[str, Path]:
    """The versions to try, as far as they are at hand: the newest is in the virtual environment,
    the others are where hack/install_kubectl.sh put them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilothouse"
    places = {f"1.{minor}": cache / f"kubectl-1.{minor}" for minor in range(30, 37)}
    places["1.37"] = Path(sys.executable).parent / "kubectl"
    asked = os.environ.get("PILOTHOUSE_KUBECTLS", "").split() or IN_FULL
    wanted = places if asked == ["all"] else asked
    # The newest first: it is the one that most tests take.
    return {
        version: path
        for version, path in reversed(places.items())
        if version in wanted and os.access(path, os.X_OK)
    }


def _record(names: list[str]) -> None:
    for version, kubectl in kubectls().items():
        texts = {}
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                config = Path(os.environ["KUBECONFIG"])
                answers = transcript(name, kubectl, config, Path(folder), clean_up=True)
            texts[name] = text_of(answers)
        _keep(version, texts)


def _keep(version: str, texts: dict[str, str]) -> None:
    if version in IN_FULL:
        for name, text in texts.items():
            target = HERE / "recorded" / version / f"{name}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return
    target = HERE / "recorded" / f"{version}.diff"
    kept = target.read_text().split("=== ")[1:] if target.exists() else []
    pieces = {piece.partition("\n")[0]: f"=== {piece}" for piece in kept}
    pieces |= {name: difference(name, text) for name, text in texts.items()}
    target.write_text("".join(pieces[name] for name in sorted(pieces)))


if __name__ == "__main__":
    if sys.argv[1:2] != ["record"]:
        sys.exit(__doc__)
    _record(sys.argv[2:] or NAMES)
