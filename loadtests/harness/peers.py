"""The proxies that are compared, each started from a file that anybody can judge.

A configuration is a template: @PORT@, @BACKEND@, @FOLDER@, @WORKERS@ and the like are replaced, and
@EXTRA@ by what the scenario adds, from its file `nginx.extra` or `haproxy.extra` where it has one.
"""

import os
import pathlib
import re
import shutil

from . import http
from .processes import Fault, eventually, free_port, read_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / "loadtests/peers"


def weir_binary():
    path = pathlib.Path(os.environ.get("WEIR_BINARY") or ROOT / ".build/release/weir")
    if not os.access(path, os.X_OK):
        raise Fault(f"there is no {path}: run `make build` or set WEIR_BINARY")
    return path


def program(name):
    """Servers lie where root's PATH looks; Envoy in its own environment."""
    own = ROOT / ".venv-bench/bin" / name
    found = str(own) if own.exists() else shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if not found:
        raise Fault(f"there is no {name}: run `scripts/setup bench`")
    return found


def render(template, target, **values):
    """Fills a template in; a mark that nobody has a value for is a mistake in the scenario."""

    def value(match):
        if match[1] not in values:
            raise Fault(f"{template.name}: nothing is known for @{match[1]}@")
        return str(values[match[1]])

    text = re.sub(r"@([A-Z]+)@", value, template.read_text(encoding="utf-8"))
    target.write_text(text, encoding="utf-8")
    return target


def extra(scenario, peer):
    path = scenario / f"{peer}.extra"
    return path.read_text(encoding="utf-8").rstrip() if path.exists() else ""


class Peer:
    """A proxy that runs: its process, and the port where it takes requests."""

    def __init__(self, name, process, port, admin=None):
        self.name, self.process, self.port, self.admin = name, process, port, admin
        self.scheme = "http"

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"


def start_nginx(stage, scenario, backend, cores, workers=1, **values):
    port = free_port()
    server = scenario / "nginx.server"
    config = render(
        PEERS / "nginx.conf", stage.folder / "nginx.conf", PORT=port, BACKEND=backend,
        FOLDER=stage.folder, WORKERS=workers, EXTRA=extra(scenario, "nginx"),
        LISTEN=listen_options(scenario, server),
        SERVER=server.read_text(encoding="utf-8").rstrip() if server.exists() else "",
    )
    # What the scenario has added may have marks too.
    config = render(config, config, **values)
    command = [program("nginx"), "-c", config, "-p", stage.folder, "-e", "stderr"]
    return Peer("nginx", stage.start("nginx", command, cores).listens(port), port)


def listen_options(scenario, server):
    """What nginx's `listen` says beside the address: from `nginx.listen`, where there is one."""
    options = scenario / "nginx.listen"
    if options.exists():
        return " " + options.read_text(encoding="utf-8").strip()
    return " ssl" if server.exists() else ""


def start_nghttpx(stage, scenario, backend, cores, workers=1):
    port = free_port()
    command = [
        program("nghttpx"), f"--frontend=127.0.0.1,{port};no-tls",
        f"--backend=127.0.0.1,{backend}", f"--workers={workers}", "--conf=/dev/null",
        "--accesslog-file=/dev/null", "--errorlog-file=/dev/stderr", "--log-level=ERROR",
        "--backend-keep-alive-timeout=600", "--no-server-rewrite", "--no-ocsp",
    ]
    return Peer("nghttpx", stage.start("nghttpx", command, cores).listens(port), port)


def start_haproxy(stage, scenario, backend, cores, workers=1):
    port = free_port()
    config = render(
        PEERS / "haproxy.cfg", stage.folder / "haproxy.cfg", PORT=port, BACKEND=backend,
        FOLDER=stage.folder, WORKERS=workers, EXTRA=extra(scenario, "haproxy"),
    )
    command = [program("haproxy"), "-db", "-f", config]
    return Peer("HAProxy", stage.start("haproxy", command, cores).listens(port), port)


def start_envoy(stage, scenario, backend, cores, workers=1):
    port, admin = free_port(), free_port()
    config = render(
        PEERS / "envoy.yaml", stage.folder / "envoy.yaml", PORT=port, BACKEND=backend,
        ADMIN=admin, EXTRA=extra(scenario, "envoy"),
        CODEC="HTTP2" if (scenario / "nginx.listen").exists() else "HTTP1",
    )
    command = [
        program("envoy"), "-c", config, "--concurrency", workers, "-l", "error",
        "--disable-hot-restart",
    ]
    process = stage.start("envoy", command, cores).listens(port)
    return Peer("Envoy", process, port)


def start_weir(
    stage, scenario, backend, cores, workers=1, name="weir", more=(), command=None, **values
):
    """Weir with the scenario's `weir.yaml`, filled in, and with `more` files as they are; `command`
    stands for the binary where it is not run by itself."""
    folder = stage.folder / name
    folder.mkdir(exist_ok=True)
    config = render(
        scenario / "weir.yaml", folder / "weir.yaml", BACKEND=backend, WORKERS=workers,
        FOLDER=folder, WEIR=weir_binary(), **values,
    )
    ports = folder / "ports.json"
    ports.unlink(missing_ok=True)
    files = [word for file in (config, *more) for word in ("-c", file)]
    command = [*(command or [weir_binary()]), "run", *files, "--ports-file", ports]
    process = stage.start(name, command, cores)
    addresses = read_json(ports, process)
    port, admin = (int(addresses[key].rpartition(":")[2]) for key in ("http", "admin"))
    peer = Peer("Weir", process, port, admin)
    peer.config = config
    eventually(lambda: ready(peer), f"{name} says that it is ready")
    return peer


def ready(peer):
    peer.process.assert_running()
    return http.call(peer.admin, "GET", "/readyz").status == 200


STARTERS = {
    "nginx": start_nginx, "HAProxy": start_haproxy, "Envoy": start_envoy, "nghttpx": start_nghttpx,
}


def start(name, stage, scenario, backend, cores, **options):
    if name == "Weir":
        return start_weir(stage, scenario, backend, cores, **options)
    return STARTERS[name](stage, scenario, backend, cores, **options)


def start_backend(stage, cores, answer):
    """nginx with a fixed answer, and files below /files/. Returns its port."""
    port = free_port()
    (stage.folder / "files").mkdir(exist_ok=True)
    config = render(
        PEERS / "backend.conf", stage.folder / "backend.conf", PORT=port, FOLDER=stage.folder,
        ANSWER=answer,
    )
    command = [program("nginx"), "-c", config, "-p", stage.folder, "-e", "stderr"]
    stage.start("backend", command, cores).listens(port)
    return port


def start_simulator(stage, cores, *arguments, name="simulator"):
    """`weir model-simulator`. Returns its port and process."""
    port = free_port()
    command = [weir_binary(), "model-simulator", "--port", port, *arguments]
    process = stage.start(name, command, cores).listens(port)
    return port, process
