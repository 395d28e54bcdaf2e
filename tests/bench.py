"""What comin costs beside git: called by bench.sh with the program and the number of rounds.

CPU is user and system time of a whole process and its children, as the kernel counts it. What is
compared is run in turns, round by round, so that a busy moment meets both sides; the middle value of
all rounds counts. Nothing of the person who runs this has a part in it.
"""

import contextlib
import http.server
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

COMIN, ROUNDS = sys.argv[1], int(sys.argv[2])
TESTS = os.path.dirname(os.path.abspath(__file__))
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
COMMITS, BRANCHES, DISTANCE = 100_000, 10_000, 50_000


# ---- measuring


class Cost:
    """What one run of a command took: milliseconds of CPU and of time."""

    def __init__(self, command, env):
        begin = time.perf_counter()
        with open(os.devnull, "r+") as null:
            child = subprocess.Popen(command, env=env, stdin=null, stdout=null, stderr=null)
            _, self.status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(self.status)
        self.wall = (time.perf_counter() - begin) * 1000
        self.cpu = (usage.ru_utime + usage.ru_stime) * 1000
        assert child.returncode == 0, (command, child.returncode)


def in_turns(commands, env, rounds=ROUNDS):
    """The costs of each command, run by run."""
    for command in commands:
        Cost(command, env)
    costs = [[] for _ in commands]
    for _ in range(rounds):
        for command, cost in zip(commands, costs):
            cost.append(Cost(command, env))
    return costs


def cpu(costs):
    return statistics.median(cost.cpu for cost in costs)


def wall(costs):
    return statistics.median(cost.wall for cost in costs)


