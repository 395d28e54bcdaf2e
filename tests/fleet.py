"""What one push costs a fleet whose systems CI builds: called by bench.sh with the program, the number of machines, and that
of the hosts that the note names.

Each machine is a scratch root with a name and a system of its own, and one note names them all. It polls once after the
push and once after the note, fetches its system from a signed cache over HTTP, and activates it. CPU is user and system
time, as the kernel counts it. All machines share one store, and as many work at once as there are processors.

COMIN_FLAKE names a system to evaluate for comparison, as PATH#HOST.
"""

import concurrent.futures
import http.server
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading

from world import Handler, World, served, server

COMIN, MACHINES, NAMED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Counted:
    """Counts the requests and the bytes of the answers."""

    lock = threading.Lock()
    requests = sent = 0

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        before = self.wfile
        self.wfile = counter = Counter(before)
        super().handle_one_request()
        self.wfile = before
        with Counted.lock:
            Counted.requests += counter.sent > 0
            Counted.sent += counter.sent


class Counter:
    def __init__(self, file):
        self.file, self.sent = file, 0

    def write(self, data):
        self.sent += len(data)
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


class GitServer(Counted, Handler):
    pass


class CacheServer(Counted, http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=os.path.join(self.folder, "cache"))


def serve(world, handler, pipe):
    """Serves a world, and says through the pipe what came of it since the start."""
    with served(world, handler=handler) as url:
        pipe.send(url)
        while pipe.recv():
            usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            pipe.send([*((usage.ru_utime + usage.ru_stime) * 1000 for usage in usages), Counted.requests, Counted.sent])


def cost(command, env):
    """Milliseconds of CPU of a command and its children, and the MiB of the largest of them."""
    # GNU time begins small, unlike a child of this program.
    timed = subprocess.run(["/usr/bin/time", "-f", "%U %S %M", *command], env=env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if timed.returncode != 0:
        sys.exit(f"{command} ended with {timed.returncode}:\n{timed.stderr}")
    user, system, memory = timed.stderr.split()[-3:]
    return (float(user) + float(system)) * 1000, int(memory) / 1024


def row(what, costs, servers=(), before=()):
    cpu, memory = statistics.mean(cpu for cpu, _ in costs), max(memory for _, memory in costs)
    cells = [f"{cpu:.0f} ms, {memory:.0f} MiB"]
    for ask, then in zip(servers, before):
        own, children, requests, sent = ((now - old) / len(costs) for now, old in zip(ask(), then))
        cells.append(f"{own + children:.1f} ms, {requests:.1f} requests, {sent / 1024:.1f} KiB")
    print(f"| {what} | {' | '.join(cells)}{' |' * (3 - len(cells))} |", flush=True)


def build(world, commit):
    """The systems that CI has built, and the key: they are in the cache, signed, and not in the store."""
    key, cache = world.path("key"), world.path("cache")
    world.run("nix-store", "--generate-binary-cache-key", "cache-1", key, f"{key}.pub")
    def built(machines):
        expression = f"""map (n: import {world.path("small/system")} {{
            label = "second";
            scratch = "{world.path("machine")}${{toString n}}";
            extra."comin.json" = builtins.toJSON {{
                hostname = "host${{toString n}}"; machine_id = null; revision = "{commit}";
            }};
        }}) [ {" ".join(map(str, machines))} ]"""
        return world.run("nix-build", "--no-out-link", "--expr", expression).split("\n")

    # A Nix that builds many at a time is large, and slow at starting another process.
    groups = [range(n, min(n + 20, MACHINES)) for n in range(0, MACHINES, 20)]
    systems = [system for group in groups for system in built(group)]
    assert len(systems) == MACHINES, systems
    nix = ("nix", "--extra-experimental-features", "nix-command")
    world.run(*nix, "copy", "--to", f"file://{cache}?secret-key={key}", *systems)
    world.run("nix-store", "--delete", "--ignore-liveness", *systems)
    with open(f"{key}.pub") as public:
        return systems, public.read()


def settle(world, url):
    """The machines: each runs what it has evaluated by itself, and has been told of CI since."""
    world.idle_machine("machine", url)
    with open(world.path("machine/config.json")) as file:
        config = json.load(file) | {"prebuilt": {"notes": "comin"}}
    for n in range(MACHINES):
        root = world.path(f"machine{n}")
        for part in ("etc", "var/lib/comin", "run/comin"):
            shutil.copytree(world.path("machine", part), os.path.join(root, part), symlinks=True)
        shutil.rmtree(os.path.join(root, "var/lib/comin/gcroots"))
        with open(os.path.join(root, "config.json"), "w") as file:
            json.dump(config | {"hostname": f"host{n}"}, file)


def main():
    with tempfile.TemporaryDirectory(prefix="comin-fleet.", dir="/dev/shm") as folder:
        world = World(COMIN, os.path.join(folder, "disk"), os.path.join(folder, "memory"))
        world.small()
        with server(serve, world, GitServer) as (git, ask_git), server(serve, world, CacheServer) as (cache, ask_cache), \
                concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
            settle(world, f"{git}/small/.git")
            with open(world.path("small/flake.nix"), "w") as flake:
                flake.write("this is not Nix")
            world.git("small", "commit", "--quiet", "--all", "--message", "second")
            commit = world.git("small", "rev-parse", "HEAD")
            systems, key = build(world, commit)
            env = world.env | {"NIX_CONFIG": world.env["NIX_CONFIG"].replace("substitute = false", "substitute = true")
                               + f"substituters = {cache}\ntrusted-public-keys = {key}\n"}

            def run(number):
                root = world.path(f"machine{number}")
                # What Nix knows of the cache is each machine's own.
                own = env | {"XDG_CACHE_HOME": os.path.join(root, "cache")}
                return cost([COMIN, "--root", root, "--config", os.path.join(root, "config.json"), "run"], own)

            def all_run(what):
                servers = (ask_git, ask_cache)
                before = [ask() for ask in servers]
                row(what, list(workers.map(run, range(MACHINES))), servers, before)

            print(f"{MACHINES:,} machines, {NAMED:,} hosts in the note, one push, {os.cpu_count()} processors, {world.run('nix', '--version')}\n")
            print("| per machine | its CPU, its largest process | Git server | cache |\n|---|---|---|---|", flush=True)
            all_run("the push is fetched, and waits for CI")
            with open(world.path("note"), "w") as note:
                others = (f"/nix/store/{os.urandom(16).hex()}{os.path.basename(systems[0])[32:]}" for _ in range(MACHINES, NAMED))
                note.writelines(f"host{number} {system}\n" for number, system in enumerate([*systems, *others]))
            world.git("small", "notes", "--ref=comin", "append", "--file", world.path("note"), commit)
            all_run("the note is fetched, and the system deployed")
            for number, system in enumerate(systems):
                assert os.readlink(world.path(f"machine{number}/run/current-system")) == system, number
                # What keeps it from being deleted.
                shutil.rmtree(world.path(f"machine{number}"))
            world.run("nix-store", "--delete", "--ignore-liveness", *systems)
            if flake := os.environ.get("COMIN_FLAKE"):
                source, host = flake.split("#")
                evaluation = ["nix", "--extra-experimental-features", "nix-command flakes", "eval", "--raw", "--option",
                              "eval-cache", "false",
                              f'{source}#nixosConfigurations."{host}".config.system.build.toplevel.drvPath']
                row("instead, an evaluation of COMIN_FLAKE", [cost(evaluation, world.env) for _ in range(3)])


main()
