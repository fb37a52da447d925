"""Builds the images that the conformance tests run, without any container registry.

Programs come from the Go module proxy and two small C files, tools from Debian packages; the
result is one OCI layout for ``pilothouse image import``. build.sh calls it; needs go, gcc,
apt-get (after ``apt-get update``) and dpkg-deb. What differs from the originals: agnhost stands
on Debian's tools and glibc, nginx is busybox httpd with one page, etcd comes without etcdctl,
distroless-iptables is busybox with conntrack.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from hack.conformance.oci_layout import Entry, Image, Layout, Tree

HERE = Path(__file__).resolve().parent
E2E = "registry.k8s.io/e2e-test-images"
ETCD = "go.etcd.io/etcd/server/v3@v3.7.0"
SAMPLE_APISERVER = "k8s.io/sample-apiserver@v0.29.2"

# Where programs stand in images, and the Debian package and file that they come from.
DEBIAN = {
    "bin/bash": ("bash", "bin/bash"),
    "bin/ip": ("iproute2", "bin/ip"),
    "bin/ss": ("iproute2", "bin/ss"),
    "usr/bin/curl": ("curl", "usr/bin/curl"),
    "usr/bin/dig": ("bind9-dnsutils", "usr/bin/dig"),
    "usr/bin/getent": ("libc-bin", "usr/bin/getent"),
    "usr/bin/host": ("bind9-host", "usr/bin/host"),
    "usr/bin/iperf": ("iperf", "usr/bin/iperf"),
    "usr/bin/nc": ("netcat-openbsd", "bin/nc.openbsd"),
    # Not busybox's: on the node it would go on with busybox' own programs, as losetup.
    "usr/bin/nsenter": ("util-linux", "usr/bin/nsenter"),
    "usr/bin/nslookup": ("bind9-dnsutils", "usr/bin/nslookup"),
    "usr/bin/printenv": ("coreutils", "usr/bin/printenv"),
    "usr/bin/socat": ("socat", "usr/bin/socat"),
    "usr/bin/wget": ("wget", "usr/bin/wget"),
}
BUSYBOX = ("busybox-static", "bin/busybox")
STRESS = ("stress", "usr/bin/stress")
CONNTRACK = ("conntrack", "usr/sbin/conntrack")

PAUSE = Image("registry.k8s.io/pause:3.10.2", ("pause",), ("/pause",), user="65535:65535")
AGNHOST_PORTS = (80, 5000, 8080, 8081, 9376)
HTTPD = ("sh", "-c", "trap exit TERM QUIT; httpd -f -p 80 -h /usr/share/nginx/html & wait")


def images() -> list[Image]:
    """All but pause, which agnhost's own registry holds too."""
    found = [
        Image("registry.k8s.io/etcd:3.7.0-0", ("etcd",), cmd=("/usr/local/bin/etcd",)),
        Image(f"{E2E}/busybox:1.37.0-2", ("busybox",), cmd=("sh",)),
        Image(f"{E2E}/glibc-dns-testing:2.1.1", ("tools",), cmd=("bash",)),
        Image(f"{E2E}/nonewprivs:1.4", ("busybox", "nonewprivs"), cmd=("nnp",)),
        Image(f"{E2E}/nonroot:1.5", ("busybox",), cmd=("sh",), user="1234"),
        Image("registry.k8s.io/build-image/distroless-iptables:v0.9.9", ("busybox", "conntrack")),
        Image(f"{E2E}/regression-issue-74839:1.5", ("regression",), ("/regression-issue-74839",)),
        Image("registry.k8s.io/sig-storage/hostpathplugin:v1.17.1", ("busybox", "hostpathplugin")),
        Image(
            f"{E2E}/resource-consumer:1.14",
            ("busybox", "resource-consumer"),
            ("/consumer",),
            ports=(8080,),
        ),
        Image(
            f"{E2E}/sample-apiserver:1.29.2",
            ("busybox", "sample-apiserver"),
            ("/sample-apiserver",),
        ),
    ]
    for tag in ("1.27.0-2", "1.28.0-2"):
        found.append(Image(f"{E2E}/nginx:{tag}", ("busybox", "nginx"), cmd=HTTPD, ports=(80,)))
    for tag in ("2.66.1", "2.55"):
        layers = ("tools", "agnhost")
        name = f"{E2E}/agnhost:{tag}"
        found.append(Image(name, layers, ("/agnhost",), ("pause",), ports=AGNHOST_PORTS))
    for pet in ("kitten", "nautilus"):
        layers = ("tools", "agnhost", pet)
        cmd = ("test-webserver",)
        found.append(Image(f"{E2E}/{pet}:1.8", layers, ("/agnhost",), cmd, ports=AGNHOST_PORTS))
    return found


