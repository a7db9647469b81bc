"""Runs a test cluster until SIGTERM, SIGINT, or its parent's end: `python -m cluster --help`."""

import argparse
import asyncio
import ctypes
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile

from .cluster import Cluster
from .cluster import BOOKMARK_SECONDS
from .store import HISTORY_MAX

PR_SET_PDEATHSIG = 1


def arguments(words=None):
    parser = argparse.ArgumentParser(
        prog="cluster",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A Kubernetes API server with controllers, a scheduler and nodes whose pods are"
        " local processes. Prints one line of JSON when it is ready.",
        epilog="example: WEIR_BINARY=$PWD/.build/debug/weir PYTHONPATH=Tests/Kubernetes python -m"
        " cluster --node gpu-1:nvidia.com/gpu=8 --scale 10",
    )
    add = parser.add_argument
    add(
        "--folder",
        help="where to keep the kubeconfig, certificates and logs (default: a temporary"
        " folder that goes at the end)",
    )
    add("--port", type=int, default=0, help="of the API; 0 lets the system choose")
    add("--control-port", type=int, default=0, help="of the control endpoint (see control.py)")
    add(
        "--node",
        action="append",
        default=[],
        metavar="NAME[:RESOURCE=COUNT…]",
        help="a node, such as gpu-1:nvidia.com/gpu=8; may be repeated (default: node-1, node-2,"
        " node-3)",
    )
    add(
        "--image",
        action="append",
        default=[],
        metavar="PATTERN=COMMAND",
        help="what an image stands for; COMMAND pause is no process, missing cannot be pulled;"
        " with WEIR_BINARY set, weir:* is Weir",
    )
    add(
        "--scale",
        type=float,
        default=1.0,
        help="how fast the clock of cold starts, back-offs and controllers runs; 0 stands still",
    )
    add(
        "--cold-start",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="between a pod's binding and its start, on that clock",
    )
    add(
        "--history",
        type=int,
        default=HISTORY_MAX,
        metavar="EVENTS",
        help="how many changes of each kind are kept for watches",
    )
    add("--bookmark-seconds", type=float, default=BOOKMARK_SECONDS, help="between bookmarks")
    add(
        "--no-watch-list",
        dest="watch_list",
        action="store_false",
        help="refuse sendInitialEvents, as servers before 1.32 do",
    )
    add(
        "--endpoint-slices",
        default="v1,v1beta1",
        type=lambda text: text.split(","),
        help="the versions of discovery.k8s.io that are served",
    )
    add("--slice-endpoints", type=int, default=100, help="endpoints in one EndpointSlice")
    add(
        "--omit-conditions",
        action="store_true",
        help="leave out endpoint conditions that are as their nil means",
    )
    add("--duplicate-endpoints", action="store_true", help="put endpoints into two slices")
    add("--old-words", action="store_true", help="word unschedulable pods as 1.20 does")
    add("--no-controllers", action="store_true", help="only the API server")
    add("--seed", type=int, default=1, help="of names and uids")
    add("--no-parent", action="store_true", help="go on when the parent ends")
    return parser.parse_args(words)


def follow_parent():
    """Ends this process when its parent ends, whatever it dies of."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent ended before the cluster began")


async def run(options, folder):
    cluster = Cluster(folder, options)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    await cluster.start()
    print(
        json.dumps(
            {
                "ready": True,
                "server": cluster.server.url,
                "control": cluster.control.url,
                "kubeconfig": str(pathlib.Path(folder) / "kubeconfig"),
                "token": cluster.admin_token,
                "ca": str(pathlib.Path(folder) / "pki" / "ca.crt"),
                "folder": str(folder),
            }
        ),
        flush=True,
    )
    await over.wait()
    await cluster.stop()


def main():
    options = arguments()
    options.node = options.node or ["node-1", "node-2", "node-3"]
    if not options.no_parent:
        follow_parent()
    folder = options.folder or tempfile.mkdtemp(prefix="weir-cluster-")
    try:
        asyncio.run(run(options, os.path.abspath(folder)))
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
