"""What docs/deploy has: units, the container's parts, the configurations in them, and the Debian package."""
import glob
import grp
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import yaml

import harness

DEPLOY = os.path.join(harness.ROOT, "docs", "deploy")
CONFINED = os.path.join(harness.ROOT, "tests", "e2e", "confined.py")
EXPOSURE_MAX = 2.1  # as docs/deploy/README.md says

LEAKS = "the leak sanitizer wants ptrace, which the profile denies"


def path(*parts):
    return os.path.join(DEPLOY, *parts)


def read(*parts):
    with open(path(*parts), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, **options)


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ringmx-deploy-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def program(self, name, text):
        """A shell script that stands in for a program; returns its path."""
        target = Path(self.folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("#!/bin/sh\n" + text, encoding="utf-8")
        target.chmod(0o755)
        return str(target)

    def check_configuration(self, text):
        """`ringmx --check` likes it, on a machine whose own name may be no domain; returns what it says."""
        if not re.search(r"^hostname", text, re.M):
            text = 'hostname = "mx.example.org"\n' + text
        name = os.path.join(self.folder, "ringmx.conf")
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        result = run(harness.BINARY, "--check", "-c", name)
        self.assertEqual(0, result.returncode, result.stdout + result.stderr)
        return result.stdout


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

    @staticmethod
    def words(section):
        """The words of one section of the service."""
        text = read("systemd", "ringmx.service").partition(f"[{section}]\n")[2].partition("\n[")[0]
        return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"\w+=", line))

    def test_it_may_write_where_the_first_configuration_delivers(self):
        folder = os.path.dirname(re.search(r"maildir:([^%\"]+)", read("ringmx.conf"))[1])
        words = self.words("Service")
        self.assertIn(folder, words["ReadWritePaths"].replace("-", "").split())
        status = os.stat(folder)
        self.assertTrue(status.st_mode & 0o020, oct(status.st_mode))
        self.assertIn(grp.getgrgid(status.st_gid).gr_name, words["SupplementaryGroups"].split())

    def test_nothing_ends_the_attempts_to_start(self):
        self.assertEqual("0", self.words("Unit")["StartLimitIntervalSec"])
        self.assertEqual("yes", self.words("Service")["RuntimeDirectoryPreserve"])

    def test_a_reload_fails_only_when_it_was_refused(self):
        command = self.words("Service")["ExecReload"].replace("$$", "$")
        for code, fails in ((0, False), (75, False), (69, True), (78, True)):
            stand_in = self.program("ringmxctl", f'[ "$*" = reload ] && exit {code}\n')
            result = run(*shlex.split(command.replace("/usr/bin/ringmxctl", stand_in)))
            self.assertEqual(fails, result.returncode != 0, code)