def output(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | env, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def text(content: str, mode: int = 0o644) -> Entry:
    return Entry(mode, content.encode())


class Packages:
    """Debian packages with all that they depend on, unpacked under ``root``."""

    def __init__(self, names: set[str], work: Path) -> None:
        self.root = work / "root"
        archives = work / "archives"
        archives.mkdir()
        # As if nothing were installed, so that every dependency is in the plan.
        empty = ("-o", "Dir::State::status=/dev/null", "--no-install-recommends")
        plan = output("apt-get", "install", "-s", *empty, *sorted(names))
        wanted = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
        output("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *wanted, cwd=archives)
        for archive in sorted(archives.iterdir()):
            output("dpkg-deb", "--extract", archive, self.root)
        multiarch = output("gcc", "-print-multiarch").strip()
        self._libraries = [self.root / folder / multiarch for folder in ("lib", "usr/lib")]

    def program(self, file: str) -> dict[str, Entry]:
        """What the program needs to run, apart from itself: libraries and the loader."""
        (loader,) = self._libraries[0].glob("ld-linux-*.so.*")
        path = ":".join(map(str, self._libraries))
        lines = output(
            loader, "--inhibit-cache", "--library-path", path, "--list", self.root / file
        )
        needed = {}
        for name, found in re.findall(r"(\S+) => (/\S+)", lines):
            library = Path(found)
            if not library.is_relative_to(self.root):
                raise SystemExit(f"build_images: {file} needs {name}, which no package holds")
            # The loader is known by its path, libraries by their names.
            at = name[1:] if name.startswith("/") else str(library.relative_to(self.root))
            needed[at] = Entry(0o755, library.resolve())
        return needed


def base(packages: Packages) -> dict[str, Entry]:
    """busybox, a link for each of its applets, users, and folders to write to."""
    busybox = packages.root / BUSYBOX[1]
    applets = set(output(busybox, "--list").split()) - {"busybox"}
    tree = {f"bin/{applet}": Entry(0o777, target="busybox") for applet in applets}
    folders = ("dev", "home", "proc", "sys", "usr/sbin", "var/run")
    tree |= {folder: Entry(0o755) for folder in folders}
    tree |= {folder: Entry(0o1777) for folder in ("tmp", "var/tmp")}
    return tree | {
        "bin/busybox": Entry(0o755, busybox),
        "usr/bin/env": Entry(0o777, target="../../bin/env"),
        "root": Entry(0o700),
        "etc/passwd": text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
        "etc/group": text("root:x:0:\nnobody:x:65534:\n"),
        "etc/nsswitch.conf": text("hosts: files dns\n"),
    }


def busybox_image(packages: Packages, work: Path) -> dict[str, Entry]:
    """The base with a ``sh`` that keeps all variables of its environment (``sh.c``)."""
    return (
        base(packages)
        | packages.program("bin/bash")
        | {
            "bin/bash": Entry(0o755, packages.root / "bin/bash"),
            "bin/sh": c_program("sh.c", 0o755, work),
        }
    )


def tools(packages: Packages) -> dict[str, Entry]:
    """The base with real network tools in place of applets; agnhost's users."""
    tree = base(packages)
    for at in DEBIAN:
        tree.pop(f"bin/{Path(at).name}", None)
    for at, (_, file) in DEBIAN.items():
        tree |= packages.program(file)
        tree[at] = Entry(0o755, packages.root / file)
    user = "user-defined-in-image"
    tree["etc/passwd"] = text(f"{_text(tree, 'etc/passwd')}{user}:x:1000:1000::/:/bin/sh\n")
    groups = f"{user}:x:1000:\ngroup-defined-in-image:x:50000:{user}\n"
    tree["etc/group"] = text(_text(tree, "etc/group") + groups)
    return tree | {
        # busybox sh prefers its own nc, ip and wget to those in PATH, and they know fewer options.
        "bin/sh": Entry(0o777, target="bash"),
        "usr/local/bin/iperf": Entry(0o777, target="/usr/bin/iperf"),
        "etc/wgetrc": text("tries = 1\n"),
        # A test looks for "Alpine Linux" here.
        "etc/os-release": text('ID=like-alpine\nNAME="Alpine Linux (a likeness, of Debian)"\n'),
    }


def _text(tree: Tree, path: str) -> str:
    content = tree[path].content
    assert isinstance(content, bytes)
    return content.decode()


def go_program(module: str, work: Path) -> Entry:
    """The root package of a module as a static program."""
    folder = Path(tempfile.mkdtemp(dir=work))
    output("go", "mod", "init", "pilothouse.example/image", cwd=folder)
    output("go", "mod", "edit", f"-require={module}", cwd=folder)
    built = folder / "program"
    package = module.partition("@")[0]
    command = ("go", "build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", built, package)
    output(*command, cwd=folder, CGO_ENABLED="0")
    return Entry(0o755, built)


def c_program(source: str, mode: int, work: Path) -> Entry:
    built = work / source.removesuffix(".c")
    output("gcc", "-Os", "-Wall", "-Werror", "-static", "-s", "-o", built, HERE / source)
    return Entry(mode, built)


def registry_files(layout: Layout, name: str, tag: str, digest: str) -> dict[str, Entry]:
    """The image as ``agnhost fake-registry-server`` reads it."""
    manifest = json.loads(layout.read(digest))
    root = f"var/registry/{name}"
    blobs = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    parts = {f"manifests/sha256/{_fanned(digest)}": digest}
    parts |= {f"blobs/sha256/{_fanned(blob)}": blob for blob in blobs}
    tree = {f"{root}/{path}/data": Entry(0o644, layout.read(blob)) for path, blob in parts.items()}
    return tree | {f"{root}/manifests/{tag}": text(digest)}


def _fanned(digest: str) -> str:
    hexadecimal = digest.partition(":")[2]
    return f"{hexadecimal[:2]}/{hexadecimal}"


def agnhost(program: Path, upstream: Path) -> dict[str, Entry]:
    certificates = {
        name: Entry(0o644, upstream / "agnhost" / "porter" / name)
        for name in ("localhost.crt", "localhost.key")
    }
    return certificates | {
        "agnhost": Entry(0o755, program),
        "agnhost-2": Entry(0o777, target="agnhost"),
        "uploads": Entry(0o755),
    }


def resource_consumer(packages: Packages, folder: Path) -> dict[str, Entry]:
    """Uses as much CPU and memory as it is told: what tests of autoscaling scale."""
    return packages.program(STRESS[1]) | {
        "consumer": Entry(0o755, folder / "consumer"),
        "consume-cpu/consume-cpu": Entry(0o755, folder / "consume-cpu"),
        "usr/bin/stress": Entry(0o755, packages.root / STRESS[1]),
    }


def conntrack(packages: Packages) -> dict[str, Entry]:
    """What a test of kube-proxy wants of the image that is kube-proxy's base."""
    program = Entry(0o755, packages.root / CONNTRACK[1])
    return packages.program(CONNTRACK[1]) | {"usr/sbin/conntrack": program}


def pet_files(upstream: Path, pet: str) -> dict[str, Entry]:
    html = upstream / pet / "html"
    return {name: Entry(0o644, html / name) for name in ("data.json", f"{pet}.jpg")}


def build(out: Path, program: Path, release: str, work: Path) -> None:
    """Writes the layout to the new folder ``out``; ``program`` is a built agnhost, with the
    programs of resource-consumer and regression-issue-74839 beside it."""
    layout = Layout(out, output("dpkg", "--print-architecture").strip())
    module = json.loads(output("go", "mod", "download", "-json", f"k8s.io/kubernetes@{release}"))
    upstream = Path(module["Dir"]) / "test" / "images"
    wanted = {BUSYBOX, CONNTRACK, STRESS, *DEBIAN.values()}
    packages = Packages({package for package, _ in wanted}, work)

    pause_layer = layout.add_layer({"pause": c_program("pause.c", 0o755, work)})
    pause = layout.add_image(PAUSE, [pause_layer])
    inner_registry = registry_files(layout, "pause", "testing", pause["digest"])
    regression = "regression-issue-74839"
    trees: dict[str, Tree] = {
        "agnhost": agnhost(program, upstream) | inner_registry,
        "busybox": busybox_image(packages, work),
        "conntrack": conntrack(packages),
        "etcd": {"usr/local/bin/etcd": go_program(ETCD, work)},
        "hostpathplugin": {"hostpathplugin": c_program("hostpathplugin.c", 0o755, work)},
        "kitten": pet_files(upstream, "kitten"),
        "nautilus": pet_files(upstream, "nautilus"),
        "nginx": {"usr/share/nginx/html/index.html": text("<h1>Welcome to nginx!</h1>\n")},
        "nonewprivs": {"usr/local/bin/nnp": c_program("nonewprivs.c", 0o6755, work)},
        "regression": {regression: Entry(0o755, program.parent / regression)},
        "resource-consumer": resource_consumer(packages, program.parent),
        "sample-apiserver": {"sample-apiserver": go_program(SAMPLE_APISERVER, work)},
        "tools": tools(packages),
    }
    layers = {name: layout.add_layer(tree) for name, tree in trees.items()}
    for image in images():
        layout.add_image(image, [layers[name] for name in image.layers])
    layout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the layout; must not exist yet")
    parser.add_argument("--agnhost", type=Path, required=True, help="a built agnhost")
    parser.add_argument("--release", required=True, help="of k8s.io/kubernetes, e.g. v1.37.2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        build(args.out, args.agnhost, args.release, Path(work))


if __name__ == "__main__":
    main()
