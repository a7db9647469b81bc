"""Tenants on the test cluster: keys in Secrets, what statuses say, limits over several gateways."""

import base64
import hashlib
import json
import secrets
import threading
import time
import urllib.error
import urllib.request

import fleet as fleets
import kube
import pytest
from fleet import ask

pytestmark = pytest.mark.skipif(not fleets.binary(), reason="WEIR_BINARY names the program to test")

MODEL = "chat"
SECRET = "team-a-key"


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    yield from fleets.weir_cluster(
        request, tmp_path_factory.mktemp("tenants"), "tenants", "--node", "node-1")


@pytest.fixture(scope="module")
def fleet(cluster, request):
    """Two gateways that read Secrets often, and a model of two names."""
    for fleet in fleets.fresh(cluster, request):
        fleet.gateways(2, "--key-period", "0.3")
        fleet.controllers()
        fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy())
        fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy("spare"))
        fleet.create(fleets.WEIR_API, "rolloutpolicies", fleets.custom(
            "RolloutPolicy", "careful", {"steps": [{"weight": 50, "hold": "1s"}]}))
        fleet.workload(MODEL, 1)
        fleet.create(fleets.WEIR_API, "models", fleets.model(
            MODEL, minimum=1, maximum=1, rollout={"policy": "careful"}))
        fleet.wait_ready(MODEL, 1)
        fleet.wait_ready("weir-gateway", 2)
        fleet.wait_ready("weir-controller", 1)
        for address in fleet.gateway_addresses():
            kube.eventually(lambda a=address: ask(a, MODEL)[0] == 200, "an answer")
        yield fleet


def make_key():
    key = f"weir-{secrets.token_hex(16)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def tenant(fleet, name, keys, **spec):
    path = fleet.path(fleets.WEIR_API, "tenants", name)
    answer = fleet.kube.apply(path, fleets.custom("Tenant", name, {"keys": keys, **spec}), "tests",
                              force="true")
    assert answer.code in (200, 201), answer.body


def forget(fleet, name):
    fleet.kube.delete(fleet.path(fleets.WEIR_API, "tenants", name)).expect(200)
    everywhere(fleet, None, 200)


def secret(fleet, **entries):
    """The Secret has these entries and no others."""
    path = fleet.path("/api/v1", "secrets", SECRET)
    value = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": {
        name: base64.b64encode(text.encode()).decode() for name, text in entries.items()}}
    answer = fleet.kube.apply(path, value, "tests", force="true")
    assert answer.code in (200, 201), answer.body


