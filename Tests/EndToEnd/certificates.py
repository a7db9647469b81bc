"""Certificates for tests, made on the spot: nothing of this may ever be trusted elsewhere."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def name_of(common_name):
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Weir tests"),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ])


class Certificate:
    """A certificate and its key, signed by an authority or by itself."""

    def __init__(self, common_name, names=(), authority=None, is_authority=False,
                 start=-DAY, end=30 * DAY, kind="ec", revocations=None):
        if kind == "rsa":
            self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())
        subject = name_of(common_name)
        issuer = authority or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority.certificate.subject if authority else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() + start)
            .not_valid_after(now() + end)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general_name(name) for name in names]), False
            )
        if revocations:
            place = x509.DistributionPoint(
                [x509.UniformResourceIdentifier(revocations)], None, None, None
            )
            builder = builder.add_extension(x509.CRLDistributionPoints([place]), False)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())
        self.chain = authority.chain_below_root() if authority else []
        self.issuer = issuer

    def chain_below_root(self):
        return [] if self.issuer is self else [self.certificate, *self.chain]

    @property
    def pem(self):
        certificates = [self.certificate, *self.chain]
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)

    def key_pem(self, pass_phrase=None):
        encryption = serialization.NoEncryption()
        if pass_phrase:
            encryption = serialization.BestAvailableEncryption(pass_phrase)
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    @property
    def serial(self):
        return self.certificate.serial_number

    def write(self, folder, name):
        """Writes NAME.pem and NAME.key; returns their paths as a listener's fields."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.pem").write_bytes(self.pem)
        (folder / f"{name}.key").write_bytes(self.key_pem())
        return {"certificate": str(folder / f"{name}.pem"), "key": str(folder / f"{name}.key")}

    def staple(self):
        """What a responder of the issuer says of it, in DER: all is well."""
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=self.certificate,
                issuer=self.issuer.certificate,
                algorithm=hashes.SHA256(),
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=now() - DAY,
                next_update=now() + DAY,
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.NAME, self.issuer.certificate)
        )
        response = builder.sign(self.issuer.key, hashes.SHA256())
        return response.public_bytes(serialization.Encoding.DER)


def general_name(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def make_authority(common_name="Test authority", parent=None):
    return Certificate(common_name, authority=parent, is_authority=True)
