"""One Python file with the code that a function needs, from the modules of this checkout.

The file holds the functions, classes and constants that the wanted ones reach, in the order of their modules,
with their comments. Code of other packages stays an import. So an exported model draws without a checkout.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synth.checkout import ROOT

PACKAGES = ("torch", "safetensors", "numpy")  # packages that the file may import

_HOUSE = ("synth", "caption", "train")  # packages that this module may copy from
_ASSIGNMENT = (ast.Assign, ast.AnnAssign)


@dataclass(frozen=True)
class Name:
    """A name at the top of a module, or a whole module if `name` is empty."""

    module: str
    name: str


@dataclass
class _Module:
    """A parsed module of this checkout."""

    name: str
    tree: ast.Module
    lines: list[bytes]
    defined: dict[str, ast.stmt] = field(default_factory=dict)  # statement by the name that it defines
    house: dict[str, Name] = field(default_factory=dict)  # imports from this checkout, by their name here
    others: dict[str, str] = field(default_factory=dict)  # other imports as statements, by their name here


def bundle(wanted: Sequence[Name]) -> str:
    """Returns imports and code with the wanted names and everything that they reach.

    Raises ValueError if two modules give one name to different things, or import other packages than PACKAGES
    and the standard library."""
    # Reached statements of each module. The order of modules is that of their imports.
    modules: dict[str, _Module] = {}
    reached: dict[str, dict[ast.stmt, None]] = {}
    for name in wanted:
        _reach(name, modules, reached)

    # One name, one thing.
    imports: dict[str, str] = {}
    owners: dict[str, str] = {}
    ordered = [modules[name] for name in _in_order(modules, reached)]
    for module in ordered:
        for statement in reached[module.name]:
            for own in _defined(statement):
                _require_single(owners, own, module.name)
            for used in _used(statement) & module.others.keys():
                _require_single(imports, used, module.others[used])
    for own in sorted(imports.keys() & owners.keys()):
        raise ValueError(f"{own} is imported, and defined in {owners[own]}; rename one")
    for line in sorted(imports.values()):
        if _package(line) not in (*PACKAGES, *sys.stdlib_module_names):
            raise ValueError(f"{line!r} is none of the packages {', '.join(PACKAGES)}; do without it")

    # Code.
    parts = [_imports(imports.values())]
    parts += [_code(module, reached[module.name]) for module in ordered]
    return "\n\n\n".join(parts) + "\n"


def _imports(lines: Iterable[str]) -> str:
    """Returns import statements, one for each module: the standard library, then other packages."""
    # Names by module, or nothing for `import MODULE`.
    names: dict[str, list[str]] = {}
    for line in sorted(set(lines)):
        head, _, name = line.partition(" import ")
        names.setdefault(head, []).extend([name] if name else [])

    # Two groups.
    blocks: tuple[list[str], list[str]] = ([], [])
    for head, items in names.items():
        statement = f"{head} import {', '.join(items)}" if items else head
        blocks[_package(head) in PACKAGES].append(statement)
    ordered = (sorted(block, key=lambda line: (line.startswith("from"), line)) for block in blocks)
    return "\n\n".join("\n".join(block) for block in ordered if block)


def _reach(wanted: Name, modules: dict[str, _Module], reached: dict[str, dict[ast.stmt, None]]) -> None:
    """Adds the statement of a name, and those that it needs."""
    module = modules.setdefault(wanted.module, _parsed(wanted.module))
    name = wanted.name
    if name in module.house:
        return _reach(module.house[name], modules, reached)
    statement = module.defined.get(name)
    if statement is None:
        raise ValueError(f"{wanted.module} defines no {name}")
    statements = reached.setdefault(wanted.module, {})
    if statement in statements:
        return None
    statements[statement] = None
    for needed in _needs(module, statement):
        _reach(needed, modules, reached)
    return None


def _needs(module: _Module, statement: ast.stmt) -> Iterator[Name]:
    """Yields the names of this checkout that a statement uses."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            target = module.house.get(node.value.id)
            if target and not target.name:
                yield Name(target.module, node.attr)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            raise ValueError(f"{module.name} imports inside {_defined(statement)[0]}; import at its top")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            target = module.house.get(node.id)
            if target and target.name:
                yield target
            elif node.id in module.defined and not target:
                yield Name(module.name, node.id)


