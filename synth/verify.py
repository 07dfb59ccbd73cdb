"""Checks of a finished set against its manifest. They name the changed member."""

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from synth import settings
from synth.errors import UserError
from synth.foreign import parsed_json
from synth.glsl import gl
from synth.images import codecs
from synth.images.codecs import Codec
from synth.recipe import MASK, Recipe, checksum, codec_of, mask_file, redraw
from synth.sets import shards
from synth.sets.damage import UnreadableError, judged
from synth.sets.shards import Shard, ShardSet
from synth.sets.storage import open_storage

Json = dict[str, Any]

_CHUNK = 1 << 20


def about_path(path: str) -> Json:
    """Returns the summary of a finished set, or of a single tar. Raises UserError if it is damaged."""
    return _tar_summary(path) if _is_tar(path) else _set_summary(ShardSet(path))


def _is_tar(path: str) -> bool:
    """Returns True for a tar. A folder may have the name of one."""
    return path.endswith(".tar") and not os.path.isdir(path)


def _set_summary(shard_set: ShardSet) -> Json:
    manifest, sizes = shard_set.manifest, shard_set.storage.sizes()

    # Missing or cut tars.
    for part in manifest["parts"]:
        name, size = shard_set.storage.join(part["file"]), sizes.get(part["file"])
        if size != part["bytes"]:
            fault = "is missing" if size is None else f"has {size:,}"
            raise UserError(f"{name} {fault} where the manifest says {part['bytes']:,} bytes")

    counts = {
        "pictures": len(shard_set),
        "shards": len(shard_set.shards),
        "bytes": sum(p["bytes"] for p in manifest["parts"]),
    }
    return {**manifest["identity"], **counts, "licence": manifest["licence"], "digest": shard_set.digest}


def _tar_summary(path: str) -> Json:
    record, keys = _record_beside(path), list[str]()
    for key, files in _members(path):
        _checked(path, key, files, record)
        keys.append(key)

    # A tar that was cut between two samples reads without an error.
    if record.get("count", len(keys)) != len(keys):
        counts = f"{len(keys)} samples where its record says {record['count']}"
        cut = f"it was cut after member {keys[-1]}" if keys else "it holds nothing but zeros"
        raise UserError(f"{path} holds {counts}; {cut}")

    first, last = (keys[0], keys[-1]) if keys else (None, None)
    return {"path": path, "samples": len(keys), "first": first, "last": last}


def about_sample(path: str, key: str) -> Json:
    """Returns a sample's JSON, after a check of its picture. Raises UserError if it is missing or damaged."""
    # A tar, or the tars of a set that may hold the key.
    for tar in [path] if _is_tar(path) else _shards_of(path, key):
        for member, files in _members(tar):
            if member == key:
                return _checked(tar, key, files, _record_beside(tar))
    raise UserError(
        f"{path} holds no sample {key!r}; keys of formula pictures are nine digits, such as 000000123"
    )


def _checked(path: str, key: str, files: dict[str, bytes], record: Json) -> Json:
    """Returns a sample's JSON. Raises UserError if there is none, or the picture differs from its checksum.
    Tars of other people, which their record adopts, may have neither."""
    metadata = _parsed(files.get("json", b""))

    # No checksum: allowed in adopted tars alone.
    if "crc32" not in metadata:
        if not _drawn(record.get("identity", {"family": "unknown"})):
            return metadata
        raise UserError(
            f"member {key}.json of {path} has no checksum; the tar was changed, or is another program's"
        )

    # The picture, or an empty file if there is none.
    extension = next((e for e in files if e in codecs.EXTENSIONS), "")
    if checksum(files.get(extension, b"")) != metadata["crc32"]:
        raise UserError(f"member {key}.{extension} of {path} was changed: it differs from its checksum")
    return metadata


def _record_beside(path: str) -> Json:
    """Returns the record of a tar in the same folder, else nothing."""
    folder, name = posixpath.split(path)
    try:
        return _parsed(open_storage(folder or ".").read(name.removesuffix(".tar") + ".json"))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def redrawable(shard_set: ShardSet) -> int:
    """Returns the number of pictures that can be drawn again: all of a set of formulas, none of any other."""
    return len(shard_set) if _drawn(shard_set.manifest["identity"]) else 0


