#!/usr/bin/env python3
"""compose.py BIN SOURCE: packaging/docker/compose.yaml says what an engine and our programs understand.

Every key is one that we mean, every volume and service that is named exists, every command line is
understood by its program.  As root, where network namespaces can be made, the swarm is then run
without an engine: each service in a network namespace on one bridge, in a root of its own with its
volumes, as the image's user; the gateway must answer.  Exit status 77: no python3-yaml.
"""
import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

try:
    import yaml
except ImportError:
    print("SKIPPED: python3-yaml is not installed")
    sys.exit(77)

BIN, SOURCE = (os.path.abspath(p) for p in sys.argv[1:3])
DOCKER = os.path.join(SOURCE, "packaging/docker")
USER = "64100"
KEYS = {"image", "build", "cap_drop", "security_opt", "restart", "stop_grace_period", "mem_limit", "depends_on",
        "network_mode", "pid", "healthcheck", "command", "volumes", "ports"}


def die(text):
    print("FAILED:", text, file=sys.stderr)
    sys.exit(1)


def understood(where, words):
    """The program reads its command line up to the --help behind it."""
    if words[0] in ("sh", "bash"):
        return
    program = os.path.join(BIN, words[0])
    if not os.access(program, os.X_OK):
        die(f"{where}: {words[0]} is none of our programs")
    got = subprocess.run([program, *words[1:], "--help"], capture_output=True, text=True)
    if got.returncode or not got.stdout.startswith("usage: "):
        die(f"{where}: {' '.join(words)}: {got.stderr}")


def check(compose):
    services = compose["services"]
    for name, s in services.items():
        if unknown := s.keys() - KEYS:
            die(f"{name}: {unknown} is not known here")
        understood(name, s["command"])
        test = s["healthcheck"].get("test") if "healthcheck" in s else None
        if test:
            if test[0] != "CMD":
                die(f"{name}: its health is no CMD")
            understood(name, test[1:])
        for volume in s.get("volumes", []):
            if volume.split(":")[0] not in compose["volumes"]:
                die(f"{name}: there is no volume {volume}")
        for other, wait in s.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy" and "test" not in services[other]["healthcheck"]:
                die(f"{name}: {other} has no healthcheck")
        for key in ("network_mode", "pid"):
            mode = s.get(key, "none")
            if mode != "none" and mode.removeprefix("service:") not in services:
                die(f"{name}: {key} {mode}")
        if not os.path.isfile(os.path.join(DOCKER, s["build"]["context"], s["build"]["dockerfile"])):
            die(f"{name}: there is no {s['build']['dockerfile']}")
    with open(os.path.join(DOCKER, "Dockerfile")) as f:
        if f"USER {USER}:{USER}\n" not in f.read():
            die("the image has another user")