def _parsed(name: str) -> _Module:
    """Returns a module with its names."""
    source = _path(name).read_bytes()
    module = _Module(name, ast.parse(source), source.splitlines())
    for statement in module.tree.body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                words = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
                module.others[alias.asname or alias.name.partition(".")[0]] = f"import {words}"
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            for alias in statement.names:
                here, words = alias.asname or alias.name, f"{alias.name} as {alias.asname}"
                if statement.module.partition(".")[0] not in _HOUSE:
                    kept = words if alias.asname else alias.name
                    module.others[here] = f"from {statement.module} import {kept}"
                elif _is_module(f"{statement.module}.{alias.name}"):
                    module.house[here] = Name(f"{statement.module}.{alias.name}", "")
                else:
                    module.house[here] = Name(statement.module, alias.name)
        else:
            module.defined |= dict.fromkeys(_defined(statement), statement)
    return module


def _path(module: str) -> Path:
    """Returns the file of a module of this checkout."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_module(name: str) -> bool:
    return _path(name).is_file()


def _package(line: str) -> str:
    """Returns the package of an import statement."""
    return line.split()[1].partition(".")[0]


def _defined(statement: ast.stmt) -> list[str]:
    """Returns the names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _used(statement: ast.stmt) -> set[str]:
    """Returns the names that a statement reads."""
    names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}


def _require_single(owners: dict[str, str], name: str, owner: str) -> None:
    """Raises ValueError if a name has another owner already."""
    if owners.setdefault(name, owner) != owner:
        raise ValueError(f"{name} means two things, of {owners[name]} and of {owner}; rename one")


def _in_order(modules: dict[str, _Module], reached: dict[str, dict[ast.stmt, None]]) -> list[str]:
    """Returns the modules that were reached, each after those that it imports."""
    ordered: dict[str, None] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in ordered or name not in reached or name in above:
            return
        for target in modules[name].house.values():
            visit(target.module, (*above, name))
        ordered[name] = None

    for name in reached:
        visit(name, ())
    return list(ordered)


def _code(module: _Module, statements: dict[ast.stmt, None]) -> str:
    """Returns the source of statements in their order, under the docstring of their module."""
    # Origin.
    docstring = (ast.get_docstring(module.tree) or "").removeprefix("DOOR. ")
    head = [f"# {_path(module.name).relative_to(ROOT)}", "#"]
    head += [f"# {line}".rstrip() for line in docstring.splitlines()]

    # Statements, with two lines between classes and functions.
    text, last = "\n".join(head), None
    for statement in (s for s in module.tree.body if s in statements):
        together = isinstance(last, _ASSIGNMENT) and isinstance(statement, _ASSIGNMENT)
        text += ("\n" if together else "\n\n\n") + _source(module, statement)
        last = statement
    return text


def _source(module: _Module, statement: ast.stmt) -> str:
    """Returns the lines of a statement with the comments above it, without prefixes of modules."""
    # Lines.
    decorators = getattr(statement, "decorator_list", [])
    first = min(node.lineno for node in (statement, *decorators)) - 1
    lines = list(module.lines)
    while first and lines[first - 1].startswith(b"#"):
        first -= 1

    # module.name -> name, from the end on.
    prefixed = [n for n in ast.walk(statement) if isinstance(n, ast.Attribute) and _of_module(module, n)]
    for node in sorted(prefixed, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        line, end = lines[node.lineno - 1], node.end_col_offset or 0
        lines[node.lineno - 1] = line[: node.col_offset] + node.attr.encode() + line[end:]
    return b"\n".join(lines[first : statement.end_lineno]).decode()


def _of_module(module: _Module, node: ast.Attribute) -> bool:
    """Returns True for MODULE.NAME of a module of this checkout."""
    target = module.house.get(node.value.id) if isinstance(node.value, ast.Name) else None
    return target is not None and not target.name
