"""names.py FILE: whether FILE is Python, and names nothing that neither it nor the test driver of NixOS defines."""

import ast
import builtins
import sys
import warnings

# What the driver has of a machine, of which the tests use this.
MACHINES = {"machine", "origin"}
METHODS = {
    "fail",
    "shutdown",
    "start",
    "succeed",
    "wait_for_unit",
    "wait_until_fails",
    "wait_until_succeeds",
}

warnings.simplefilter("error")
with open(sys.argv[1], encoding="utf-8") as file:
    tree = ast.parse(file.read(), sys.argv[1])
nodes = list(ast.walk(tree))
names = [node for node in nodes if isinstance(node, ast.Name)]
known = set(dir(builtins)) | MACHINES
known |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
known |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
unknown = [f"{name.lineno}: {name.id}" for name in names if name.id not in known]
unknown += [
    f"{node.lineno}: {node.value.id}.{node.attr}"
    for node in nodes
    if isinstance(node, ast.Attribute)
    and isinstance(node.value, ast.Name)
    and node.value.id in MACHINES
    and node.attr not in METHODS
]
sys.exit("\n".join(unknown) or None)