def everywhere(fleet, key, status):
    """Every gateway answers a request with the key so, before long."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for address in fleet.gateway_addresses():
        kube.eventually(lambda a=address: ask(a, MODEL, **headers)[0] == status,
                        f"{status} from {address}")


def test_policies_say_who_uses_them(fleet):
    for plural, name in (("scalingpolicies", "standard"), ("rolloutpolicies", "careful")):
        found = fleet.said(name, "InUse", "InUse", plural)
        assert found["status"] == "True" and MODEL in found["message"]
        policy = fleet.get(fleets.WEIR_API, plural, name)
        generation = policy["metadata"]["generation"]
        assert policy["status"]["observedGeneration"] == generation
        assert policy["status"]["models"] == 1
        assert fleet.condition(name, "Accepted", plural)["status"] == "True"
        assert found["observedGeneration"] == generation
    assert fleet.said("spare", "InUse", "Unused", "scalingpolicies")["status"] == "False"
    path = fleet.path(fleets.WEIR_API, "scalingpolicies", "spare")
    before = fleet.kube.get(path).expect(200)["metadata"]["generation"]
    fleet.kube.patch(path, {"spec": {"scaleToZero": {"idleAfter": "9s"}}}).expect(200)
    kube.eventually(
        lambda: fleet.kube.get(path).expect(200)["status"]["observedGeneration"] > before,
        "the new generation")


def test_keys_come_from_secrets(fleet):
    own, own_hash = make_key()
    first, second = make_key()[0], make_key()[0]
    tenant(fleet, "team-a", [{"sha256": own_hash}, {"secretRef": {"name": SECRET}}],
           models=[MODEL, "later"])
    everywhere(fleet, None, 401)
    everywhere(fleet, own, 200)
    # What is missing is told in words, in the status and as an event.
    found = fleet.said("team-a", "KeysFound", "SecretMissing", "tenants")
    assert found["status"] == "False" and SECRET in found["message"]
    kube.eventually(lambda: fleet.events("team-a", "SecretMissing", "Tenant"), "the event")
    assert "later" in fleet.said("team-a", "ModelsFound", "ModelMissing", "tenants")["message"]
    secret(fleet, key=first + "\n")
    everywhere(fleet, first, 200)
    fleet.said("team-a", "KeysFound", "Found", "tenants")
    value = fleet.get(fleets.WEIR_API, "tenants", "team-a")
    assert value["status"]["keys"] == 2
    assert value["status"]["observedGeneration"] == value["metadata"]["generation"]
    kube.eventually(lambda: fleet.events("team-a", "KeysFound", "Tenant"), "the event")
    # The old and the new one for a while, then the new one alone.
    secret(fleet, key=f"{first}\n{second}\n")
    everywhere(fleet, second, 200)
    everywhere(fleet, first, 200)
    secret(fleet, key=second)
    everywhere(fleet, first, 401)
    everywhere(fleet, second, 200)
    # Without the server the last keys stay good.
    addresses = fleet.gateway_addresses()
    fleet.cluster.control("POST", "/server/stop")
    try:
        for address in addresses:
            assert ask(address, MODEL, Authorization=f"Bearer {second}")[0] == 200
    finally:
        fleet.cluster.control("POST", "/server/start")
    for entries, word in (({"key": "two words"}, "SecretInvalid"), ({"other": second}, "no entry")):
        secret(fleet, **entries)
        everywhere(fleet, second, 401)
        kube.eventually(lambda w=word: w in json.dumps(
            fleet.condition("team-a", "KeysFound", "tenants")), f"{word} to be said")
        everywhere(fleet, own, 200)
    tells_nothing(fleet, [own, first, second, "two words"])
    forget(fleet, "team-a")


def tells_nothing(fleet, keys):
    """Neither keys nor their hashes are in anything that is read."""
    told = "".join(text for app in ("weir-gateway", "weir-controller")
                   for text in fleet.log(app).values())
    told += fleet.kube.get(fleet.path("/apis/events.k8s.io/v1", "events")).body.decode()
    told += json.dumps(fleet.get(fleets.WEIR_API, "tenants", "team-a")["status"])
    for app in ("weir-gateway", "weir-controller"):
        for pod in fleet.pods(app, True):
            for path in ("/metrics", "/api/v1/tenants", "/api/v1/snapshot", "/api/v1/load"):
                address = f"http://{pod['status']['podIP']}:9901{path}"
                try:
                    with urllib.request.urlopen(address, timeout=30) as answer:
                        told += answer.read().decode()
                except urllib.error.HTTPError as error:
                    told += error.read().decode()
    assert "team-a" in told
    for key in keys:
        encoded = base64.b64encode(key.encode()).decode()
        for text in (key, encoded, hashlib.sha256(key.encode()).hexdigest()):
            assert text not in told


def test_a_secret_that_may_not_be_read(fleet):
    key, digest = make_key()
    tenant(fleet, "team-b", [{"sha256": digest}, {"secretRef": {"name": "somebody-elses"}}])
    found = fleet.said("team-b", "KeysFound", "SecretForbidden", "tenants")
    assert "somebody-elses" in found["message"] and "get" in found["message"]
    everywhere(fleet, key, 200)
    forget(fleet, "team-b")


def test_a_tenant_that_is_wrong_opens_nothing(fleet):
    """The only one has the same key twice, which no schema refuses: nobody may ask without."""
    key, digest = make_key()
    tenant(fleet, "wrong", [{"sha256": digest}, {"sha256": digest}])
    found = fleet.said("wrong", "Accepted", "Invalid", "tenants")
    assert "duplicate" in found["message"] and digest not in found["message"]
    everywhere(fleet, None, 401)
    everywhere(fleet, key, 401)
    forget(fleet, "wrong")


# Limits ------------------------------------------------------------------------------------------

RATE = 20


class Load:
    """Clients of a tenant, each at one gateway, that ask again and again with a pause between."""

    def __init__(self, key, *clients):
        self.headers = {"Authorization": f"Bearer {key}"}
        self.statuses, self.limits = set(), set()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=client) for client in clients]

    def _run(self, address, pause):
        while not self.stopping.wait(pause):
            status, _, headers = ask(address, MODEL, tokens=1, **self.headers)
            self.statuses.add(status)
            self.limits.add(headers["x-ratelimit-limit-requests"])
            if status == 429 and not headers["retry-after"]:
                self.statuses.add("429 without Retry-After")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def report(address):
    with urllib.request.urlopen(f"http://{address}:9901/api/v1/tenants", timeout=30) as answer:
        return json.load(answer)


def test_limits_hold_over_all_gateways(fleet):
    """Of two gateways one is asked for far more than the limit, and the other for a little.

    Prints what was admitted, of the limit.
    """
    key, digest = make_key()
    tenant(fleet, "busy", [{"sha256": digest}], limits={"requestsPerSecond": RATE})
    everywhere(fleet, None, 401)
    hosts = [address.rpartition(":")[0] for address in fleet.gateway_addresses()]

    def share(host):
        found = [t for t in report(host)["tenants"] if t["name"].endswith("/busy")]
        return found[0]["limits"]["requests"]["share"] if found else 0

    def admitted():
        total = 0
        for host in hosts:
            with urllib.request.urlopen(f"http://{host}:9901/metrics", timeout=30) as answer:
                for line in answer.read().decode().splitlines():
                    if (line.startswith("weir_tenant_requests_total") and '/busy"' in line
                            and 'outcome="admitted"' in line):
                        total += float(line.rpartition(" ")[2])
        return total

    def window():
        """What was admitted in some seconds, of the limit."""
        early, start = time.monotonic(), admitted()
        first = time.monotonic()
        load.stopping.wait(5)
        last, end = time.monotonic(), admitted()
        late = time.monotonic()
        # Never more than the limit, the burst of a second aside.
        assert end - start <= 1.1 * RATE * (late - early) + RATE
        part = (end - start) / (RATE * (last - first))
        print(f"admitted {100 * part:.1f} % of the limit; shares {[share(h) for h in hosts]}")
        return 0.9 <= part <= 1.1

    kube.eventually(lambda: sum(map(share, hosts)) > 0.99, "the limit to be shared out")
    with Load(key, (f"{hosts[0]}:8080", 0.01), (f"{hosts[0]}:8080", 0.01),
              (f"{hosts[1]}:8080", 0.25)) as load:
        # The busy one has what the other one leaves.
        kube.eventually(lambda: share(hosts[0]) > 0.6 and share(hosts[1]) > 0.1, "its share")
        kube.eventually(window, "seconds in which the limit is used", 90)
    assert load.statuses == {200, 429} and load.limits == {str(RATE)}
    assert sum(map(share, hosts)) <= 1.001
    forget(fleet, "busy")
