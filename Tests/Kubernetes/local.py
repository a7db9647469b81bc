"""The test cluster as a child of this process: for tests, and for what shows Weir on a cluster."""

import contextlib
import json
import pathlib
import subprocess
import sys
import urllib.request

import kube

HERE = pathlib.Path(__file__).parent


class TestCluster:
    """`python -m cluster` as a child, with what its ready line says."""

    def __init__(self, folder, *arguments):
        self.log = open(folder / "cluster.log", "ab")
        self.child = subprocess.Popen(
            [sys.executable, "-m", "cluster", "--folder", str(folder), *arguments],
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
        )
        line = self.child.stdout.readline()
        assert line, (folder / "cluster.log").read_text()
        self.ready = json.loads(line)
        self.kube = kube.Kube(self.ready["kubeconfig"])

    def control(self, method, path, value=None):
        """A request to the control endpoint."""
        request = urllib.request.Request(
            self.ready["control"] + path,
            method=method,
            data=None if value is None else json.dumps(value).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def fault(self, **fault):
        """A fault for as long as the block runs."""
        number = self.control("POST", "/faults", fault)["id"]
        try:
            yield
        finally:
            self.control("DELETE", f"/faults/{number}")

    def stop(self):
        self.kube.close()
        self.child.terminate()
        status = self.child.wait(20)
        self.child.stdout.close()
        self.log.close()
        assert status == 0, f"the cluster ended with status {status}"
