"""The local image store, shared by all your clusters.

pilothouse image import FILE|DIR|-   a docker-archive, an OCI archive or an OCI layout
pilothouse image ls [-o json]
pilothouse image rm REFERENCE...
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pilothouse.cli import CommandError
from pilothouse.cluster.state import images_directory

if TYPE_CHECKING:
    from pilothouse.kubelet.images.store import ImageStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    load = actions.add_parser("import", help="add the images of an archive or layout")
    load.add_argument("source", metavar="FILE|DIR|-")
    load.add_argument("--ref", default="", help="name for an image that carries none")
    listing = actions.add_parser("ls", help="list images")
    listing.add_argument("-o", "--output", choices=("text", "json"), default="text")
    remove = actions.add_parser("rm", help="remove images by reference or id")
    remove.add_argument("references", nargs="+", metavar="REFERENCE")


def run(args: argparse.Namespace) -> int:
    from pilothouse.kubelet.images.store import ImageStore

    store = ImageStore(str(images_directory()))
    action = {"import": import_archive, "ls": list_images, "rm": remove_images}[args.action]
    return action(store, args)


def import_archive(store: ImageStore, args: argparse.Namespace) -> int:
    from pilothouse.kubelet.images.archive import ImportFailed, import_images

    try:
        imported = import_images(store, args.source, name=args.ref)
    except (OSError, ImportFailed) as error:
        raise CommandError(f"{args.source}: {error}") from error
    for image_id, names in imported:
        print(f"imported {', '.join(names) or image_id}")
    return 0


def list_images(store: ImageStore, args: argparse.Namespace) -> int:
    images = [store.image(record) for record in store.records()]
    if args.output == "json":
        described = [
            {"id": i.id, "repoTags": i.repo_tags, "repoDigests": i.repo_digests, "size": i.size}
            for i in images
        ]
        print(json.dumps(described, indent=1))
        return 0
    rows = [("REFERENCE", "ID", "SIZE")]
    for image in images:
        for reference in image.repo_tags or image.repo_digests or ("<none>",):
            short = image.id.removeprefix("sha256:")[:12]
            rows.append((reference, short, f"{image.size / 1e6:.1f} MB"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def remove_images(store: ImageStore, args: argparse.Namespace) -> int:
    for reference in args.references:
        if not store.remove(reference):
            raise CommandError(f"no image {reference!r}; `pilothouse image ls` lists them")
        print(f"removed {reference}")
    return 0
