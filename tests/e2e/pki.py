"""Certificates for the tests, made with the openssl command: authorities, servers and clients, of any
kind of key, good and bad. Made when first asked for, kept while the process lives, and then removed.

    authority().issue("mx.example.org")                    one that is good: .chain and .key are files
    authority().issue("mx.example.org", key="rsa2048")     ecdsa, p384, ed25519, rsa1024, ...
    authority().issue("mx.example.org", begins_d=-9, ends_d=-1)             expired
    authority("other").below().issue("*.example.org")      another root, and one between it and the leaf
"""
import atexit
import collections
import datetime
import functools
import hashlib
import os
import shutil
import ssl
import subprocess
import tempfile

KEYS = {
    "ecdsa": ("EC", "ec_paramgen_curve:P-256"),
    "p384": ("EC", "ec_paramgen_curve:P-384"),
    "p521": ("EC", "ec_paramgen_curve:P-521"),
    "rsa1024": ("RSA", "rsa_keygen_bits:1024"),
    "rsa2048": ("RSA", "rsa_keygen_bits:2048"),
    "rsa3072": ("RSA", "rsa_keygen_bits:3072"),
    "ed25519": ("ED25519", None),
}
CONFIGURATION = """[ca]
default_ca = c
[c]
new_certs_dir = .
database = index.txt
unique_subject = no
default_md = sha256
rand_serial = yes
policy = p
[p]
commonName = supplied
"""


@functools.cache
def directory():
    path = tempfile.mkdtemp(prefix="ringmx-pki-", dir=os.environ.get("RINGMX_TMP"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def place(name, count=[0]):  # pylint: disable=dangerous-default-value
    """A path that nobody has yet."""
    count[0] += 1
    return os.path.join(directory(), f"{count[0]:03}-{name.replace('*', '_').replace(' ', '-')}")


def openssl(*arguments, cwd=None):
    done = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          cwd=cwd, check=False, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(arguments)}:\n{done.stderr.decode()}")
    return done.stdout


def make_key(name, kind):
    path = place(name + ".key")
    algorithm, option = KEYS[kind]
    openssl("genpkey", "-algorithm", algorithm, *(["-pkeyopt", option] if option else []),
            "-out", path)
    os.chmod(path, 0o600)
    return path


def write(name, text):
    path = place(name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def fingerprint(der):
    """SHA-256 of a certificate as it goes over the wire."""
    return hashlib.sha256(der).hexdigest()


class Certificate(collections.namedtuple("Certificate", "chain key")):
    """Paths of a chain, leaf first, and of its private key."""

    __slots__ = ()

    def fingerprint(self):
        """Of the leaf."""
        return fingerprint(ssl.PEM_cert_to_DER_cert(read(self.chain).split("-----END")[0]
                                                    + "-----END CERTIFICATE-----\n"))


class Authority:
    """One that signs. `path` is its certificate, `chain` what stands between it and the root."""

    def __init__(self, name, issuer=None, key="ecdsa"):
        self.name = name
        self.key = make_key(name, key)
        self.folder = place(name)
        os.mkdir(self.folder)
        write_in = os.path.join(self.folder, "ca.cnf")
        with open(write_in, "w", encoding="ascii") as file:
            file.write(CONFIGURATION)
        with open(os.path.join(self.folder, "index.txt"), "w", encoding="ascii"):
            pass
        if issuer is None:
            self.path = place(name + ".pem")
            openssl("req", "-x509", "-new", "-key", self.key, "-subj", f"/CN={name}", "-days", "30",
                    "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", self.path)
            self.chain = ""
        else:
            self.path = issuer.sign(self.key, name, "basicConstraints=critical,CA:true\n"
                                    "keyUsage=critical,keyCertSign,cRLSign\n", -1, 30)
            self.chain = read(self.path) + issuer.chain

    def sign(self, key, name, extensions, begins_d, ends_d):
        """A certificate for a key; returns its path."""
        request, result = place("request"), place(name + ".pem")
        openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        now = datetime.datetime.now(datetime.timezone.utc)
        begins, ends = ((now + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")
                        for days in (begins_d, ends_d))
        openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", self.path,
                "-keyfile", self.key, "-in", request, "-out", result,
                "-startdate", begins, "-enddate", ends,
                "-extfile", write("extensions", extensions), cwd=self.folder)
        return result

    @functools.lru_cache(maxsize=None)  # pylint: disable=method-cache-max-size-none
    def issue(self, *names, key="ecdsa", begins_d=-1, ends_d=30, client=False, common_name=None,
              number=0):
        """A leaf for DNS names (none: without subjectAltName, as its common name says). Asked for the
        same again it gives the same; `number` makes another."""
        common_name = common_name or (names[0] if names else f"nameless {number}")
        path = make_key(common_name, key)
        extensions = "basicConstraints=CA:false\nkeyUsage=critical,digitalSignature\n"
        extensions += f"extendedKeyUsage={'clientAuth' if client else 'serverAuth'}\n"
        if names:
            extensions += "subjectAltName=" + ",".join("DNS:" + name for name in names) + "\n"
        leaf = self.sign(path, common_name, extensions, begins_d, ends_d)
        return Certificate(write(f"{common_name}-chain.pem", read(leaf) + self.chain), path)

    @functools.lru_cache(maxsize=None)  # pylint: disable=method-cache-max-size-none
    def below(self, name="intermediate"):
        """An authority that this one has signed."""
        return Authority(f"{self.name} {name}", self)


@functools.cache
def authority(name="root"):
    return Authority(name)


def mismatched(certificate, other):
    """The chain of one with the key of the other."""
    return Certificate(certificate.chain, other.key)