class Container(Folder):
    @unittest.skipIf(harness.FLAVOUR == "asan", LEAKS)
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

    @unittest.skipIf(harness.FLAVOUR == "asan", LEAKS)
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
        said = self.check_configuration(text)
        pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
        seconds = sum(int(found) for found in re.findall(r'(?:notice|timeout) = "(\d+)s"', text))
        self.assertGreater(pod["terminationGracePeriodSeconds"], seconds + 20)
        self.assertRegex(text, r"(?m)^workers *= *[1-9]")  # else the sum goes by the CPUs of the node
        limit = re.fullmatch(r"(\d+)Gi", pod["containers"][0]["resources"]["limits"]["memory"])
        self.assertLess(float(re.search(r"([\d.]+)  together", said)[1]), int(limit[1]) * 1024)
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
        self.assertRegex(fields, r"Depends: .*libargon2-1.*libmicrohttpd12")
        self.assertEqual("/etc/ringmx/ringmx.conf\n", run("dpkg-deb", "-I", package, "conffiles").stdout)
        gateway = harness.Gateway(prefix=["/bin/sh", "-c", 'shift; exec "$0" "$@"',
                                          os.path.join(self.folder, "usr/sbin/ringmx")])
        with gateway, gateway.client() as client:
            client.hello()
            self.assertEqual(250, client.transfer(harness.message("packaged")).code)
            gateway.wait_messages("alice", 1)
        self.check_scripts(package)

    def check_scripts(self, package):
        """An upgrade restarts the service and leaves the sockets alone; removal stops both."""
        run("dpkg-deb", "-e", package, os.path.join(self.folder, "scripts"))
        self.assertEqual([], self.script("preinst", "upgrade", "0.0.9"))
        self.assertEqual([], self.script("prerm", "upgrade", "9.9.9"))
        self.assertEqual([], self.script("postinst", "configure", ""))
        installed = Path(self.folder, "installed").read_text(encoding="utf-8").splitlines()
        self.assertIn(f"-o root -g ringmx -m 0640 /dev/null {self.folder}/settings/users", installed)
        self.assertIn(f"-d -o root -g ringmx -m 0750 {self.folder}/settings/dkim", installed)
        self.assertEqual(["--system daemon-reload", "try-restart ringmx.service"],
                         self.script("postinst", "configure", "0.0.9"))
        self.assertEqual(["--system daemon-reload"], self.script("postinst", "configure", "0.0.9", good=False))
        self.assertEqual(["stop ringmx.socket ringmx.service"], self.script("prerm", "remove"))
        spool = Path(self.folder, "spool")
        for kept in (True, False):
            spool.mkdir(exist_ok=True)
            if kept:
                Path(spool, "0000000000000001.segment").touch()
            settings = Path(self.folder, "settings")
            Path(settings, "dkim").mkdir(parents=True)
            Path(settings, "users").write_text("alice:secret\n" if kept else "", encoding="utf-8")
            self.script("postrm", "purge")
            self.assertEqual([kept] * 2, [spool.exists(), Path(settings, "users").exists()])
            self.assertFalse(Path(settings, "dkim").exists())
            self.assertEqual(kept, settings.exists())
            shutil.rmtree(spool, True)
            shutil.rmtree(settings, True)

    def script(self, name, *arguments, good=True):
        """Runs a maintainer script as on a machine with systemd; returns what systemd was asked for."""
        text = Path(self.folder, "scripts", name)
        if not text.exists():
            return []
        calls = Path(self.folder, "calls")
        calls.write_text("", encoding="utf-8")
        for stand_in in ("adduser", "chgrp", "chmod", "deb-systemd-helper"):
            self.program("bin/" + stand_in, "exit 0\n")
        self.program("bin/install", f'echo "$*" >>{self.folder}/installed\n')
        for stand_in in ("deb-systemd-invoke", "systemctl"):
            self.program("bin/" + stand_in, f'echo "$*" >>{calls}\n')
        checked = self.program("bin/ringmx", f"exit {0 if good else 78}\n")
        script = text.read_text(encoding="utf-8").replace("/run/systemd/system", self.folder)
        script = script.replace("/usr/sbin/ringmx", checked).replace("/var/spool/ringmx", self.folder + "/spool")
        script = script.replace("/etc/ringmx", self.folder + "/settings")
        environment = {"PATH": self.folder + "/bin:/usr/bin:/bin"}
        result = run("/bin/sh", self.program("script", script.partition("\n")[2]), *arguments, env=environment)
        self.assertEqual(0, result.returncode, result.stderr)
        return calls.read_text(encoding="utf-8").splitlines()

    def test_an_installation_fits_together(self):
        result = run("make", "-C", harness.ROOT, "install", "MAKELEVEL=1", "DESTDIR=" + self.folder)
        self.assertEqual(0, result.returncode, result.stdout + result.stderr)
        default, = re.findall(r"\(default: (/\S+)\)", run(harness.BINARY, "--help").stdout)
        self.assertTrue(os.path.exists(self.folder + default), default)
        unit = Path(self.folder, "usr/local/lib/systemd/system/ringmx.service").read_text(encoding="utf-8")
        for program in set(re.findall(r"/\S*/ringmx(?:ctl)?\b(?= |$)", unit, re.M)) - {"/var/spool/ringmx"}:
            self.assertTrue(os.path.exists(self.folder + program), program)


if __name__ == "__main__":
    sys.exit(unittest.main())
