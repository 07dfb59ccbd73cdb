"""Front matter of generated cards: the YAML with which a README.md begins, as hubs and `datasets` read it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

# Licences that the hub knows by their SPDX names, which it writes in lower case.
_SPDX = {
    *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "ofl-1.1", "unlicense", "odbl", "pddl"),
}
_STEPS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")  # from a thousand on, ten times each


def of_dataset(
    name: str,
    title: str,
    licence: str,
    samples: int,
    *,
    tasks: Sequence[str],
    tags: Sequence[str],
    splits: Mapping[str, str],
) -> str:
    """Returns the front matter of a data set. `splits` has the pattern of the files of each split."""
    files = [{"split": split, "path": pattern} for split, pattern in splits.items()]
    return text(
        {
            "pretty_name": f"{name}: {title}",
            **licence_of(name, licence),
            "task_categories": list(tasks),
            "size_categories": [size_category(samples)],
            "tags": ["exnihilo", *tags],
            "configs": [{"config_name": "default", "data_files": files}],
        }
    )


def of_model(
    name: str, title: str, licence: str, *, library: str, task: str, tags: Sequence[str], language: str = "en"
) -> str:
    """Returns the front matter of a model. `library` loads it, and `task` is the hub's name of its use."""
    return text(
        {
            "pretty_name": f"{name}: {title}",
            **licence_of(name, licence),
            "language": [language],
            "library_name": library,
            "pipeline_tag": task,
            "tags": ["exnihilo", *tags],
        }
    )


def text(entries: Json) -> str:
    """Returns entries as front matter, with the line that separates it from the card."""
    lines = [line for name, value in entries.items() for line in _lines(name, value)]
    return "\n".join(["---", *lines, "---", "", ""])


def licence_of(name: str, licence: str) -> Json:
    """Returns the entries of a licence: its SPDX name, else `other` with a name and the sentence itself."""
    spdx = re.sub(r"[\s_]+", "-", licence.strip().lower())
    if spdx in _SPDX:
        return {"license": spdx}
    if spdx.startswith("unknown"):
        return {"license": "unknown"}
    label = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return {"license": "other", "license_name": f"{label}-terms", "license_details": licence}


def size_category(samples: int) -> str:
    """Returns the hub's class of a number of samples, such as 1K<n<10K."""
    step = min(len(str(samples)) - 3, len(_STEPS) - 1)
    return f"{_STEPS[step - 1]}<n<{_STEPS[step]}" if step > 0 else f"n<{_STEPS[0]}"


def _lines(name: str, value: Any) -> list[str]:
    """Returns the lines of an entry: a text, or a list of texts or of further entries."""
    if isinstance(value, str):
        return [f"{name}: {_quoted(value)}"]
    lines = [f"{name}:"]
    for item in value:
        inner = (
            [_quoted(item)] if isinstance(item, str) else [x for k, v in item.items() for x in _lines(k, v)]
        )
        lines += [f"{'  ' if i else '- '}{line}" for i, line in enumerate(inner)]
    return lines


def _quoted(value: str) -> str:
    """Returns a text in YAML's double quotes. Characters that a YAML reader may refuse become escapes."""
    plain = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(plain)}"'