def memory(command, env):
    """MiB, at the most. Not by wait4: a child of this program begins with its size."""
    timed = subprocess.run(["/usr/bin/time", "-f", "%M", *command], env=env, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return int(timed.stderr.split()[-1]) / 1024


def traced(command, env, calls):
    """The system calls of a command and its children, line by line."""
    with tempfile.NamedTemporaryFile("r") as log:
        subprocess.run(["strace", "-f", "-y", "-s", "200", "-e", f"trace={calls}", "-o", log.name, *command],
                       env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return log.read().splitlines()


# ---- the table


def row(what, value, bound, note=""):
    print(f"| {what} | {value} | {bound} | {note} |", flush=True)


def ratio(what, own, other, name, bound):
    row(what, f"{own / other:.2f} × `{name}`", bound, f"{own:.1f} ms to {other:.1f} ms")


# ---- a machine and its repositories


class World:
    """A scratch root, and the environment in which comin and git depend on nobody's settings."""

    def __init__(self, folder, memory):
        self.folder, self.memory = folder, memory
        keep = ("PATH", "http_proxy", "https_proxy", "no_proxy")
        self.env = {name: os.environ[name] for name in keep if name in os.environ} | {
            "HOME": self.path("home"),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
            "NIX_CONFIG": "build-users-group =\nsubstitute = false\nsandbox = false\n",
        }
        os.makedirs(self.path("home"))

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def run(self, *command, **options):
        done = subprocess.run(command, env=self.env, check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, **options)
        return done.stdout.strip()

    def git(self, repository, *arguments, **options):
        return self.run("git", "-C", self.path(repository), *arguments, **options)

    def machine(self, name, url):
        """The beginning of a command line of comin on a machine of its own."""
        config = {"hostname": "m", "remotes": [{"name": "origin", "url": url}]}
        os.makedirs(self.path(name, "etc"))
        # As on a machine, where /run is in memory.
        os.makedirs(os.path.join(self.memory, name))
        os.symlink(os.path.join(self.memory, name), self.path(name, "run"))
        with open(self.path(name, "config.json"), "w") as file:
            json.dump(config, file)
        return [COMIN, "--root", self.path(name), "--config", self.path(name, "config.json")]

    def idle_machine(self, name, url):
        """The poll of a machine that has deployed what there is; nothing is to be done any more."""
        comin = self.machine(name, url)
        self.run(*comin, "run")
        return [*comin, "fetch", "origin"]

    def small(self):
        """A repository with one commit, whose system says when its switch begins and ends."""
        repository = self.path("small")
        os.makedirs(repository)
        self.run("cp", "-r", os.path.join(TESTS, "host/system"), repository)
        self.git("small", "init", "--quiet", "--initial-branch=main")
        self.commit_system("first")

    def commit_system(self, label, switch=None):
        """Commits a system; `switch` is the program that stands in for its switch-to-configuration."""
        extra = ""
        if switch:
            extra = 'extra."bin/switch-to-configuration" = builtins.readFile ./switch;'
            with open(self.path("small/switch"), "w") as file:
                file.write(switch)
        arguments = f'label = "{label}"; scratch = "{self.path("small-machine")}"; {extra}'
        with open(self.path("small/flake.nix"), "w") as file:
            file.write('{ outputs = _: { nixosConfigurations.m.config.system.build.toplevel =\n'
                       f'  import ./system {{ {arguments} }}; }}; }}\n')
        self.git("small", "add", ".")
        self.git("small", "commit", "--quiet", "--message", label)

    def large(self):
        """A repository with a long history, on top of the small one's, many branches, and a testing branch left behind."""
        self.run("git", "clone", "--quiet", "--bare", self.path("small"), self.path("large"))
        self.git("large", "config", "gc.auto", "0")
        first = self.git("large", "rev-parse", "main")
        commits = []
        for n in range(COMMITS):
            text = f"commit {n}"
            commits.append(f"commit refs/heads/main\nmark :{n + 1}\ncommitter a <a@example.org> {1_700_000_000 + n} +0000\n"
                           f"data {len(text)}\n{text}\n"
                           + (f"from {first}\n" if n == 0 else "")
                           + f"M 100644 inline file{n % 100}\ndata {len(str(n))}\n{n}\n")
        commits += [f"reset refs/heads/branch{n}\nfrom :{n + 1}\n\n" for n in range(BRANCHES)]
        commits += [f"reset refs/heads/testing-m\nfrom :{COMMITS - 1000}\n\n"]
        commits += [f"reset refs/heads/half\nfrom :{COMMITS - DISTANCE}\n\n"]
        self.git("large", "fast-import", "--quiet", input="".join(commits))
        self.git("large", "pack-refs", "--all")
        self.git("large", "repack", "--quiet", "-a", "-d", "--write-bitmap-index")


class Handler(http.server.BaseHTTPRequestHandler):
    """Smart HTTP by git-http-backend(1)."""

    protocol_version = "HTTP/1.1"
    folder = None

    def answer(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.folder, "GIT_HTTP_EXPORT_ALL": "1",
               "GIT_CONFIG_NOSYSTEM": "1", "HOME": self.folder, "REQUEST_METHOD": self.command, "PATH_INFO": path,
               "QUERY_STRING": query, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        done = subprocess.run(["git", "http-backend"], env=env, input=body, stdout=subprocess.PIPE, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(world, certificate=None):
    """The URL of a server for the repositories of a world."""
    handler = type("Handler", (Handler,), {"folder": world.folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    server.shutdown()


def certificate(world):
    """A certificate for the server, which the environment's bundle of CA certificates ends with."""
    cert, key, bundle = world.path("cert.pem"), world.path("key.pem"), world.path("bundle.pem")
    world.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
              "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1",
              "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:false")
    with open(bundle, "w") as out:
        for source in (CA_BUNDLE, cert):
            with open(source) as file:
                out.write(file.read())
    world.env |= {"SSL_CERT_FILE": bundle, "GIT_SSL_CAINFO": bundle}
    return cert, key


# ---- the rows


def polls(world):
    url = world.path("small")
    poll = world.idle_machine("poll-local", url)
    list_remote = ["git", "ls-remote", url, "refs/heads/main"]
    own, git, nothing = in_turns([poll, list_remote, ["/bin/true"]], world.env)
    quarters = statistics.quantiles([cost.cpu for cost in nothing])
    row("… noise: `/bin/true`", f"{cpu(nothing):.2f} ms", "", f"half of the runs within {quarters[0]:.2f} to {quarters[2]:.2f} ms")
    ratio("idle poll of a local path, CPU", cpu(own), cpu(git), "git ls-remote", "0.4")
    writes = [call for call in traced(poll, world.env, "openat,rename,renameat2,mkdir,unlink")
              if re.search(r"O_WRONLY|O_RDWR|O_CREAT|rename|mkdir|unlink", call) and "= -1" not in call
              and "run/comin" not in call and world.memory not in call and "/dev/null" not in call]
    row("… files written outside of `/run`", len(writes), "0", " ".join(writes))
    row("… memory", f"{memory(poll, world.env):.1f} MiB", "8 MiB")

    world.git("small", "branch", "other")
    with served(world) as address:
        over_http(world, "HTTP", address, "1.0")
    with served(world, certificate(world)) as address:
        over_http(world, "HTTPS", address, "1.2")


def over_http(world, name, address, bound):
    url = f"{address}/small/.git"
    poll = world.idle_machine(f"poll-{name}", url)
    own, git = in_turns([poll, ["git", "ls-remote", url, "refs/heads/main"]], world.env)
    ratio(f"idle poll over {name}, CPU", cpu(own), cpu(git), "git ls-remote", bound)


def deployment(world):
    """What comin itself adds to a deployment: the time in which none of its children runs."""
    tools = world.path("tools")
    log = world.path("children")
    os.makedirs(tools)
    def wrap(tool, program):
        wrapper = os.path.join(tools, tool)
        with open(wrapper, "w") as file:
            file.write(f'#!/bin/bash\nb=$EPOCHREALTIME\n{program} "$@"\nr=$?\n'
                       f'echo "$b $EPOCHREALTIME" >>{log}\nexit $r\n')
        os.chmod(wrapper, 0o755)
        return wrapper

    def recorded():
        with open(log) as file:
            return [float(end) - float(begin) for begin, end in map(str.split, file)]

    for tool in ("nix", "nix-store", "nix-env"):
        wrap(tool, world.run("which", tool))
    # A wrapper takes time itself, before it begins to measure and after.
    nothing = wall(in_turns([[wrap("nothing", "/bin/true")]], world.env, rounds=20)[0]) / 1000
    wrapping = nothing - statistics.median(recorded())
    # So does a switch, which here only does what comin looks at.
    current = world.path("small-machine/run/current-system")
    with open(wrap("switch", f"ln -sfn ${{0%/bin/*}} {current}; :")) as file:
        switch = file.read()
    env = world.env | {"PATH": f"{tools}:{world.env['PATH']}"}
    comin = world.machine("small-machine", world.path("small"))
    with open(world.path("small-machine/etc/machine-id"), "w") as file:
        file.write("0" * 32)
    own = []
    for n in range(6):
        world.commit_system(f"deployment{n}", switch)
        open(log, "w").close()
        subprocess.run([*comin, "fetch", "origin"], env=env, check=True, stderr=subprocess.DEVNULL)
        begin = time.time()
        subprocess.run([*comin, "deploy"], env=env, check=True, stderr=subprocess.DEVNULL)
        spent = time.time() - begin
        children = recorded()
        assert len(children) >= 4, children
        own.append((spent - sum(children) - wrapping * len(children)) * 1000)
    row("comin's own time in a deployment", f"{statistics.median(own[1:]):.1f} ms", "30 ms", "without Nix and the switch")

    world.commit_system("counted")
    calls = traced([*comin, "run"], world.env, "execve")
    evaluations = [call for call in calls if re.search(r'execve\("[^"]*/nix", \["nix", .*"eval"', call) and "= 0" in call]
    row("evaluations in a deployment", len(evaluations), "1", "by strace")


def scale(world):
    small, large = world.path("small"), world.path("large")
    near, far = world.idle_machine("near", small), world.idle_machine("far", large)

    mirror = world.path("by-git")
    branches = ["+refs/heads/main:refs/remotes/origin/main", "+refs/heads/testing-m:refs/remotes/origin/testing-m"]
    own, git = [], []
    for n in range(3):
        machine = world.machine(f"first-fetch{n}", large)
        own.append(Cost([*machine, "fetch", "origin"], world.env))
        world.run("git", "init", "--quiet", "--bare", f"{mirror}{n}")
        git.append(Cost(["git", "-C", f"{mirror}{n}", "fetch", "--quiet", "--no-tags", large, *branches], world.env))
    ratio(f"first fetch of {COMMITS:,} commits, time", wall(own), wall(git), "git fetch", "1.5")
    machine = world.machine("first-fetch-memory", large)
    row("… memory", f"{memory([*machine, 'fetch', 'origin'], world.env):.0f} MiB", "128 MiB")

    own, other = in_turns([far, near], world.env)
    ratio(f"idle poll with {COMMITS:,} commits, {BRANCHES:,} branches, stale testing", cpu(own), cpu(other), "a small repository", "1.2")
    stored = world.git("far/var/lib/comin/repository", "for-each-ref", "--format=%(refname)", "refs/remotes").split()
    row("… branches stored", len(stored), "2", " ".join(stored))


def ancestry(world):
    """`plan` at a distance from the accepted main, less the same at none."""
    machine = world.path("distance")
    comin = world.machine("distance", world.path("large"))
    subprocess.run([*comin, "fetch", "origin"], env=world.env, check=True, stderr=subprocess.DEVNULL)
    half, main = (world.git("large", "rev-parse", branch) for branch in ("half", "main"))
    plan = [*comin, "plan"]

    def accept(commit):
        with open(f"{machine}/var/lib/comin/state.json", "w") as file:
            json.dump({"version": 1, "accepted_main": commit, "attempts": []}, file)

    accept(main)
    near = cpu(in_turns([plan], world.env, rounds=10)[0])
    accept(half)
    is_ancestor = ["git", "-C", world.path("by-git0"), "merge-base", "--is-ancestor", half, main]
    own, git, nothing = in_turns([plan, is_ancestor, ["git", "--version"]], world.env, rounds=10)
    ratio(f"ancestry at {DISTANCE:,} commits, CPU", cpu(own) - near, cpu(git) - cpu(nothing), "git merge-base --is-ancestor", "1.0")
    packs = [call for call in traced([*comin, "fetch", "origin"], world.env, "openat") if ".pack" in call or ".idx" in call]
    row("… packs opened by an idle poll", len(packs), "0")


def temporary(**where):
    return tempfile.TemporaryDirectory(prefix="comin-bench.", **where)


def main():
    with temporary() as folder, temporary(dir="/dev/shm") as in_memory:
        world = World(os.path.realpath(folder), in_memory)
        world.small()
        print(f"{ROUNDS} rounds, {os.cpu_count()} processors, {world.run('git', '--version')}, {world.run('nix', '--version')}\n")
        print("| what | measured | bound | |\n|---|---|---|---|", flush=True)
        deployment(world)
        polls(world)
        world.large()
        scale(world)
        ancestry(world)


main()