def damages(shard_set: ShardSet, redrawn: int) -> Iterator[tuple[Shard, str | None]]:
    """Yields every shard with a sentence about its damage, or None. Also draws `redrawn` formula pictures
    again and compares them."""
    # Pictures evenly spread over the set.
    total = len(shard_set)
    chosen = {i * total // redrawn for i in range(redrawn)} if redrawn else set()

    for shard, part in zip(shard_set.shards, shard_set.manifest["parts"], strict=True):
        keys = {shards.sample_key(i) for i in chosen if shard.first <= i < shard.first + shard.count}
        yield shard, _damage(shard_set, shard, part, keys)


def _damage(shard_set: ShardSet, shard: Shard, part: Json, keys: set[str]) -> str | None:
    """Returns a sentence about the damage of a shard, or None. Draws the samples of `keys` again."""
    name, remedy = shard_set.storage.join(shard.file), shard_set.remedy
    try:
        with shard_set.storage.open(shard.file) as file:
            # Checksum of the tar.
            whole = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                whole.update(chunk)
            if whole.hexdigest() != part["sha256"]:
                return f"{name} is not what was written: {_culprit(shard_set, shard)}; {remedy}"

            # Pictures drawn again.
            file.seek(0)
            if keys:
                codec = codec_of(shard_set.manifest["identity"])
                members = shards.read_members(file, name)
                samples = (shards.decode(key, files, name) for key, files in members if key in keys)
                return _misdrawn(samples, name, codec)
    except FileNotFoundError:
        return shards.MISSING.format(name)
    except UnreadableError as error:
        with shard_set.storage.open(shard.file) as file:
            return str(judged(error, file, part["sha256"], remedy))
    except UserError as error:
        return str(error)
    return None


def _misdrawn(samples: Iterator[shards.Sample], name: str, codec: Codec) -> str | None:
    """Returns a sentence about the first sample that its JSON does not draw as stored, or None."""
    for sample in samples:
        try:
            pixels = redraw(sample.metadata)
        except UserError as error:
            return f"sample {sample.key} of {name} cannot be drawn again: {error}"

        # The codec may lose bits, so both pictures have gone through it.
        drawn = codecs.rgb(codecs.decode(codec.encode(pixels)))

        # Renderers of shaders differ by a few levels.
        foreign = sample.metadata.get("renderer") and sample.metadata["renderer"] != gl.renderer()
        if np.abs(drawn.astype(np.int16) - sample.pixels).mean() > (gl.TOLERANCE if foreign else 0):
            cause = "another machine type or law drew it"
            return f"sample {sample.key} of {name} is not the picture that its JSON draws: {cause}"
    return None


def _culprit(shard_set: ShardSet, shard: Shard) -> str:
    """Returns a phrase about the first member that differs from the set's recipe. Raises UserError if the tar
    does not read."""
    identity = shard_set.manifest["identity"]
    if not _drawn(identity):
        return "its sha256 differs from the manifest's"
    try:
        recipe = Recipe.of(identity)
    except UserError as error:
        return f"its members cannot be compared, because {error}"

    # Members one by one, beside the samples that the recipe draws.
    extension = codec_of(identity).extension
    index, end = shard.first, shard.first + shard.count
    with shard_set.storage.open(shard.file) as file:
        for key, files in shards.read_members(file, shard_set.storage.join(shard.file)):
            if index == end or key != shards.sample_key(index):
                return f"member {key} does not belong there"

            # The JSON, apart from its checksum, then the picture.
            metadata = _parsed(files.get("json", b""))
            params, picture = recipe.render(index)
            expected = json.loads(settings.canonical(recipe.describe(index, params, picture)))
            if {k: v for k, v in metadata.items() if k != "crc32"} != expected:
                return f"member {key}.json was changed"
            if checksum(files.get(extension, b"")) != metadata.get("crc32"):
                return f"member {key}.{extension} was changed"

            # The mask has no checksum of its own.
            if picture.mask is not None and files.get(MASK) != mask_file(picture):
                return f"member {key}.{MASK} was changed"
            index += 1

    # All members are as they were.
    if index < end:
        return f"it ends before member {shards.sample_key(index)}"
    return "its headers or padding were changed"


def _members(path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    folder, name = posixpath.split(path)
    try:
        with open_storage(folder or ".").open(name) as file:
            yield from shards.read_members(file, path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"there is no file {path}") from None


def _drawn(identity: Any) -> bool:
    """Returns True if the set's pictures are drawn by formulas and can be drawn again.

    A damaged record may have another value than an object, which names no family."""
    return isinstance(identity, dict) and "family" in identity


def _shards_of(path: str, key: str) -> list[str]:
    """Returns the tars that may hold a key: one for formula pictures, which are numbered, else all."""
    shard_set = ShardSet(path)
    if not _drawn(shard_set.manifest["identity"]):
        return [shard_set.storage.join(s.file) for s in shard_set.shards]

    # The one shard with that index.
    index = int(key) if re.fullmatch("[0-9]{9}", key) else -1
    shard = next((s for s in shard_set.shards if s.first <= index < s.first + s.count), None)
    if shard is None:
        last = shards.sample_key(len(shard_set) - 1)
        raise UserError(f"{path} holds no sample {key!r}; its keys are {shards.sample_key(0)} to {last}")
    return [shard_set.storage.join(shard.file)]


def _parsed(data: bytes) -> Json:
    try:
        value = parsed_json(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
