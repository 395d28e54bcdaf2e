"""A scratch root with repositories, machines that follow them, and a Git server: for bench.py, crowd.py and fleet.py."""

import contextlib
import http.server
import json
import multiprocessing
import os
import ssl
import subprocess
import threading

TESTS = os.path.dirname(os.path.abspath(__file__))
COMMITS, BRANCHES, DISTANCE = 100_000, 10_000, 50_000


class World:
    """A scratch root, and the environment in which comin and git depend on nobody's settings."""

    def __init__(self, comin, folder, memory):
        self.comin, self.folder, self.memory = comin, folder, memory
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

    def machine(self, name, url, remotes=("origin",), **settings):
        """The beginning of a command line of comin on a machine of its own."""
        config = {"hostname": "m", "remotes": [{"name": remote, "url": url} for remote in remotes]} | settings
        os.makedirs(self.path(name, "etc"))
        # As on a machine, where /run is in memory.
        os.makedirs(os.path.join(self.memory, name))
        os.symlink(os.path.join(self.memory, name), self.path(name, "run"))
        with open(self.path(name, "config.json"), "w") as file:
            json.dump(config, file)
        return [self.comin, "--root", self.path(name), "--config", self.path(name, "config.json")]

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

    def commit_large(self, text):
        """One commit more in the large repository."""
        commit = self.git("large", "commit-tree", "main^{tree}", "-p", "main", "-m", text)
        self.git("large", "update-ref", "refs/heads/main", commit)
        return commit


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


class Server(http.server.ThreadingHTTPServer):
    # Who comes in a crowd is to wait, and not to be turned away.
    request_queue_size = 4096


@contextlib.contextmanager
def served(world, certificate=None, handler=Handler):
    """The URL of a server for the repositories of a world."""
    handler = type("Handler", (handler,), {"folder": world.folder})
    server = Server(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    server.shutdown()


@contextlib.contextmanager
def server(serve, *arguments):
    """The URL that `serve` sends first, and what asks it: a process of its own, so that the CPU is its own."""
    forking = multiprocessing.get_context("fork")
    ours, its = forking.Pipe()
    process = forking.Process(target=serve, args=(*arguments, its))
    process.start()

    def ask():
        ours.send(True)
        return ours.recv()

    try:
        yield ours.recv(), ask
    finally:
        process.kill()
        process.join()
