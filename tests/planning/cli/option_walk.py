"""Find what a command reads from its options, by a static and typed walk over its code.

The walk starts at a command's `run`, follows every function, class and
module variable that the code refers to, infers which expressions hold options from annotations and
assignments, and records each attribute that is read from them. Code for another mode of the same
command is left out. Reads in `__post_init__` do not count: checking a value is not using it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cached_property

Function = ast.FunctionDef | ast.AsyncFunctionDef
NOTHING = frozenset()
PASS_THROUGH = {
    "replace",
    "deepcopy",
    "cast",
    "list",
    "tuple",
    "sorted",
    "zip",
    "enumerate",
    "next",
}


@dataclass
class Module:
    """Names that a module defines or imports, function-local imports included."""

    name: str
    tree: ast.Module
    names: dict[str, str] = field(default_factory=dict)

    @cached_property
    def nodes(self):
        found = {}
        for node in self.tree.body:
            if isinstance(node, Function | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign):
                found |= {t.id: node.value for t in node.targets if isinstance(t, ast.Name)}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found |= {node.target.id: node.value} if node.value else {}
        return found


class Program:
    """The product's source, with names resolved across modules."""

    def __init__(self, packages):
        self.modules = {}
        for package in packages:
            for file in sorted(package.rglob("*.py")):
                parts = file.relative_to(package.parent).with_suffix("").parts
                name = ".".join(parts).removesuffix(".__init__")
                self.modules[name] = self._read(name, ast.parse(file.read_text()))

    @staticmethod
    def _read(name, tree):
        module = Module(name, tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    module.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    module.names[alias.asname or alias.name.split(".")[0]] = alias.name
        return module

    def find(self, dotted, depth=0):
        """Follow re-exports of a dotted name to where it is defined; None outside the product."""
        if dotted in self.modules or depth > 8:
            return dotted if dotted in self.modules else None
        owner, _, leaf = dotted.rpartition(".")
        module = self.modules.get(owner)
        if module is None:
            found = self.find(owner, depth + 1) if owner else None
            return self.find(f"{found}.{leaf}", depth + 1) if found not in (None, owner) else None
        if leaf in module.nodes:
            value = module.nodes[leaf]
            alias = dotted_name(value) if isinstance(value, ast.Name | ast.Attribute) else ""
            return (alias and self.resolve(module, alias)) or dotted
        return self.find(module.names[leaf], depth + 1) if leaf in module.names else None

    def resolve(self, module, name):
        """Where a (dotted) name that a module uses is defined."""
        first, _, rest = name.partition(".")
        start = f"{module.name}.{first}" if first in module.nodes else module.names.get(first)
        return self.find(f"{start}.{rest}" if rest else start) if start else None

    def node(self, dotted):
        owner, _, leaf = dotted.rpartition(".")
        module = self.modules.get(owner)
        return (module, module.nodes.get(leaf)) if module else (None, None)

    def bases(self, dotted):
        """A class and its product bases."""
        module, node = self.node(dotted)
        if not isinstance(node, ast.ClassDef):
            return []
        names = [self.resolve(module, dotted_name(base)) for base in node.bases]
        return [dotted, *(base for name in names if name for base in self.bases(name))]

    def member(self, dotted, name):
        """The function of a class or of its bases."""
        for owner in self.bases(dotted):
            module, node = self.node(owner)
            for item in node.body:
                if isinstance(item, Function) and item.name == name:
                    return module, owner, item
        return None

    def annotated(self, module, node):
        """Product classes that an annotation names, inside containers and aliases too."""
        if node is None:
            return NOTHING
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        found = set()
        for part in ast.walk(node):
            name = dotted_name(part)
            dotted = self.resolve(module, name) if name else None
            where, value = self.node(dotted) if dotted else (None, None)
            if isinstance(value, ast.ClassDef):
                found.add(dotted)
            elif isinstance(value, ast.BinOp | ast.Subscript):  # an alias of a union
                found |= self.annotated(where, value)
        return frozenset(found)


def dotted_name(node):
    """`a.b.c` of names and attributes; empty for other expressions."""
    if isinstance(node, ast.Attribute):
        owner = dotted_name(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


class Walk:
    """What the code below one command's `run` reads from its options."""

    def __init__(self, program, root, other_roots=()):
        self.program, self.root = program, root
        self.others = set(other_roots) - set(program.bases(root))
        self.reads, self.seen, self.queue = set(), set(), []
        self.attributes = {}

    def run(self, start):
        self.queue.append(start)
        while self.queue:
            dotted = self.queue.pop()
            if dotted in self.seen:
                continue
            self.seen.add(dotted)
            module, node = self.program.node(dotted)
            if isinstance(node, Function):
                self.function(module, node, None)
            elif isinstance(node, ast.ClassDef):
                self.visit_class(dotted)
            elif node is not None:
                self.expression(module, node, {})
        return self.reads

    def visit_class(self, dotted):
        typed = [types for name, types in self.fields(dotted).items() if types & self.all_roots]
        if any(self.is_other(types) for types in typed):
            return
        for owner in self.program.bases(dotted):
            module, node = self.program.node(owner)
            for item in node.body:
                if isinstance(item, Function) and item.name != "__post_init__":
                    self.function(module, item, dotted)

    @property
    def all_roots(self):
        return self.others | {self.root}

    def is_other(self, types):
        """Whether a value is of another mode's options only."""
        return bool(types & self.others) and not types & set(self.program.bases(self.root))

    def fields(self, dotted):
        """Types of a class's attributes, from annotations and from assignments to `self`."""
        if dotted not in self.attributes:
            found = self.attributes[dotted] = {}
            for owner in reversed(self.program.bases(dotted)):
                module, node = self.program.node(owner)
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                        found[item.target.id] = self.program.annotated(module, item.annotation)
                    elif isinstance(item, Function):
                        self._assigned(module, item, dotted, found)
        return self.attributes[dotted]

    def _assigned(self, module, function, owner, found):
        env = self.parameters(module, function, owner)
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                for left, right in pairs:
                    if dotted_name(left).startswith("self."):
                        found.setdefault(left.attr, self.peek(module, right, env))

    def peek(self, module, node, env):
        """Type of an expression without recording what it reads."""
        reads, queue = set(self.reads), list(self.queue)
        types = self.expression(module, node, env)
        self.reads, self.queue = reads, queue
        return types

    def parameters(self, module, function, owner):
        every = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        env = {a.arg: self.program.annotated(module, a.annotation) for a in every}
        if owner and every:
            env[every[0].arg] = frozenset({owner})
        return env

    def function(self, module, function, owner):
        env = self.parameters(module, function, owner)
        if any(self.is_other(types) for types in env.values()):
            return
        self.block(module, function.body, env)

    def block(self, module, body, env):
        for statement in body:
            self.statement(module, statement, env)

    def statement(self, module, node, env):
        if isinstance(node, Function):
            inner = env | self.parameters(module, node, None)
            if not any(self.is_other(types) for types in inner.values()):
                self.block(module, node.body, inner)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            self.assign(module, node, env)
        elif isinstance(node, ast.If) and self.excludes(module, node.test, env):
            self.block(module, node.orelse, env)
        else:
            if isinstance(node, ast.For | ast.AsyncFor):
                self.bind(node.target, self.expression(module, node.iter, env), env)
            self.children(module, node, env)

    def assign(self, module, node, env):
        types = self.expression(module, node.value, env)
        if isinstance(node, ast.AnnAssign):
            types |= self.program.annotated(module, node.annotation)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            self.bind(target, types, env)

    def children(self, module, node, env):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.expression(module, child, env)
            elif isinstance(child, ast.withitem):
                types = self.expression(module, child.context_expr, env)
                if child.optional_vars is not None:
                    self.bind(child.optional_vars, types, env)
            else:
                self.statement(module, child, env)

    def excludes(self, module, test, env):
        """Whether an `isinstance` test can never hold for this command's options."""
        if not (isinstance(test, ast.Call) and dotted_name(test.func) == "isinstance"):
            return False
        return self.is_other(self.program.annotated(module, test.args[1]))

    def bind(self, target, types, env):
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                env[part.id] = types

    def expression(self, module, node, env):
        """Types of an expression; records reads and what else it refers to."""
        special = {
            ast.Name: self.name,
            ast.Attribute: self.attribute,
            ast.Call: self.call,
            ast.NamedExpr: self.named,
            ast.IfExp: self.choice,
        }
        if type(node) in special:
            return special[type(node)](module, node, env)
        env, types = dict(env), NOTHING
        for part in getattr(node, "generators", []):
            self.bind(part.target, self.expression(module, part.iter, env), env)
            for test in part.ifs:
                self.expression(module, test, env)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                types |= self.expression(module, child, env)
        return types

    def named(self, module, node, env):
        types = self.expression(module, node.value, env)
        self.bind(node.target, types, env)
        return types

    def choice(self, module, node, env):
        parts = [node.test, node.orelse]
        if not self.excludes(module, node.test, env):
            parts.append(node.body)
        return NOTHING.union(*(self.expression(module, part, env) for part in parts))

    def call(self, module, node, env):
        """A call has the type that its function returns; some functions return what they get."""
        result = self.expression(module, node.func, env)
        given = NOTHING
        for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
            given |= self.expression(module, part, env)
        passes = dotted_name(node.func).rpartition(".")[2] in PASS_THROUGH
        return given if passes else result

    def name(self, module, node, env):
        if node.id in env:
            return env[node.id]
        dotted = self.program.resolve(module, node.id)
        return self.refer(dotted) if dotted else NOTHING

    def refer(self, dotted):
        """Follow a reference; the type of a class or function is what calling it gives."""
        self.queue.append(dotted)
        module, node = self.program.node(dotted)
        if isinstance(node, ast.ClassDef):
            return frozenset({dotted})
        return (
            self.program.annotated(module, node.returns) if isinstance(node, Function) else NOTHING
        )

    def attribute(self, module, node, env):
        name = dotted_name(node)
        if name and name.partition(".")[0] not in env:
            dotted = self.program.resolve(module, name)
            if dotted:
                return self.refer(dotted)
        found = NOTHING
        for owner in self.expression(module, node.value, env):
            self.reads.add((owner, node.attr))
            member = self.program.member(owner, node.attr)
            if member:
                where, _, function = member
                key = (owner, node.attr)
                if key not in self.seen and node.attr != "__post_init__":
                    self.seen.add(key)
                    self.function(where, function, owner)
                found |= self.program.annotated(where, function.returns)
            found |= self.fields(owner).get(node.attr, NOTHING)
        return found


def qualified(kind):
    return f"{kind.__module__}.{kind.__qualname__}"
