"""The rules of the project's prose: a verb or a noun first, no phrases to decode, variables by their noun."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import ROOT, commands_of, python_files

PACKAGES = ["synth", "data", "caption", "train", "evaluate"]
QUESTION = re.compile(r"(What|Where|Whether|Which|How|Of|Who|When)\b")
DECODED = re.compile(r"\b(anew|of which|whose|told|said of|lies at|what there is|but for)\b")
SPOKEN = {"about", "asked", "found", "made", "own", "said", "settled", "told"}  # no nouns
VERB = re.compile(r"[A-Z][a-z]+s\b")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(package: str) -> Iterator[tuple[str, Documented, str]]:
    """Yields place, node and text of every docstring of a package."""
    for path in python_files(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Documented) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node, text


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns True for a function that reads as an attribute, so that its docstring may be a noun phrase."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def offenders(text: dict[str, str]) -> list[str]:
    """Returns the first line of each docstring, with its place."""
    return [f"{place}: {words.splitlines()[0]}" for place, words in text.items()]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_begins_with_a_question(package: str) -> None:
    assert not offenders({place: text for place, _, text in docstrings(package) if QUESTION.match(text)})


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_has_a_phrase_to_decode(package: str) -> None:
    assert not offenders(
        {place: text for place, _, text in docstrings(package) if DECODED.search(" ".join(text.split()))}
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_begin_with_a_verb_in_the_third_person(package: str) -> None:
    """Properties may be noun phrases, and shapes such as "(N, I) -> (N, O)." may come first."""
    functions = {
        place: text
        for place, node, text in docstrings(package)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_property(node)
    }
    assert functions
    assert not offenders(
        {
            place: text
            for place, text in functions.items()
            if not VERB.match(text) and "->" not in text.splitlines()[0]
        }
    )


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and name of every variable, argument, attribute and function that a module defines."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name):
                yield node.lineno, name


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_variables_are_nouns(package: str) -> None:
    spoken = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in python_files(package)
        for line, name in names(path)
        if name.strip("_") in SPOKEN
    ]
    assert not spoken


def test_the_helps_have_no_phrase_to_decode() -> None:
    """Help texts keep the list, too: of groups, commands and their options."""
    apps = [importlib.import_module(f"{package}.cli").app for package in PACKAGES]
    for command in (command for app in apps for command in commands_of(app).values()):
        texts = [command.help, *(parameter.help or "" for parameter in command.params)]
        assert not [text for text in texts if DECODED.search(text)], command.name


def test_a_name_of_a_class_has_one_meaning() -> None:
    """The words that once had several: each is the name of at most one class of the product."""
    classes = [
        node.name
        for package in PACKAGES
        for path in python_files(package)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    for word in ("Figure", "Terms", "Moments", "Progress", "Request", "Summary", "Job", "Sample", "Source"):
        assert classes.count(word) <= 1, word
