"""Bodies of 4 MB, up and down: bytes per second of CPU."""

from harness import http, load, peers

BODY_BYTES = 4 << 20
CONNECTIONS = 8
SECONDS = 2
NAMES = ("Weir", "nginx", "HAProxy")
UP_PATH, DOWN_PATH = "/v2/models/river/infer", "/files/large"
CONTENT_TYPE = "application/octet-stream"


class Direction:
    """What goes one way: the server for it, the proxies before it, the request and its answer."""

    def __init__(self, run, name, backend, path, body, answer):
        self.run, self.path, self.body, self.answer = run, path, body, answer
        self.comparison = run.compare(
            "bytes per CPU second", "MB/s", "≥ nginx", row=f"4 MB {name}", limits={"nginx": 1},
            higher=True,
        )
        stage = run.stage.inside(name)
        self.proxies = {
            peer: peers.start(peer, stage, run.scenario, backend, run.cores.proxy)
            for peer in NAMES
        }

    def one(self, name):
        proxy = self.proxies[name]
        load.expect(proxy, self.path, self.body, self.answer, CONTENT_TYPE)
        sample = load.wrk(
            proxy, self.run.cores.load, self.path, self.body, SECONDS, CONNECTIONS,
            len(self.answer), CONTENT_TYPE,
        )
        self.comparison.add(name, sample.requests * BODY_BYTES / sample.cpu)


def bench(run):
    up, _ = peers.start_simulator(
        run.stage, run.cores.load, "--instant", "--response-size", 256
    )
    down = peers.start_backend(run.stage, run.cores.load, "{}")
    data = run.write("body.bin", bytes(range(256)) * (BODY_BYTES // 256))
    (run.stage.folder / "files/large").write_bytes(data.read_bytes())
    small = http.call(up, "POST", UP_PATH, b"x", {"content-type": CONTENT_TYPE}).body
    directions = (
        Direction(run, "up", up, UP_PATH, data, small),
        Direction(run, "down", down, DOWN_PATH, None, data.read_bytes()),
    )
    for _, (name, direction) in run.turns([(n, d) for n in NAMES for d in directions]):
        direction.one(name)
