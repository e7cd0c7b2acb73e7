"""What docs/deploy has: units, the container's parts, the configurations in them, and the Debian package."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

import harness

DEPLOY = os.path.join(harness.ROOT, "docs", "deploy")
CONFINED = os.path.join(harness.ROOT, "tests", "e2e", "confined.py")
EXPOSURE_MAX = 2.0  # as docs/deploy/README.md says


def path(*parts):
    return os.path.join(DEPLOY, *parts)


def read(*parts):
    with open(path(*parts), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ringmx-deploy-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def check_configuration(self, text):
        """`ringmx --check` likes it, on a machine whose own name may be no domain."""
        if not re.search(r"^hostname", text, re.M):
            text = 'hostname = "mx.example.org"\n' + text
        name = os.path.join(self.folder, "ringmx.conf")
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        result = run(harness.BINARY, "--check", "-c", name)
        self.assertEqual(0, result.returncode, result.stdout + result.stderr)


class Units(Folder):
    def unit(self, name):
        """The unit with the paths of this machine, for `verify` wants programs that exist."""
        text = read("systemd", name).replace("/usr/sbin/ringmx", harness.BINARY)
        text = text.replace("/usr/bin/ringmxctl", os.path.join(os.path.dirname(harness.BINARY), "ringmxctl"))
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)
        target = os.path.join(self.folder, name)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        return target

    def test_systemd_takes_the_units(self):
        units = [self.unit("ringmx.service"), self.unit("ringmx.socket")]
        result = run("systemd-analyze", "verify", *units)
        wrong = [line for line in result.stderr.splitlines() if "ringmx" in line]
        self.assertEqual([], wrong)

    def test_the_exposure_is_as_stated(self):
        result = run("systemd-analyze", "security", "--offline=true", path("systemd", "ringmx.service"))
        found = re.search(r"Overall exposure level for ringmx.service: ([\d.]+)", result.stdout)
        self.assertIsNotNone(found, result.stdout + result.stderr)
        self.assertLessEqual(float(found[1]), EXPOSURE_MAX)


class Container(Folder):
    def test_a_gateway_works_under_the_seccomp_profile(self):
        prefix = ["/usr/bin/python3", CONFINED, path("container", "seccomp.json")]
        with harness.Gateway(prefix=prefix, settings={"admin.http": '"127.0.0.1:0"'}) as gateway:
            status = os.path.join("/proc", str(gateway.process.pid), "status")
            with open(status, encoding="ascii") as file:
                self.assertIn("Seccomp:\t2", file.read())
            with gateway.client() as client:
                client.hello()
                self.assertEqual(250, client.transfer(harness.message("confined")).code)
            gateway.wait_messages("alice", 1)

    def test_without_io_uring_the_profile_would_not_do(self):
        profile = json.loads(read("container", "seccomp.json"))
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name != "io_uring_setup"]
        name = os.path.join(self.folder, "seccomp.json")
        with open(name, "w", encoding="utf-8") as file:
            json.dump(profile, file)
        gateway = harness.Gateway(prefix=["/usr/bin/python3", CONFINED, name])
        self.addCleanup(gateway.close)
        gateway.write_configuration()
        gateway.launch()
        self.assertEqual(78, gateway.process.wait(60))
        self.assertIn("io_uring", gateway.log_text())

    def test_configurations_are_good(self):
        self.check_configuration(read("container", "ringmx.conf"))
        self.check_configuration(read("ringmx.conf"))

    def test_the_manifest_has_good_parts(self):
        parts = list(yaml.safe_load_all(read("container", "kubernetes.yaml")))
        kinds = {part["kind"]: part for part in parts}
        self.assertEqual({"ConfigMap", "StatefulSet", "Service", "PodDisruptionBudget"}, set(kinds))
        text = kinds["ConfigMap"]["data"]["ringmx.conf"]
        self.check_configuration(text)
        pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
        seconds = sum(int(found) for found in re.findall(r'(?:notice|timeout) = "(\d+)s"', text))
        self.assertGreater(pod["terminationGracePeriodSeconds"], seconds + 20)
        ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
        self.assertIn(f':{ports["smtp"]}"', text)
        self.assertIn(f':{ports["admin"]}"', text)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertIn(pod["containers"][0][probe]["httpGet"]["port"], ports)

    @unittest.skipIf(harness.SLOW, "the libraries of the release program")
    def test_the_image_has_every_library(self):
        listed = set(re.findall(r"\blib[\w.+-]+", read("container", "Dockerfile")))
        needed = set()
        for line in run("ldd", harness.BINARY).stdout.splitlines():
            found = re.search(r"=> (/\S+)", line)
            name = os.path.realpath(found[1]) if found else None
            owner = run("dpkg", "-S", name).stdout.partition(":")[0] if name else ""
            needed |= {owner} - {"", "libc6", "libgcc-s1", "libstdc++6"}
        known, new = set(), listed  # what packages of the image bring along
        while new - known:
            known |= new
            depends = run("dpkg-query", "-W", "-f", "${Depends} ${Pre-Depends} ", *sorted(new)).stdout
            new = set(re.findall(r"\blib[\w.+-]+", depends))
        self.assertEqual(set(), needed - known)


@unittest.skipIf(harness.FLAVOUR != "release", "the package has the release program")
class Package(Folder):
    def test_the_package_works(self):
        result = run("make", "-C", harness.ROOT, "deb", "MAKELEVEL=1")
        self.assertEqual(0, result.returncode, result.stdout + result.stderr)
        package, = (name for name in glob.glob(os.path.join(harness.ROOT, "build/deb/ringmx_*.deb")))
        run("dpkg-deb", "-x", package, self.folder)
        for name in ("usr/sbin/ringmx", "usr/bin/ringmxctl", "usr/share/man/man8/ringmx.8.gz",
                     "lib/systemd/system/ringmx.service", "lib/systemd/system/ringmx.socket",
                     "usr/share/doc/ringmx/deploy/README.md.gz", "usr/share/doc/ringmx/deploy/container/seccomp.json"):
            self.assertTrue(os.path.exists(os.path.join(self.folder, name)), name)
        with open(os.path.join(self.folder, "etc/ringmx/ringmx.conf"), encoding="utf-8") as file:
            self.check_configuration(file.read())
        fields = run("dpkg-deb", "-f", package).stdout
        self.assertRegex(fields, r"Depends: .*libmicrohttpd12")
        self.assertEqual("/etc/ringmx/ringmx.conf\n", run("dpkg-deb", "-I", package, "conffiles").stdout)
        gateway = harness.Gateway(prefix=["/bin/sh", "-c", 'shift; exec "$0" "$@"',
                                          os.path.join(self.folder, "usr/sbin/ringmx")])
        with gateway, gateway.client() as client:
            client.hello()
            self.assertEqual(250, client.transfer(harness.message("packaged")).code)
            gateway.wait_messages("alice", 1)


if __name__ == "__main__":
    sys.exit(unittest.main())
