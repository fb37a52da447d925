"""Why a pod goes to a node and not to the others: each plugin's verdict and score.

pilothouse explain-pod web-0                 a pod of the cluster
pilothouse explain-pod -f pod.yaml -o json   one that does not exist yet
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from pilothouse.cli import CommandError
from pilothouse.cli import component as shared
from pilothouse.cli.clusters import add_name, directory_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", nargs="?", default="", help="name of a pod that exists")
    parser.add_argument(
        "-f", "--filename", default="", metavar="FILE", help="a pod as YAML or JSON"
    )
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument(
        "--config", default="", metavar="FILE", help="the scheduler's KubeSchedulerConfiguration"
    )
    parser.add_argument("--kubeconfig", default="", metavar="FILE", help="another cluster's")
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    if bool(args.pod) == bool(args.filename):
        raise CommandError("give the name of a pod, or -f FILE")
    if not args.kubeconfig:
        args.kubeconfig = str(directory_of(args) / "kubeconfig")
        if not Path(args.kubeconfig).exists():
            raise CommandError("there is no such cluster: start one with pilothouse up")
    args.scheduler = _config(args.config)
    args.manifest = _manifest(args.filename) if args.filename else None
    return asyncio.run(_explain(args))


async def _explain(args: argparse.Namespace) -> int:
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.scheduler.explain import as_text, explain_in_cluster

    env = shared.environment(args, "pilothouse-explain-pod")
    try:
        pod = await _pod(env.client, args)
        explanation, notes = await explain_in_cluster(env, args.scheduler, pod)
    except StatusError as error:
        raise CommandError(error.message) from error
    except KeyError as error:
        raise CommandError(f"the pod's scheduler is {error}: give its --config") from error
    finally:
        await env.informers.stop()
        await env.client.close()
    if args.output == "json":
        print(json.dumps(explanation.as_dict() | {"notes": notes}, indent=1))
    else:
        print(as_text(explanation, notes), end="")
    return 0


def _config(path: str) -> Any:
    from pilothouse.scheduler.config import SchedulerConfig

    if not path:
        return SchedulerConfig()
    from pilothouse.scheduler.component_config import load

    try:
        return load(Path(path).read_text(), SchedulerConfig())
    except (OSError, ValueError) as error:
        raise CommandError(f"--config {path}: {error}") from error


async def _pod(client: Any, args: argparse.Namespace) -> Any:
    """The pod as the API server has it, or would have it (defaults, admission)."""
    from pilothouse.kubeclient.resources import PODS

    if args.pod:
        return await client.get(PODS, args.pod, args.namespace)
    namespace = (args.manifest.get("metadata") or {}).get("namespace") or args.namespace
    return await client.create(PODS, args.manifest, namespace, dry_run=True)


def _manifest(path: str) -> dict[str, Any]:
    import yaml

    try:
        pod = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CommandError(f"-f {path}: {error}") from error
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        raise CommandError(f"-f {path}: not a Pod")
    return pod
