"""A scanner of TLS on listeners as they are by default: `make scan-tls` installs and runs it."""

import json
import os
import signal
import subprocess

import pytest

import harness
from certificates import DAY, Certificate, make_authority
from harness import model

TESTSSL = os.environ.get("WEIR_TESTSSL")
# What is not the listener's: fields of answers, which are the model servers', and records of DNS.
OTHERS = {"HSTS", "security_headers", "DNS_CAArecord"}
# About the scanner itself.
SCANNER = {"engine_problem", "sessionresumption_ticket", "overall_grade"}
HARMLESS = {"OK", "INFO", "DEBUG"}
GRADES = {"A", "A+"}


@pytest.mark.skipif(not TESTSSL, reason="`make scan-tls` installs and runs it")
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_testssl_finds_nothing(weir, tmp_path, kind):
    authority = make_authority()
    certificate = Certificate(
        "localhost", ["localhost"], authority, end=200 * DAY, kind=kind,
        revocations="http://localhost/revoked.crl",
    )
    tls = certificate.write(tmp_path, "localhost")
    listeners = [
        {"name": "http", "address": "127.0.0.1:0"},
        {"name": "https", "address": "127.0.0.1:0", "tls": tls},
    ]
    first = harness.gateway(tmp_path, listeners=listeners)
    variants = {"v1": ["http://127.0.0.1:9"]}
    served = model("gauge", variants, protocol="HTTP", paths=[{"prefix": "/"}])
    gateway = weir(served, gateway=first)
    port = json.loads(gateway.ports_path.read_text())["https"].rpartition(":")[2]
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    report = tmp_path / "report.json"
    # It takes minutes, and has a deadline of its own.
    signal.alarm(0)
    done = subprocess.run(
        [TESTSSL, "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--add-ca",
         tmp_path / "authority.pem", "--jsonfile", report, f"localhost:{port}"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, check=False,
    )  # fmt: skip
    findings = json.loads(report.read_text())
    assert len(findings) > 80, done.stdout[-3_000:]
    seen = {finding["id"]: finding for finding in findings}
    assert seen["TLS1_3"]["severity"] == seen["TLS1_2"]["severity"] == "OK"
    assert {seen[name]["finding"] for name in ("SSLv2", "SSLv3", "TLS1", "TLS1_1")} <= {
        "not offered"
    }
    bad = [
        f"{finding['severity']} {finding['id']}: {finding['finding']}"
        for finding in findings
        if finding["severity"] not in HARMLESS and finding["id"] not in OTHERS | SCANNER
    ]
    assert not bad
    # Versions before 3.2 give no grade.
    grade = seen["overall_grade"]["finding"] if "overall_grade" in seen else None
    assert grade is None or grade in GRADES
    good = sum(finding["severity"] == "OK" for finding in findings)
    print(f"\n{kind}: {len(findings)} findings, {good} of them good, none bad; grade {grade}")
