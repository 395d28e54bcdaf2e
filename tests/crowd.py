"""What a crowd of machines is for its Git server: called by bench.sh with the program and the number of machines.

Each machine is a scratch root of its own, each poll a comin of its own, and each request is answered by a
git-http-backend(1) of its own; all are processes of this machine. When they poll, the module's own timers say.
"""

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time

from world import TESTS, Handler, World, served, server

COMIN, MACHINES = sys.argv[1], int(sys.argv[2])
# The module's default, in seconds.
PERIOD = 60
# The same crowd in each run.
SEED = 1


# ---- the server


class Counted(Handler):
    """One that knows how many requests are being answered."""

    now = peak = total = 0
    lock = threading.Lock()

    def answer(self):
        with Counted.lock:
            Counted.now += 1
            Counted.total += 1
            Counted.peak = max(Counted.peak, Counted.now)
        try:
            super().answer()
        finally:
            with Counted.lock:
                Counted.now -= 1

    do_GET = do_POST = answer


def cpu(who):
    usage = resource.getrusage(who)
    return (usage.ru_utime + usage.ru_stime) * 1000


def serve(world, pipe):
    """Serves a world, and says through the pipe what came of it since it was asked before."""
    with served(world, handler=Counted) as url:
        pipe.send(url)
        before = (0, 0)
        while pipe.recv():
            after = (cpu(resource.RUSAGE_CHILDREN), cpu(resource.RUSAGE_SELF))
            pipe.send({"git": after[0] - before[0], "front": after[1] - before[1],
                       "requests": Counted.total, "peak": Counted.peak})
            Counted.peak = Counted.total = 0
            before = after


# ---- the machines


def jitter(world):
    """The seconds of RandomizedDelaySec that the module gives to the timer of a machine."""
    units = f"""(import {os.path.dirname(TESTS)}/module/units.nix {{
        comin = "/comin";
        remotes = [ {{ name = "origin"; url = "http://server/"; timeout = 300; poller.period = {PERIOD}; }} ];
    }}).timers.comin-origin.timerConfig"""
    config = json.loads(world.run("nix-instantiate", "--eval", "--strict", "--json", "--expr", units))
    assert config["FixedRandomDelay"] and config["OnUnitInactiveSec"] == f"{PERIOD}s", config
    return int(config["RandomizedDelaySec"].removesuffix("s"))


def settle(world, url):
    """The polls of the machines: each has deployed what there is."""
    world.idle_machine("machine", url)
    polls = []
    for n in range(MACHINES):
        root = world.path(f"machine{n}")
        for folder in ("var/lib/comin/repository", "run/comin"):
            shutil.copytree(world.path("machine", folder), os.path.join(root, folder), symlinks=True)
        polls.append([COMIN, "--root", root, "--config", world.path("machine/config.json"), "fetch", "origin"])
    return polls


def start(poll, delay, gate, world):
    """A process that becomes the poll so long after the gate has opened."""
    child = os.fork()
    if child:
        return child
    try:
        closed, opener = gate
        os.close(opener)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        os.read(closed, 1)
        time.sleep(delay)
        os.execve(poll[0], poll, world.env)
    finally:
        # What the parent has to tidy up is not this one's.
        os._exit(127)


def crowd(world, polls, delays, ask):
    """All machines poll once, each after its delay: when each poll was due and over, how many failed, and the server's part."""
    ask()
    polled, failed, running = [], 0, {}
    gate = closed, opener = os.pipe()
    try:
        for poll, delay in zip(polls, delays):
            running[start(poll, delay, gate, world)] = delay
        begin = time.monotonic()
        os.close(opener)
        while running:
            child, status = os.wait()
            if child in running:
                polled.append((begin + running.pop(child), time.monotonic()))
                failed += status != 0
    finally:
        os.close(closed)
        for child in running:
            # One that has just ended need not be ended.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    return polled, failed, ask()


def at_once(polled):
    """How many of these spans overlap at the most."""
    steps = sorted([(begin, 1) for begin, _ in polled] + [(end, -1) for _, end in polled])
    return max(itertools.accumulate(step for _, step in steps))


# ---- the table


def row(what, requests, world, polls, delays, ask):
    polled, failed, said = crowd(world, polls, delays, ask)
    took = [end - begin for begin, end in polled]
    assert failed or said["requests"] == requests * MACHINES, said
    git, front = said["git"] / MACHINES, said["front"] / MACHINES
    times = f"{statistics.median(took):.2f} s, {max(took):.1f} s"
    print(f"| {what} | {max(delays):.0f} s | {git:.1f} ms + {front:.1f} ms | {at_once(polled)}, {said['peak']} | {times} | {failed} |",
          flush=True)


def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with tempfile.TemporaryDirectory(prefix="comin-crowd.", dir="/dev/shm") as folder:
        world = World(COMIN, os.path.join(folder, "disk"), os.path.join(folder, "memory"))
        world.small()
        with server(serve, world) as (address, ask):
            polls = settle(world, f"{address}/small/.git")
            spread = jitter(world)
            own = random.Random(SEED)
            fixed = [own.uniform(0, spread) for _ in polls]
            print(f"{MACHINES:,} machines, one poll of each, period {PERIOD} s, jitter {spread} s, {os.cpu_count()} processors, "
                  f"{world.run('git', '--version')}\n")
            print("| polls | within | server's CPU for each: git + HTTP | at once: polls, answers | time: middle, longest | failed |\n"
                  "|---|---|---|---|---|---|", flush=True)
            # The delay is a part of the period, and so the machines drift apart.
            schedules = [("without jitter", [0 for _ in polls]), ("first after a common boot", fixed),
                         ("tenth", [10 * delay for delay in fixed])]
            for name, delays in schedules:
                row(f"idle, {name}", 1, world, polls, delays, ask)
            for name, delays in schedules:
                world.git("small", "commit", "--quiet", "--allow-empty", "--message", name)
                # The same one, and three of git's: what there is, where the branches are, and the pack.
                row(f"after a push, {name}", 4, world, polls, delays, ask)


main()
