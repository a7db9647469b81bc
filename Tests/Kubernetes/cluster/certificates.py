"""The cluster's certificate authority and what it signs, made by openssl."""

import pathlib
import subprocess

DAYS = "3650"
NAMES = (
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
    "DNS:weir-test-cluster,IP:127.0.0.1,IP:::1,IP:10.96.0.1"
)


def _openssl(folder, *arguments, text=None):
    subprocess.run(
        ["openssl", *arguments],
        cwd=folder,
        check=True,
        input=text,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _request(folder, name, subject):
    _openssl(
        folder,
        "req",
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.csr",
        "-subj",
        subject,
    )


def sign(folder, name, subject, extensions):
    """Makes name.crt and name.key, signed by the authority in the folder."""
    folder = pathlib.Path(folder)
    _request(folder, name, subject)
    (folder / f"{name}.ext").write_text(extensions, encoding="utf-8")
    _openssl(
        folder,
        "x509",
        "-req",
        "-in",
        f"{name}.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        DAYS,
        "-sha256",
        "-extfile",
        f"{name}.ext",
        "-out",
        f"{name}.crt",
    )


def make(folder):
    """The authority, the server's certificate, and the administrator's."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "admin.crt").exists():
        return
    _openssl(
        folder,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-days",
        DAYS,
        "-subj",
        "/CN=weir-test-cluster-ca",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
    )
    sign(
        folder,
        "server",
        "/CN=kube-apiserver",
        f"subjectAltName={NAMES}\nextendedKeyUsage=serverAuth\n",
    )
    client(folder, "admin", "kubernetes-admin", "system:masters")


def client(folder, name, user, *groups):
    """A certificate by which a user with these groups is known."""
    subject = f"/CN={user}" + "".join(f"/O={group}" for group in groups)
    sign(folder, name, subject, "extendedKeyUsage=clientAuth\n")
