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
    for root in wanted:
        _reach(root, modules, reached)

    # One name, one thing.
    imports: dict[str, str] = {}
    owners: dict[str, str] = {}
    ordered = [modules[name] for name in _in_order(modules, reached)]
    for module in ordered:
        for statement in reached[module.name]:
            for name in _defined(statement):
                _require_single(owners, name, module.name)
            for used in _used(statement) & module.others.keys():
                _require_single(imports, used, module.others[used])
    for name in sorted(imports.keys() & owners.keys()):
        raise ValueError(f"{name} is imported, and defined in {owners[name]}; rename one")
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


def defines(name: Name) -> bool:
    """Returns True if a module of this checkout defines or imports a name."""
    module = _parsed(name.module)
    return name.name in module.defined or name.name in module.house


def _reach(wanted: Name, modules: dict[str, _Module], reached: dict[str, dict[ast.stmt, None]]) -> None:
    """Adds the statement of a name, and those that it needs."""
    # Its statement, perhaps behind an import.
    if wanted.module not in modules:
        modules[wanted.module] = _parsed(wanted.module)
    module = modules[wanted.module]
    if wanted.name in module.house:
        _reach(module.house[wanted.name], modules, reached)
        return
    if wanted.name not in module.defined:
        raise ValueError(f"{wanted.module} defines no {wanted.name}")

    # The names in it.
    statement, statements = module.defined[wanted.name], reached.setdefault(wanted.module, {})
    if statement not in statements:
        statements[statement] = None
        for needed in _needs(module, statement):
            _reach(needed, modules, reached)


def _needs(module: _Module, statement: ast.stmt) -> Iterator[Name]:
    """Yields the names of this checkout that a statement uses."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import | ast.ImportFrom):
            raise ValueError(f"{module.name} imports inside {_defined(statement)[0]}; import at its top")
        local = node.arg if isinstance(node, ast.arg) else ""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            local = node.id
        if local in module.house and not module.house[local].name:
            raise ValueError(f"{module.name} has a variable {local}, which hides its import; rename one")
        if isinstance(node, ast.Attribute) and (name := _of_module(module, node)):
            yield name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            target = module.house.get(node.id, Name(module.name, node.id))
            if target.name and (node.id in module.house or node.id in module.defined):
                yield target


def _parsed(name: str) -> _Module:
    """Returns a module with its names. Raises ValueError if its top has other statements than definitions."""
    source = _path(name).read_bytes()
    module = _Module(name, ast.parse(source), source.splitlines())
    for statement in module.tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _add_imports(module, statement)
        elif names := _defined(statement):
            module.defined |= dict.fromkeys(names, statement)
        elif ast.unparse(statement).splitlines()[0] != "if TYPE_CHECKING:" and not _is_text(statement):
            raise ValueError(f"{name} has a statement in line {statement.lineno} that defines nothing")
    return module


def _add_imports(module: _Module, statement: ast.Import | ast.ImportFrom) -> None:
    """Adds the names of an import statement to those of a module."""
    package = f"{statement.module}." if isinstance(statement, ast.ImportFrom) else ""
    for alias in statement.names:
        here, full = alias.asname or alias.name, package + alias.name
        if not package or full.partition(".")[0] not in _HOUSE:
            head = f"from {package[:-1]} " if package else ""
            words = f"{alias.name} as {here}" if alias.asname else alias.name
            module.others[here if package or alias.asname else here.partition(".")[0]] = (
                f"{head}import {words}"
            )
        elif _path(full).is_file():
            module.house[here] = Name(full, "")
        elif alias.asname:
            raise ValueError(f"{module.name} imports {full} as {here}; import it under its own name")
        else:
            module.house[here] = Name(package[:-1], alias.name)


def _path(module: str) -> Path:
    """Returns the file of a module of this checkout."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_text(statement: ast.stmt) -> bool:
    """Returns True for a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


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
    if hidden := sorted({node.attr for node in prefixed} & _local(statement)):
        raise ValueError(f"{module.name} has a variable {hidden[0]}, which hides an import; rename it")
    for node in sorted(prefixed, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        line, end = lines[node.lineno - 1], node.end_col_offset or 0
        lines[node.lineno - 1] = line[: node.col_offset] + node.attr.encode() + line[end:]
    return b"\n".join(lines[first : statement.end_lineno]).decode()


def _local(statement: ast.stmt) -> set[str]:
    """Returns the names of the variables within a function or class: arguments, and names that are set."""
    if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return set()
    nodes = list(ast.walk(statement))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored | {node.arg for node in nodes if isinstance(node, ast.arg)}


def _of_module(module: _Module, node: ast.Attribute) -> Name | None:
    """Returns the name that MODULE.NAME stands for if MODULE is one of this checkout, else None."""
    target = module.house.get(node.value.id) if isinstance(node.value, ast.Name) else None
    return Name(target.module, node.attr) if target and not target.name else None
