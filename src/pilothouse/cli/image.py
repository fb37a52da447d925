"""The local image store, shared by all your clusters.

pilothouse image import FILE|DIR|-   a docker-archive, an OCI archive or an OCI layout
pilothouse image ls [-o json]
pilothouse image rm REFERENCE...
"""

from __future__ import annotations

import argparse
import json

from pilothouse.cli import CommandError
from pilothouse.cluster.state import images_directory


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

    store = ImageStore(images_directory())
    action = {"import": import_images, "ls": list_images, "rm": remove_images}[args.action]
    return action(store, args)


def import_images(store: object, args: argparse.Namespace) -> int:
    from pilothouse.kubelet.images.store import ImageStore, ImportFailure

    assert isinstance(store, ImageStore)
    try:
        references = store.import_source(args.source, reference=args.ref)
    except (OSError, ImportFailure) as error:
        raise CommandError(f"{args.source}: {error}") from error
    for reference in references:
        print(f"imported {reference}")
    return 0


def list_images(store: object, args: argparse.Namespace) -> int:
    from pilothouse.kubelet.images.store import ImageStore

    assert isinstance(store, ImageStore)
    images = store.list_images()
    if args.output == "json":
        print(
            json.dumps(
                [
                    {
                        "id": i.id,
                        "repoTags": i.repo_tags,
                        "repoDigests": i.repo_digests,
                        "size": i.size,
                    }
                    for i in images
                ],
                indent=1,
            )
        )
        return 0
    rows = [("REFERENCE", "ID", "SIZE")]
    for image in images:
        for reference in image.repo_tags or image.repo_digests or ("<none>",):
            short = image.id.removeprefix("sha256:")[:12]
            rows.append((reference, short, f"{image.size / 1e6:.1f} MB"))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def remove_images(store: object, args: argparse.Namespace) -> int:
    from pilothouse.kubelet.images.store import ImageStore

    assert isinstance(store, ImageStore)
    for reference in args.references:
        if not store.remove_image(reference):
            raise CommandError(f"no image {reference!r}; `pilothouse image ls` lists them")
        print(f"removed {reference}")
    return 0
