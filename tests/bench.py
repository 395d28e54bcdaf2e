"""What comin costs beside git: called by bench.sh with the program and the number of rounds.

CPU is user and system time of a whole process and its children, as the kernel counts it. What is
compared is run in turns, round by round, so that a busy moment meets both sides; the middle value of
all rounds counts. Nothing of the person who runs this has a part in it.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from world import BRANCHES, COMMITS, DISTANCE, World, served

COMIN, ROUNDS = sys.argv[1], int(sys.argv[2])
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


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


def ratio(what, own, other, name, bound, unit="ms"):
    row(what, f"{own / other:.2f} × `{name}`", bound, f"{own:.1f} {unit} to {other:.1f} {unit}")


# ---- the rows


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


def polls(world):
    url = world.path("small")
    poll = world.idle_machine("poll-local", url)
    list_remote = ["git", "ls-remote", url, "refs/heads/main"]
    own, git, nothing = in_turns([poll, list_remote, ["/bin/true"]], world.env)
    quarters = statistics.quantiles([cost.cpu for cost in nothing])
    row("one start of `/bin/true`, for comparison", f"{cpu(nothing):.2f} ms", "", f"half of the runs within {quarters[0]:.2f} to {quarters[2]:.2f} ms")
    ratio("idle poll of a local path, CPU", cpu(own), cpu(git), "git ls-remote", "0.4")
    writes = [call for call in traced(poll, world.env, "openat,rename,renameat2,mkdir,unlink")
              if re.search(r"O_WRONLY|O_RDWR|O_CREAT|rename|mkdir|unlink", call) and "= -1" not in call
              and "run/comin" not in call and world.memory not in call and "/dev/null" not in call]
    row("… files written outside of `/run`", len(writes), "0", " ".join(writes))
    row("… memory", f"{memory(poll, world.env):.1f} MiB", "8 MiB")

    world.git("small", "branch", "other")
    with served(world) as address:
        over_http(world, "HTTP", address, "0.5")
    with served(world, certificate(world)) as address:
        over_http(world, "HTTPS", address, "0.5")


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
    row("comin's own time in a deployment", f"{statistics.median(own[1:]):.1f} ms", "20 ms", "without Nix and the switch")

    world.commit_system("counted")
    calls = traced([*comin, "run"], world.env, "execve")
    evaluations = [call for call in calls if re.search(r'execve\("[^"]*/nix", \["nix", .*"eval"', call) and "= 0" in call]
    row("evaluations in a deployment", len(evaluations), "1", "by strace")


def scale(world):
    small, large = world.path("small"), world.path("large")
    near, far = world.idle_machine("near", small), world.idle_machine("far", large)

    mirror = world.path("by-git")
    branches = ["+refs/heads/main:refs/remotes/origin/main", "+refs/heads/testing-m:refs/remotes/origin/testing-m"]
    own, git, checked = [], [], []
    for n in range(5):
        machine = world.machine(f"first-fetch{n}", large)
        own.append(Cost([*machine, "fetch", "origin"], world.env))
        for costs, name, check in [(git, mirror, "false"), (checked, f"{mirror}-checked", "true")]:
            world.run("git", "init", "--quiet", "--bare", f"{name}{n}")
            costs.append(Cost(["git", "-C", f"{name}{n}", "-c", f"fetch.fsckObjects={check}", "fetch", "--quiet",
                               "--no-tags", large, *branches], world.env))
    ratio(f"first fetch of {COMMITS:,} commits, CPU", cpu(own), cpu(git), "git fetch", "1.1")
    ratio("… time", wall(own), wall(git), "git fetch", "1.5")
    ratio("… CPU, beside a git that checks objects, too", cpu(own), cpu(checked), "git -c fetch.fsckObjects=true fetch", "1.0")
    machine = world.machine("first-fetch-memory", large)
    bare = world.path("by-git-memory")
    world.run("git", "init", "--quiet", "--bare", bare)
    fetch = ["git", "-C", bare, "fetch", "--quiet", "--no-tags", large, *branches]
    ratio("… memory of its largest process", memory([*machine, "fetch", "origin"], world.env), memory(fetch, world.env),
          "git fetch", "1.1", "MiB")

    own, other = in_turns([far, near], world.env)
    ratio(f"idle poll of a repository with {COMMITS:,} commits and {BRANCHES:,} branches, CPU", cpu(own), cpu(other),
          "that of a small repository", "1.2")
    stored = world.git("far/var/lib/comin/repository", "for-each-ref", "--format=%(refname)", "refs/remotes").split()
    row("… branches in the mirror", len(stored), "2", " ".join(stored))


def later_fetches(world):
    comin = [*world.machine("later", world.path("large")), "fetch", "origin"]
    by_git = ["git", "-C", world.path("by-git0"), "fetch", "--quiet", "--no-tags", world.path("large"), "+refs/heads/main:refs/main"]
    Cost(comin, world.env)
    own, git = [], []
    for n in range(10):
        world.commit_large(f"fetched {n}")
        own.append(Cost(comin, world.env))
        git.append(Cost(by_git, world.env))
    ratio(f"fetch of one commit more than {COMMITS:,}, CPU", cpu(own), cpu(git), "git fetch", "2.0")


def hashed_copy(world):
    """The copy of a commit that a guarded machine evaluates, and the same by git, both from the mirror."""
    log, tools, plain = world.path("copy-cpu"), world.path("copy-tools"), world.path("copy-by-git")
    os.makedirs(tools)
    with open(os.path.join(tools, "git"), "w") as file:
        file.write(f"#!{sys.executable}\nimport resource, subprocess, sys\n"
                   f"code = subprocess.run([{world.run('which', 'git')!r}, *sys.argv[1:]]).returncode\n"
                   "usage = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
                   f"if 'fetch' in sys.argv: open({log!r}, 'w').write(str((usage.ru_utime + usage.ru_stime) * 1000))\n"
                   "sys.exit(code)\n")
    os.chmod(os.path.join(tools, "git"), 0o755)
    env = world.env | {"PATH": f"{tools}:{world.env['PATH']}"}
    comin = world.machine("guarded", world.path("large"), build_confirmer={"mode": "manual"})
    state = world.path("guarded/var/lib/comin")
    first, later = [], []
    for n in range(13):
        if n < 3:
            for copy in (plain, f"{state}/verified"):
                shutil.rmtree(copy, ignore_errors=True)
            world.run("git", "init", "--quiet", "--bare", plain)
        commit = world.commit_large(f"copied {n}")
        world.run(*comin, "fetch", "origin")
        subprocess.run([*comin, "deploy"], env=env, check=True, stderr=subprocess.DEVNULL)
        with open(log) as file:
            own = float(file.read())
        os.remove(log)
        fetch = ["git", "-C", plain, "fetch", "--quiet", "--no-tags", f"{state}/repository", f"+{commit}:refs/copied"]
        (first if n < 3 else later).append((own, Cost(fetch, world.env).cpu))
    for what, costs, bound in [(f"first hashed copy for an evaluation, {COMMITS:,} commits, CPU", first, "1.1"),
                               ("… a later one, one commit more", later, "1.5")]:
        own, git = map(statistics.median, zip(*costs))
        ratio(what, own, git, "git fetch", bound)


def many_remotes(world):
    """One commit that many remotes have: each is fetched, then one is selected."""
    world.run("git", "clone", "--quiet", world.path("small"), world.path("shared"))

    machines = {n: world.machine(f"remotes{n}", world.path("shared"), [f"r{i}" for i in range(n)]) for n in (100, 1000)}
    costs = {n: [] for n in machines}
    for comin in machines.values():
        Cost([*comin, "fetch"], world.env)
    for commit in range(5):
        world.git("shared", "commit", "--quiet", "--allow-empty", "--message", f"next {commit}")
        for n, comin in machines.items():
            costs[n].append(sum(Cost([*comin, command], world.env).cpu for command in ("fetch", "plan")))
    few, many = (statistics.median(costs[n]) for n in machines)
    ratio("fetch of one new commit from 1,000 remotes, CPU", many, few, "that of 100 remotes", "10")


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
    ratio(f"check that a new commit contains one {DISTANCE:,} commits before, CPU", cpu(own) - near, cpu(git) - cpu(nothing), "git merge-base --is-ancestor", "1.0")
    packs = [call for call in traced([*comin, "fetch", "origin"], world.env, "openat") if ".pack" in call or ".idx" in call]
    row("… packs opened by an idle poll", len(packs), "0")


def temporary(**where):
    return tempfile.TemporaryDirectory(prefix="comin-bench.", **where)


def main():
    with temporary() as folder, temporary(dir="/dev/shm") as in_memory:
        world = World(COMIN, os.path.realpath(folder), in_memory)
        world.small()
        print(f"{ROUNDS} rounds, {os.cpu_count()} processors, {world.run('git', '--version')}, {world.run('nix', '--version')}\n")
        print("| what | measured | bound | |\n|---|---|---|---|", flush=True)
        deployment(world)
        polls(world)
        many_remotes(world)
        world.large()
        scale(world)
        ancestry(world)
        later_fetches(world)
        hashed_copy(world)


main()
