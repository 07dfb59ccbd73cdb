"""Synthetic captions of sets: by a folder of transformers, or by an endpoint that fails and is killed."""

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption import captioners, drafts, encoders
from caption.captioners import EndpointCaptioner, FolderCaptioner, SceneCaptioner, cleaned
from caption.cli import app
from caption.endpoint import KEY, Endpoint
from caption.join import dataset
from caption.table import CaptionSet, text_vectors
from synth.errors import UserError
from synth.sets.records import Part
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage
from tests.kit import (
    ROOT,
    SHADES,
    chat_server,
    invoke,
    json_lines,
    make_tables,
    start,
    tar_hashes,
    write_foreign,
)
from tests.kit_train import GAN, first, stream
from train.stream import captioned_sets
from train.stream.visits import Text, Visit

TEXTS = [{"txt": f"picture {i}\nagain {i}".encode()} if i % 4 else {} for i in range(40)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server without a key."""
    with chat_server() as address:
        yield address


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of forty pictures with captions of people for three quarters of them."""
    return write_foreign(tmp_path_factory.mktemp("real") / "s", TEXTS, sizes=(32,))


@pytest.fixture(scope="module")
def recaptioned(
    real: Path, server: str, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tables of that set with captions of the server."""
    out = tmp_path_factory.mktemp("recaptioned") / "t"
    make_tables(real, out, tiny_encoder, endpoint=endpoint(f"{server}/v1"))
    return out


def endpoint(url: str, **changes: Any) -> Endpoint:
    """An endpoint without long pauses."""
    return Endpoint(url, "tiny", **{"timeout": 30.0, "pause": 0.01, **changes})


def synthetic(place: Path) -> dict[str, list[str]]:
    """The synthetic captions of a set of tables by key."""
    tables = CaptionSet(str(place))
    read = [tables.read(part, ["key", "synthetic_caption"]) for part in tables.parts]
    return {key: row for t in read for key, row in zip(*(c.to_pylist() for c in t.columns), strict=True)}


def test_tables_have_the_captions_of_people_and_those_of_the_captioner_embedded(
    real: Path, recaptioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    make_tables(real, tmp_path / "plain", tiny_encoder)
    plain, tables = CaptionSet(str(tmp_path / "plain")), CaptionSet(str(recaptioned))
    assert tables.columns == [*plain.columns, "synthetic_caption", "synthetic_embedding"]
    [part] = tables.parts
    assert tables.read(part, plain.columns).equals(plain.read(plain.parts[0], plain.columns))
    table = tables.read(part, ["synthetic_caption", "synthetic_embedding"])
    texts = [text for row in table["synthetic_caption"].to_pylist() for text in row]
    assert len(texts) == 40 and len(set(texts)) > 30
    assert all(re.fullmatch(r"A \w+( \w+){3,8}\.", text) for text in texts)
    encoder = encoders.load(encoders.find(str(tiny_encoder)), "cpu", tables.identity["precision"])
    stored = np.concatenate(text_vectors(table["synthetic_embedding"], 32)).astype(np.float32)
    assert np.allclose(stored, encoder.texts(texts), atol=2e-3)
    assert (recaptioned / "README.md").read_text().count("synthetic_caption") == 1
    assert "Captioner: `tiny`, behind an endpoint. Its prompt:" in (recaptioned / "README.md").read_text()


def test_a_server_that_fails_for_a_time_changes_no_byte(
    real: Path, recaptioned: Path, server: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    moody = endpoint(f"{server}/moody/v1", at_once=40, timeout=0.5, attempts=20)
    summary = make_tables(real, tmp_path / "t", tiny_encoder, endpoint=moody)
    assert summary.pictures == 40
    assert tar_hashes(tmp_path / "t", ".parquet") == tar_hashes(recaptioned, ".parquet")
    assert CaptionSet(str(tmp_path / "t")).digest == CaptionSet(str(recaptioned)).digest


@pytest.mark.soak
def test_a_killed_command_goes_on_to_the_same_bytes(
    undisturbed: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    with chat_server("--pause", "0.15") as server:
        words = [str(undisturbed), "--out", str(tmp_path / "killed"), "--encoder", str(tiny_encoder)]
        words += ["--url", f"{server}/500/v1", "--model", "tiny", "--requests", "3"]
        process = start([sys.executable, "-m", "caption", "recaption", *words], cwd=ROOT)
        deadline = time.monotonic() + 120
        record = tmp_path / "killed" / "visual_atoms-000000.json"
        # The first record is the claim of the place, without a table.
        while not (record.is_file() and json.loads(record.read_text())["bytes"] > 0):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
        time.sleep(0.2)  # within the second shard, which takes 2.4 s
        process.kill()
        process.communicate()
        assert not (tmp_path / "killed" / "manifest.json").exists()
    with chat_server() as server:
        terms = {"endpoint": endpoint(f"{server}/v1", at_once=4)}
        assert make_tables(undisturbed, tmp_path / "killed", tiny_encoder, **terms).pictures == 24
        make_tables(undisturbed, tmp_path / "whole", tiny_encoder, **terms)
        assert make_tables(undisturbed, tmp_path / "whole", tiny_encoder, **terms).pictures == 0
    assert tar_hashes(tmp_path / "killed", ".parquet") == tar_hashes(tmp_path / "whole", ".parquet")
    assert CaptionSet(str(tmp_path / "killed")).digest == CaptionSet(str(tmp_path / "whole")).digest


def test_a_server_that_always_refuses_gets_one_sentence_and_finished_tables_stay(
    undisturbed: Path, server: str, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = captioners.captions

    def second_refused(captioner: Any, samples: Any) -> Any:
        """The captions of the first shard, and a refusal for the next."""
        samples = list(samples)
        if samples[0].key != "000000000":
            captioner = EndpointCaptioner(endpoint(f"{server}/always-refuse/v1"), "long")
        return work(captioner, samples)

    terms = {"endpoint": endpoint(f"{server}/v1")}
    with monkeypatch.context() as patch:
        patch.setattr(captioners, "captions", second_refused)
        with pytest.raises(UserError, match=rf"answers 401 \(Your account.*set the variable {KEY}"):
            make_tables(undisturbed, tmp_path / "t", tiny_encoder, **terms)
    assert sorted(tar_hashes(tmp_path / "t", ".parquet")) == ["visual_atoms-000000.parquet"]
    assert make_tables(undisturbed, tmp_path / "t", tiny_encoder, **terms).pictures == 24


def test_a_stopped_command_pays_for_no_caption_twice(
    real: Path, recaptioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    with chat_server() as server:
        quota = endpoint(f"{server}/quota-37/v1", at_once=1)
        with pytest.raises(UserError, match="answers 401"):
            make_tables(real, tmp_path / "t", tiny_encoder, endpoint=quota)
        draft = tmp_path / "t" / "00000.draft.json"
        # Two requests are begun, so the 37th answer may belong to the 38th picture.
        texts = json.loads(draft.read_text())["captions"]
        assert len(texts) in (36, 37)
        assert texts == [text for [text] in synthetic(recaptioned).values()][: len(texts)]
        other = {"endpoint": endpoint(f"{server}/v1"), "prompt": "short"}
        with pytest.raises(UserError, match=r"captioner\.prompt is .* there and .* here; .*--overwrite"):
            make_tables(real, tmp_path / "t", tiny_encoder, **other)
        copy = shutil.copytree(tmp_path / "t", tmp_path / "copy")
        make_tables(real, copy, tiny_encoder, **other, overwrite=True)
        assert sorted(p.name for p in copy.glob("00000*")) == ["00000.json"]
        more = endpoint(f"{server}/quota-8/v1")
        make_tables(real, tmp_path / "t", tiny_encoder, endpoint=more)  # 32, two batches, come from the draft
    assert not draft.exists()
    assert tar_hashes(tmp_path / "t", ".parquet") == tar_hashes(recaptioned, ".parquet")
    assert CaptionSet(str(tmp_path / "t")).digest == CaptionSet(str(recaptioned)).digest


def test_a_draft_is_written_at_times_and_not_only_at_the_end(
    real: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "SECONDS", 0.0)
    shard_set, storage = ShardSet(str(real)), open_storage(str(tmp_path))
    [shard] = shard_set.shards
    part, captioner = (
        Part("a-00000.parquet", 0, 0, 40, {"shard": "0"}),
        EndpointCaptioner(endpoint(f"{server}/v1"), "long"),
    )
    coming = drafts.captions(captioner, shard_set.read(shard), storage, part)
    texts = [text for _, text in islice(coming, 5)]
    assert json.loads((tmp_path / "a-00000.draft.json").read_text())["captions"] == texts
    drafts.remove(storage)
    assert not list(tmp_path.iterdir())


class Batches:
    """A captioner in batches of four."""

    name, at_once, identity = "batches", 4, {"model": "batches"}

    def __init__(self) -> None:
        self.seen: list[int] = []

    def answers(self, samples: Any) -> Iterator[tuple[Any, str]]:
        for sample in samples:
            self.seen.append(sample)
            yield sample, f"a star {sample}"


def test_a_draft_is_used_by_whole_batches_of_its_captioner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "SECONDS", 0.0)
    storage, part = open_storage(str(tmp_path)), Part("a-00000.parquet", 0, 0, 9, {"shard": "0"})

    def drafted(captioner: Any) -> Any:
        numbers: Any = range(9)
        return drafts.captions(captioner, numbers, storage, part)

    def stored() -> int:
        return len(json.loads((tmp_path / "a-00000.draft.json").read_text())["captions"])

    coming = drafted(Batches())
    assert [text for _, text in islice(coming, 7)][-1] == "a star 6" and stored() == 4
    coming.close()
    assert stored() == 7
    again = Batches()
    assert [text for _, text in drafted(again)] == [f"a star {i}" for i in range(9)]
    assert again.seen == [*range(4, 9)]


@pytest.mark.parametrize(("side", "tiles"), [(64, 1), (512, 1), (513, 4), (1024, 4), (4096, 4)])
def test_tokens_of_a_picture_follow_openais_rule(side: int, tiles: int) -> None:
    cost = EndpointCaptioner(endpoint("http://localhost/v1"), "abcd").cost(1, side)
    assert cost["tokens_sent"] == 1 + 85 + 170 * tiles


def test_captioners_name_their_batches(server: str) -> None:
    assert EndpointCaptioner(endpoint(f"{server}/v1"), "long").at_once == 1
    assert FolderCaptioner("", "cpu", "", None).at_once == 16
    assert SceneCaptioner("", "cpu", "", "long").at_once == 64


@pytest.mark.parametrize("content", ["{", "[]", '{"fingerprint": "0", "captions": ["a red star"]}'])
def test_a_draft_of_other_terms_or_damaged_is_not_read(
    real: Path, recaptioned: Path, server: str, tiny_encoder: Path, tmp_path: Path, content: str
) -> None:
    with pytest.raises(UserError, match="answers 401"):
        make_tables(real, tmp_path / "t", tiny_encoder, endpoint=endpoint(f"{server}/always-refuse/v1"))
    (tmp_path / "t" / "00000.draft.json").write_text(content)
    make_tables(real, tmp_path / "t", tiny_encoder, endpoint=endpoint(f"{server}/v1"))
    assert tar_hashes(tmp_path / "t", ".parquet") == tar_hashes(recaptioned, ".parquet")
    assert not (tmp_path / "t" / "00000.draft.json").exists()


def test_a_caption_that_is_empty_after_cleaning_is_named(
    real: Path, server: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"of sample photo_0 by tiny is empty; finished batches stay"):
        make_tables(real, tmp_path / "t", tiny_encoder, endpoint=endpoint(f"{server}/always-empty/v1"))
    assert not tar_hashes(tmp_path / "t", ".parquet") and not (tmp_path / "t" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("  A red\n\n star. ", "A red star."),
        ('"A star"', "A star"),
        ("“**A star**”", "A star"),
        ("<think>It is\nred.</think>\nThe image shows a star", "The image shows a star"),
        ("red? no, blue.</think> A star", "A star"),
        ("a\x00b\u200d\ud800c", "a b\u200d c"),
        ("the dogs'", "the dogs'"),
        ('"', '"'),
        ("<think></think>", ""),
        ("<think>It is red, so", ""),
        ("A star. <think>It is\nred", "A star."),
    ],
)
def test_answers_are_cleaned(answer: str, caption: str) -> None:
    assert cleaned(answer) == caption


@pytest.mark.slow
def test_a_folder_of_transformers_captions_a_set(
    real: Path, image_to_text: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    options = ["--captioner", image_to_text, "--encoder", tiny_encoder]
    printed = invoke(app, "recaption", real, *options, "--out", tmp_path / "t")
    assert printed.exception is None
    assert "tiny describes 40 pictures, 40,960 pixels" in printed.stderr
    captions = synthetic(tmp_path / "t")
    assert list(captions) == [f"photo_{i}" for i in range(40)]
    assert {word for row in captions.values() for word in row[0].split()} <= set(SHADES)
    again = invoke(app, "recaption", real, *options, "--out", tmp_path / "t")
    assert "is finished: nothing to do" in again.stderr
    assert "Captioner: `tiny`, files sha256 `" in (tmp_path / "t" / "README.md").read_text()

    # Other files are another captioner.
    other = Path(shutil.copytree(image_to_text, tmp_path / "tiny"))
    (other / "generation_config.json").write_text((other / "generation_config.json").read_text() + "\n")
    with pytest.raises(UserError, match=r"captioner\.weights is"):
        make_tables(real, tmp_path / "t", tiny_encoder, captioner=str(other))
    moved = FolderCaptioner.find(str(other), "cpu")
    captioners._digest_of.cache_clear()
    (other / "generation_config.json").unlink()
    with pytest.raises(UserError, match="holds another captioner on this node"):
        next(moved.answers(ShardSet(str(real)).read(ShardSet(str(real)).shards[0])))


@pytest.mark.slow
def test_a_model_with_a_chat_template_gets_the_prompt(
    chatting: Path, image_to_text: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    real, captions = write_foreign(tmp_path / "s", TEXTS[:3], sizes=(32,)), []
    for number, prompt in enumerate(("red green", "blue blue blue", "red green")):
        make_tables(real, tmp_path / str(number), tiny_encoder, captioner=str(chatting), prompt=prompt)
        captions.append(synthetic(tmp_path / str(number)))
    assert captions[0] == captions[2] != captions[1]
    for row in captions[0].values():
        words = row[0].split()
        assert set(words) <= set(SHADES) and 4 <= len(words) <= 160  # no word of the prompt's form
    assert 'Its prompt: "red green"' in (tmp_path / "0" / "README.md").read_text()
    assert FolderCaptioner.find(str(chatting), "cpu").prompt == "long"
    with pytest.raises(UserError, match="tiny has no chat template; leave --prompt out"):
        make_tables(real, tmp_path / "t", tiny_encoder, captioner=str(image_to_text), prompt="short")


def test_training_reads_the_synthetic_captions_by_key(real: Path, recaptioned: Path) -> None:
    tables = CaptionSet(str(recaptioned))
    column = tables.read(tables.parts[0], ["synthetic_embedding"])["synthetic_embedding"]
    stored = text_vectors(column, 32)
    source = stream(real, recaptioned, Visit(16, 0, Text.parse("synthetic"), 0.25, 0.0, GAN))
    source.require_whole()
    [batch] = first(source.batches(0, 40), 1)
    for place, vector in zip(source.order.places(0, 40), batch.vectors["g"].numpy(), strict=True):
        assert np.allclose(vector, stored[place.row][0].astype(np.float32), atol=1e-3)
    sample = next(iter(dataset(str(real), str(recaptioned), ["synthetic_caption"], shuffle=0)))
    assert sample["synthetic_caption"] == synthetic(recaptioned)["photo_0"]


@pytest.mark.slow
def test_an_audit_measures_the_synthetic_captions(recaptioned: Path, tmp_path: Path) -> None:
    rows = json_lines(invoke(app, "audit", recaptioned, "--out", tmp_path / "a.html", raising=True))
    [row] = [row for row in rows if row.get("captions_of") == "tiny"]
    words = {word for [text] in synthetic(recaptioned).values() for word in re.findall(r"\w+", text.lower())}
    assert row["captions"] == 40 and row["vocabulary"] == len(words)
    assert "Captions by tiny" in (tmp_path / "a.html").read_text()


def test_tables_without_synthetic_captions_say_how_to_make_them(undisturbed: Path, captioned: Path) -> None:
    with pytest.raises(
        UserError, match="no column synthetic_embedding; `python -m caption recaption SHARDS`"
    ):
        stream(undisturbed, captioned, Visit(16, 0, Text.parse("synthetic"), 0.25, 0.0, GAN))


def test_the_text_of_a_run_chooses_among_a_sets_tables(
    real: Path, recaptioned: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_tables(real, "data/captions/toy/tiny", tiny_encoder)
    with pytest.raises(UserError, match=r"have synthetic captions; `python -m caption recaption .*` makes"):
        captioned_sets.find([str(real)], [], kind="synthetic")
    shutil.copytree(recaptioned, "data/captions/toy/tiny-recaptioned-tiny")
    kinds: list[tuple[captioned_sets.Kind, str]] = [
        ("plain", "tiny"),
        ("synthetic", "tiny-recaptioned-tiny"),
        ("blend", "tiny-recaptioned-tiny"),
    ]
    for kind, name in kinds:
        [(_, tables)] = captioned_sets.find([str(real)], [], kind=kind)
        assert tables is not None and tables.storage.url.endswith(f"/{name}")


def test_the_cost_comes_first_and_sends_nothing(
    real: Path, server: str, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--url", "http://127.0.0.1:9/v1", "--model", "a/tiny", "--encoder", tiny_encoder]
    [row] = json_lines(invoke(app, "recaption", real, *options, "--dry-run", raising=True))
    assert row["requests"] == row["pictures"] == 40 and row["pixels"] == 40 * 32 * 32
    assert row["tokens_sent"] == 40 * (85 + 170 + 44) and row["tokens_received"] == 40 * 80
    assert not list(tmp_path.iterdir())

    # The usual place.
    options[1] = f"{server}/v1"
    printed = invoke(app, "recaption", real, *options, "--prompt", "short", "--temperature", "0.5")
    assert printed.exception is None
    cost = (
        r"a/tiny describes 40 pictures, 40,960 pixels: 40 requests, about 11,\d+ tokens sent and 800 received"
    )
    assert re.search(cost, printed.stderr)
    identity = CaptionSet("data/captions/toy/tiny-recaptioned-a-tiny").identity
    assert identity["captioner"]["temperature"] == 0.5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "recaption needs a captioner; give --captioner FOLDER, or --url URL --model NAME"),
        (["--captioner", "x", "--url", "http://h/v1"], "recaption needs a captioner"),
        (["--captioner", "nowhere"], "nowhere holds no config.json"),
        (
            ["--captioner", "x", "--model", "m"],
            "--model, --temperature, --requests and --timeout belong to --url",
        ),
        (["--url", "http://h/v1"], "--url needs --model NAME; http://h/v1/models lists"),
        (["--url", "h/v1", "--model", "m"], "--url is 'h/v1'; give an address such as"),
        (["--url", "http://h/v1", "--model", "m", "--prompt", " "], "--prompt is empty"),
        (
            ["--url", "http://h/v1", "--model", "m", "--prompt", "\udce9"],
            "which is not UTF-8; give short, long",
        ),
        (["--url", "http://h/v1", "--model", "m", "--requests", "0"], "--requests is 0"),
        (["--url", "http://h/v1", "--model", "m", "--timeout", "0"], "--timeout is 0"),
    ],
)
def test_bad_options_get_one_sentence(
    real: Path, tiny_encoder: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    command = ["recaption", real, "--encoder", tiny_encoder, "--out", tmp_path / "t", *options]
    error = invoke(app, *command).exception
    assert isinstance(error, UserError) and sentence in str(error)
    assert not (tmp_path / "t").exists()