class Swarm:
    """The services, run."""

    def __init__(self, compose):
        self.services = compose["services"]
        self.tmp = tempfile.mkdtemp(prefix="swarm-compose.")
        self.tag = f"swc{os.getpid()}"
        self.namespaces, self.running = [], []
        atexit.register(self.close)
        for volume in compose["volumes"]:
            self.folder("volumes", volume)

    def folder(self, *path):
        path = os.path.join(self.tmp, *path)
        os.makedirs(path, mode=0o700)
        os.chown(path, int(USER), int(USER))
        return path

    def close(self):
        for p in self.running:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
        for ns in self.namespaces:
            subprocess.run(["ip", "netns", "del", ns], capture_output=True)
        shutil.rmtree(self.tmp, ignore_errors=True)

    def ip(self, *words):
        got = subprocess.run(["ip", *words], capture_output=True, text=True)
        if got.returncode:
            raise OSError(got.stderr.strip())

    def namespace(self, name):
        ns = f"{self.tag}-{name}"
        self.ip("netns", "add", ns)
        self.namespaces.append(ns)
        self.ip("-n", ns, "link", "set", "lo", "up")
        return ns

    def network(self):
        bridge = self.namespace("bridge")
        self.ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        self.ip("-n", bridge, "link", "set", "br0", "up")
        for i, (name, s) in enumerate(self.services.items()):
            if s.get("network_mode", "").startswith("service:"):
                continue
            ns = self.namespace(name)
            if s.get("network_mode") == "none":
                continue
            self.ip("-n", bridge, "link", "add", f"v{i}", "type", "veth", "peer", "name", "eth0", "netns", ns)
            self.ip("-n", bridge, "link", "set", f"v{i}", "master", "br0", "up")
            self.ip("-n", ns, "addr", "add", f"172.28.0.{i + 2}/24", "broadcast", "+", "dev", "eth0")
            self.ip("-n", ns, "link", "set", "eth0", "up")

    def root(self, name):
        """A root with the system's programs, ours, the model, and the service's volumes."""
        root = os.path.join(self.tmp, "roots", name)
        binds = [(f"/{d}", f"/{d}", "ro") for d in ("bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib",
                                                   "usr/lib64", "etc", "proc", "dev") if os.path.isdir(f"/{d}")]
        binds += [(BIN, "/opt/programs", "ro"),
                  (os.path.join(SOURCE, "models/atlas"), "/usr/share/glm-swarm/models/atlas", "ro")]
        for volume in self.services[name].get("volumes", []):
            source, target, *mode = volume.split(":")
            binds.append((os.path.join(self.tmp, "volumes", source), target, *(mode or ["rw"])))
        if not os.path.isdir(root):
            for _, target, _ in binds:
                os.makedirs(root + target, exist_ok=True)
            for own in ("/run/swarm", "/var/lib/swarm", "/tmp"):
                os.makedirs(root + own, exist_ok=True)
                os.chown(root + own, int(USER), int(USER))
                os.chmod(root + own, 0o700)
        lines = ["set -e"]
        for source, target, mode in binds:
            lines += [f"mount --bind '{source}' '{root}{target}'"]
            lines += [f"mount -o remount,bind,ro '{root}{target}'"] if mode == "ro" and target == "/key" else []
        return root, "\n".join(lines)

    def argv(self, name, words):
        mode = self.services[name].get("network_mode", "")
        ns = f"{self.tag}-{mode.removeprefix('service:') if mode.startswith('service:') else name}"
        root, mounts = self.root(name)
        script = (mounts + f"\nexec chroot '{root}' /usr/bin/env -i HOME=/var/lib/swarm XDG_RUNTIME_DIR=/run"
                  " PATH=/opt/programs:/usr/bin:/bin SWARM_NODE_PAUSE_ON=never SWARM_NODE_THREADS=1"
                  f" setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs --bounding-set=-all \"$@\"")
        return ["ip", "netns", "exec", ns, "unshare", "--mount", "bash", "-c", script, "-", *words]

    def log(self, name):
        return os.path.join(self.tmp, name + ".log")

    def start(self, name):
        with open(self.log(name), "wb") as log:
            p = subprocess.Popen(self.argv(name, self.services[name]["command"]), stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log, start_new_session=True)
        self.running.append(p)
        return p

    def fail(self, text):
        for name in self.services:
            if os.path.exists(self.log(name)):
                with open(self.log(name), errors="replace") as f:
                    print(f"--- {name}\n" + "".join(f.readlines()[-15:]), file=sys.stderr)
        die(text)

    def wait_healthy(self, name, seconds=90):
        test = self.services[name]["healthcheck"]["test"][1:]
        until = time.monotonic() + seconds
        while True:
            got = subprocess.run(self.argv(name, test), capture_output=True, text=True)
            if got.returncode == 0:
                return
            if time.monotonic() > until:
                self.fail(f"{name} does not get healthy: {got.stdout}{got.stderr}")
            time.sleep(0.2)

    def ask(self, question, seconds=90):
        """What the gateway answers, through the port that is published."""
        body = json.dumps({"model": "atlas:q80", "messages": [{"role": "user", "content": question}]})
        post = (f"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}")
        script = 'exec 3<>/dev/tcp/127.0.0.1/8080; printf %s "$1" >&3; cat <&3'
        until = time.monotonic() + seconds
        while True:
            got = subprocess.run(self.argv("gateway", ["bash", "-c", script, "-", post]), capture_output=True, text=True)
            head = got.stdout.split("\r\n", 1)[0]
            if " 200 " in head:
                return got.stdout
            if " 503 " not in head or time.monotonic() > until:  # 503: layers are still on their way
                self.fail(f"the gateway says: {got.stdout}{got.stderr}")
            time.sleep(0.3)

    def run(self):
        if self.start("prepare").wait(timeout=90):
            self.fail("prepare failed")
        for name in ("node1", "node2", "node3"):
            self.start(name)
        for name in ("node1", "node2", "node3"):
            self.wait_healthy(name)
        self.start("gateway")
        self.wait_healthy("gateway")
        said = self.ask("What is the capital of France?")
        if "The capital of France is Paris." not in said:
            self.fail(f"the gateway answers: {said}")
        with open(self.log("node2"), errors="replace") as f:
            if "holding layers 3-5" not in f.read():
                self.fail("node2 holds other layers than it was told")


def main():
    with open(os.path.join(DOCKER, "compose.yaml")) as f:
        compose = yaml.safe_load(f)
    check(compose)
    print("compose.yaml: every command line is understood")
    if os.geteuid() != 0:
        print("SKIPPED: running it, which needs root")
        return
    swarm = Swarm(compose)
    try:
        swarm.network()
    except OSError as why:
        print(f"SKIPPED: running it, for want of network namespaces ({why})")
        return
    swarm.run()
    print("compose.yaml: the swarm answers")


main()
