import base64
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from caption.audit import captioner, measures, plots, wording
from caption.audit import report as auditing
from caption.audit.measures import Cosines, Retrieval, Spread
from caption.audit.page import page as page_of
from caption.audit.report import Audit
from caption.cli import app
from caption.pseudo import noise, pseudo_caption
from caption.table import KIND, CaptionSet, Rows, TableWriter, metadata
from synth.errors import UserError
from synth.sets import completion, ledger
from synth.sets.records import Record
from synth.sets.shards import ShardSet, sample_key
from synth.sets.storage import open_storage
from tests import kit
from tests.kit import SHADES

RANDOM = np.random.default_rng(0)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def sphere(count: int, dimensions: int) -> np.ndarray:
    """Directions without preference: float32 (N, D) of unit length."""
    return unit(np.random.default_rng([count, dimensions]).standard_normal((count, dimensions)))


def of(vectors: np.ndarray) -> Spread:
    moments = Spread(vectors.shape[1])
    for some in np.array_split(vectors, 3):
        moments.add(some)
    return moments


def planted(
    out: Path,
    image: np.ndarray,
    *,
    xi: float = 0.25,
    captions: Any = None,
    text: np.ndarray | None = None,
    parts: int = 3,
) -> Path:
    """Returns the folder of finished tables with these image embeddings (N, D).

    `captions` has those of each row, `text` the embedding of the last one."""
    # Vectors and captions.
    dimensions, with_texts = image.shape[1], text is not None
    image16 = image.astype(np.float16)
    pseudo = pseudo_caption(image16.astype(np.float32), noise(0, range(len(image)), 0, dimensions), 0.25)
    captions = captions or [
        [f"a {SHADES[i % 8]} thing", f"a {SHADES[i % 8]} thing number {i}"] for i in range(len(image))
    ]

    # Identity.
    storage = open_storage(str(out))
    identity: dict[str, Any] = {"kind": KIND, "encoder": "planted", "weights": "0" * 64, "precision": "fp32"}
    identity |= {"dimensions": dimensions, "xi": 0.25, "preprocessing": {}, "seed": 0, "sentences": 1}
    identity |= {"text_embeddings": with_texts, "shards": {"dataset": "planted", "fingerprint": "f"}}

    # Tables.
    records = []
    for number, some in enumerate(np.array_split(np.arange(len(image)), parts)):
        file, first = f"planted-{number:06d}.parquet", int(some[0])
        keys, texts = [sample_key(i) for i in some], [captions[i] for i in some]
        lists = None
        if text is not None:
            lists = [np.tile(text[i].astype(np.float16), (len(captions[i]), 1)) for i in some]
        fields = metadata(identity, file, "d")
        with (
            storage.staged(file) as path,
            TableWriter(path, dimensions, text_embeddings=with_texts, metadata=fields) as writer,
        ):
            writer.add(Rows(keys, first, image16[some], pseudo[some], texts, lists))
        content = {"shard": file, "cut": 0}
        records.append(
            Record(file, number, first, len(some), writer.size, writer.sha256, "f", identity, content)
        )

    # Manifest.
    shards = {"dataset": "planted", "digest": "d", "fingerprint": "f"}
    statement = {"title": "planted", "shards": shards, "licence": "CC0-1.0"}
    ledger.write_manifest(storage, ledger.manifest(records, identity, statement, {}))
    return out


def audited(place: Path, sample: int = 4096, seed: int = 0) -> Audit:
    return completion.finish(auditing.audit(CaptionSet(str(place)), sample=sample, seed=seed))


@pytest.mark.parametrize(
    ("variances", "rank"),
    [([1] * 16, 16), ([4, 0, 0], 1), ([9, 9, 0], 2), ([9, 1], 4 / 3**0.75), ([0, 0], 0)],
)
def test_effective_rank_counts_equal_directions(variances: list[float], rank: float) -> None:
    turn = np.linalg.qr(RANDOM.standard_normal((len(variances),) * 2))[0]
    covariance = turn @ np.diag(np.array(variances, float)) @ turn.T
    assert measures.effective_rank(measures.spectrum(covariance)) == pytest.approx(rank, rel=1e-5)


def test_moments_in_parts_are_those_of_all_even_of_nearly_equal_vectors() -> None:
    vectors = unit(sphere(500, 8) * 1e-3 + sphere(1, 8))
    moments, exact = of(vectors), vectors.astype(np.float64)
    assert np.allclose(moments.mean, exact.mean(axis=0), atol=1e-9)
    assert np.allclose(moments.covariance, np.cov(exact.T, bias=True), rtol=1e-4, atol=1e-12)
    pairs = (exact @ exact.T)[~np.eye(500, dtype=bool)]
    assert moments.pair_cosine == pytest.approx(pairs.mean(), abs=1e-7)


def test_the_gap_is_the_length_of_a_shift() -> None:
    vectors, shift = sphere(300, 16), np.linspace(-1, 1, 16, dtype=np.float32)
    assert measures.gap(of(vectors), of(vectors)) == 0
    assert measures.gap(of(vectors), of(vectors + shift)) == pytest.approx(
        float(np.linalg.norm(shift)), rel=1e-5
    )


def test_a_histogram_keeps_every_cosine_with_its_mean() -> None:
    values = np.array([-1, -1, 0, 0.5, 1, 1 + 1e-7], np.float32)
    histogram = Cosines()
    histogram.add(values[:2])
    histogram.add(values[2:])
    edges = np.linspace(-1, 1, measures.BINS + 1)
    assert histogram.total == 6 and histogram.counts[0] == 2 and histogram.counts[-1] == 2
    assert edges[np.flatnonzero(histogram.counts)][1:3] == pytest.approx([0, 0.5])
    assert (histogram.mean, histogram.deviation) == (
        pytest.approx(values.mean()),
        pytest.approx(values.std()),
    )


def test_planted_duplicates_are_each_others_nearest() -> None:
    vectors = sphere(1500, 32)
    vectors[1400], vectors[7] = vectors[3], unit(vectors[1200:1201] + 0.001)[0]
    best, which = measures.nearest(vectors)
    matrix = vectors @ vectors.T - 2 * np.eye(1500, dtype=np.float32)
    assert np.allclose(best, matrix.max(axis=1), atol=1e-6)
    assert np.allclose(matrix[np.arange(1500), which], best, atol=1e-6)
    assert (which[3], which[1400], which[7], which[1200]) == (1400, 3, 1200, 7)
    assert np.flatnonzero(best > auditing.DUPLICATE).tolist() == [3, 7, 1200, 1400]


def test_ranks_are_those_of_sorting() -> None:
    queries, targets = sphere(1100, 8), unit(sphere(1100, 8) + 0.7 * sphere(1101, 8)[1:])
    order = np.argsort(-(queries @ targets.T), axis=1)
    assert np.array_equal(
        measures.ranks(queries, targets), (order == np.arange(1100)[:, None]).argmax(axis=1)
    )


def test_retrieval_is_perfect_without_noise_even_among_duplicates_and_chance_from_noise_alone() -> None:
    image = sphere(1000, 64)
    image[500] = image[0]
    assert Retrieval.of(image, image) == (1, 1, 1000)
    blind = Retrieval.of(sphere(1001, 64)[1:], image)
    assert blind.top_1 <= 0.005 and blind.top_5 == pytest.approx(0.005, abs=0.01)


def test_a_sweep_follows_the_law_within_three_standard_errors() -> None:
    image, eps = sphere(1000, 64), noise(0, range(1000), 0, 64)
    amounts = np.array([0.0, 0.25, 1.0, 3.0])
    result = measures.sweep(image, eps, amounts)
    for i, xi in enumerate(amounts):
        spread = measures.cosines(pseudo_caption(image, eps, float(xi)), image).std()
        assert abs(result.cosine[i] - result.law[i]) <= 3 * spread / 1000**0.5 + 1e-6
    assert result.top_1[0] == 1 and (np.diff(result.top_1) <= 0).all()


def test_the_principal_plane_shows_distances_that_lie_in_a_plane() -> None:
    flat = RANDOM.standard_normal((50, 2)).astype(np.float32) * [3, 1]
    turn = np.linalg.qr(RANDOM.standard_normal((8, 8)))[0][:2].astype(np.float32)
    clouds = measures.principal_plane(
        {"a": (flat @ turn)[:20].astype(np.float32), "b": (flat @ turn)[20:].astype(np.float32)}
    )
    seen = np.concatenate([clouds["a"], clouds["b"]])
    distances = [np.linalg.norm(v[:, None] - v, axis=2) for v in (flat, seen)]
    assert np.allclose(distances[0], distances[1], atol=1e-4) and seen[:, 0].std() > seen[:, 1].std()


def test_words_and_distinct_n_by_hand() -> None:
    figures = wording.wording(
        [
            "A red-brown dog's dog, a dog!",
            "a red-brown dog's dog, a dog",
            "A red-brown dog's dog, a dog!",
            "two",
        ]
    )
    # words: a red-brown dog's dog a dog (three times), two; pairs: a r, r d's, d's dog, dog a, a dog
    assert figures[:3] == (4, 3, 5)
    assert (figures.distinct_1, figures.distinct_2, figures.words) == pytest.approx((5 / 19, 5 / 19, 19 / 4))
    assert figures.commonest == 0.5
    assert wording.wording([]) == (0, 0, 0, 0, 0, 0, 0)


def test_a_tally_in_parts_is_that_of_all_and_names_the_most_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [f"a {SHADES[i * i % 7]} thing {i % 50}" for i in range(1000)] + ["the same"] * 40
    monkeypatch.setattr(wording, "_WAITING", 100)
    tally = wording.WordTally()
    for start in range(0, len(captions), 90):
        tally.add(captions[start : start + 90])
    assert tally.wording() == wording.wording(captions)
    assert tally.wording().distinct == len(set(captions)) and tally.frequency["thing"] == 1000
    (code, times), *_ = tally.commonest(3).items()
    assert times == 40 and wording.named([code], captions) == {code: "the same"}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns tables of 400 random directions in 32 dimensions, with two planted duplicates.

    The texts are near the pictures."""
    image = sphere(400, 32)
    image[399] = image[5]
    text = unit(image + 0.05 * sphere(401, 32)[1:] + np.eye(1, 32, 0, dtype=np.float32))
    return planted(tmp_path_factory.mktemp("healthy"), image, text=text)


def test_an_audit_of_planted_tables_finds_what_was_planted(healthy: Path) -> None:
    report, image = audited(healthy), sphere(400, 32)
    assert report.duplicates == 2
    assert (report.closest[0].first, report.closest[0].second) == ("000000005", "000000399")
    assert report.closest_keys[399] == "000000399"
    assert report.sample.keys == [sample_key(i) for i in range(400)]
    assert report.ranks["image"] == pytest.approx(
        measures.effective_rank(measures.spectrum(np.cov(image.T))), rel=0.01
    )
    assert report.ranks["image"] > 31
    assert report.cosines["image", "pseudo"].mean == pytest.approx(report.law, abs=0.003)
    assert report.cosines["image", "text"].total == 800
    assert report.gaps["image", "text"] == pytest.approx(0.72, abs=0.05)
    assert report.retrieval["text"].top_1 > 0.95 and report.retrieval["pseudo"].top_1 > 0.95
    assert report.tally.captions == 800 and report.tally.wording().distinct == 408
    assert dict(report.commonest) == {f"a {shade} thing": 50 for shade in SHADES}
    assert report.wordings["short"].distinct == 8 and report.wordings["long"].distinct == 400
    assert report.warnings() == [] and report.row()["warnings"] == "none"


def test_streaming_figures_do_not_depend_on_sample_or_parts_and_the_sample_on_its_seed(
    healthy: Path, tmp_path: Path
) -> None:
    image = sphere(400, 32)
    image[399] = image[5]
    one = planted(tmp_path, image, parts=1)
    whole, other = audited(one), audited(healthy, 64, seed=1)
    some, again = audited(healthy, 64), audited(healthy, 64)
    cosines = ("cosine_image_pseudo", "cosine_of_two_pictures")
    for name in (*cosines, "effective_rank_image", "captions", "vocabulary"):
        assert some.row()[name] == whole.row()[name]
    assert len(some.nearest) == 64
    assert some.row() == again.row()
    assert some.sample.keys == again.sample.keys != other.sample.keys
    assert some.sample.indices.tolist() == [int(key) for key in some.sample.keys]
    assert np.allclose(some.sample.image, image[some.sample.indices], atol=1e-3)


@pytest.mark.parametrize(
    ("image", "captions", "sentence"),
    [
        (unit(sphere(200, 64) * 0.1 + sphere(1, 64)), None, "image embeddings are nearly equal"),
        (
            unit(np.pad(sphere(200, 2)[:, :1], ((0, 0), (0, 63))) + np.eye(1, 64, 5)),
            None,
            "image embeddings fill few directions",
        ),
        (
            np.repeat(sphere(20, 64), 10, axis=0),
            None,
            "100% of the sampled pictures have another with a cosine above 0.999",
        ),
        (
            sphere(200, 64),
            [["a picture", f"a picture of {i % 9}"] for i in range(200)],
            r"captions \(long\) are .* the same: 9 distinct",
        ),
        (sphere(200, 64), [["a", "b" if i % 3 else f"{i}"] for i in range(200)], "the most frequent 66%"),
    ],
    ids=["nearly equal", "few directions", "twins", "few distinct captions", "one frequent caption"],
)
def test_a_collapse_is_said(tmp_path: Path, image: np.ndarray, captions: Any, sentence: str) -> None:
    assert re.search(sentence, "; ".join(audited(planted(tmp_path, image, captions=captions)).warnings()))


@pytest.mark.slow
def test_rows_without_captions_are_audited(tmp_path: Path) -> None:
    captions = [["one", "two"], []] * 30
    report = audited(planted(tmp_path, sphere(60, 32), captions=captions, text=sphere(60, 32)))
    assert report.cosines["image", "text"].total == 60 and report.retrieval["text"] == (1, 1, 30)
    bare = audited(planted(tmp_path / "bare", sphere(60, 32), captions=[[]] * 60, text=sphere(60, 32)))
    assert bare.row()["captions"] == 0 and "cosine_image_text" not in bare.row() and bare.warnings() == []
    assert "Vocabulary" not in page_of(bare, {})


class Tags(HTMLParser):
    """The elements of a page; raises where one is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> list[tuple[str, dict[str, str | None]]]:
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert page.startswith("<!DOCTYPE html>") and not tags.open
    return tags.seen


@pytest.mark.slow
def test_the_page_is_whole_html_with_every_plot_and_nothing_from_elsewhere(healthy: Path) -> None:
    report = audited(healthy)
    pictures = {key: np.full((8, 8, 3), n % 256, np.uint8) for n, key in report.closest_keys.items()}
    page = page_of(report, pictures)
    elements = read(page)
    titles = ["Cosines", "Modality gap", "Effective rank", "Nearest other picture", "Retrieval"]
    titles += ["Amount of noise", "Vocabulary and the paper's table 4", "Frequency of words"]
    drawn = [attributes for tag, attributes in elements if tag == "img" and attributes["alt"]]
    assert [attributes["alt"] for attributes in drawn] == titles
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in elements}
    assert "url(" not in page
    assert "@import" not in page
    addresses = [
        value or ""
        for _, attributes in elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset")
    ]
    assert len(addresses) == len(titles) + len(report.closest)
    assert all(a.startswith("data:image/") for a in addresses)
    for attributes in drawn:
        svg = ET.fromstring(base64.b64decode((attributes["src"] or "").split(",")[1]))
        links = [
            value for element in svg.iter() for name, value in element.attrib.items() if name.endswith("href")
        ]
        assert len(list(svg.iter("{http://www.w3.org/2000/svg}path"))) > 20
        assert all(link.startswith("#") for link in links)
    assert "No sign of collapse" in page and "BLIP on Visual Atoms (paper)</td><td>1,000</td><td>34" in page
    assert page == page_of(audited(healthy), pictures)


@pytest.mark.slow
def test_text_on_the_page_is_escaped(tmp_path: Path) -> None:
    page = page_of(
        audited(planted(tmp_path, sphere(64, 32), captions=[["<script>alert(1)</script>"]] * 64)), {}
    )
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "Signs of collapse" in page and "Images and pseudo-captions" in page


@pytest.mark.slow
def test_equal_embeddings_and_captions_without_words_have_a_page(tmp_path: Path) -> None:
    same = np.repeat(np.eye(1, 32, dtype=np.float32), 64, axis=0)
    report = audited(planted(tmp_path, same, captions=[["\U0001f600", "!"]] * 64))
    assert report.ranks["image"] == 0 and "image embeddings are nearly equal" in "; ".join(report.warnings())
    assert "Signs of collapse" in page_of(report, {})


@pytest.mark.slow
def test_a_plot_shows_its_figures(healthy: Path) -> None:
    report = audited(healthy)
    taller = plots.vocabulary({"a": 10, "b": 20, "c": 30})
    assert taller != plots.vocabulary({"a": 10, "b": 21, "c": 30})
    assert taller == plots.vocabulary({"a": 10, "b": 20, "c": 30})
    assert plots.sweep(report) == plots.sweep(audited(healthy)) != plots.sweep(audited(healthy, 64))


@pytest.mark.slow
def test_a_captioner_captions_a_seeded_choice_of_pictures(image_to_text: Path, undisturbed: Path) -> None:
    model, shard_set = captioner.load(str(image_to_text), "cpu"), ShardSet(str(undisturbed))
    first, again, other = (dict(captioner.captions(model, shard_set, pictures=24, seed=s)) for s in (0, 0, 1))
    assert first == again and len(first) == 24 and first.keys() != other.keys()
    assert first.keys() <= {sample_key(i) for i in range(40)} and list(first) == sorted(first)
    assert set(" ".join(first.values()).split()) <= set(SHADES)
    assert all(len(text.split()) >= 4 for text in first.values())
    assert len(dict(captioner.captions(model, shard_set, pictures=99, seed=0))) == 40


@pytest.mark.slow
def test_a_captioner_gets_a_row_beside_the_sentences(healthy: Path) -> None:
    report = audited(healthy).beside("blind", dict.fromkeys(["1", "2", "3"], "a <b>picture</b>"))
    assert report.wordings["blind"].vocabulary == 3 and list(report.wordings) == ["short", "long", "blind"]
    assert report.warnings() == [
        "captions (blind) are nearly all the same: 1 distinct in 3, the most frequent 100% of them;"
        " the limits are 10% and 50%"
    ]
    assert list(report.beside("short", {"1": "one"}).wordings)[2:] == ["blind", "captioner short"]
    page = page_of(report, {})
    assert "blind on this set" in page and "Captions by blind" in page and "a &lt;b&gt;picture" in page
    read(page)


@pytest.mark.slow
def test_what_is_no_captioner_gets_one_sentence(
    image_to_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json"):
        captioner.load(str(tmp_path), "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"holds no image-to-text model of transformers .*give BLIP"):
        captioner.load(str(tmp_path), "cpu")
    half = Path(shutil.copytree(image_to_text, tmp_path / "half"))
    (half / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match="with its preprocessor and tokenizer"):
        captioner.load(str(half), "cpu")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="needs the package transformers; install it"):
        captioner.load(str(image_to_text), "cpu")


def invoke(*arguments: Any) -> Result:
    """The command within this process."""
    return kit.invoke(app, *arguments)


@pytest.mark.slow
def test_the_command_prints_json_lines_and_writes_the_page(
    captioned: Path, undisturbed: Path, image_to_text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pages" / "a.html"
    options = ["--captioner", image_to_text, "--pictures", 20, "--sample", 32, "--out", out]
    result = invoke("audit", captioned, "--shards", undisturbed, *options)
    assert result.exception is None
    row, *forms = kit.json_lines(result)
    assert row["pictures"] == 40
    assert row["sample"] == 32
    assert row["cosine_image_pseudo"] == pytest.approx(row["cosine_by_law"], abs=0.01)
    assert [f["captions_of"] for f in forms] == ["short", "long", "tiny"]
    assert [f["captions"] for f in forms] == [32, 32, 20]
    # Embeddings of random weights are nearly equal.
    assert "warning: " in result.stderr and row["warnings"].count(";") >= 1
    pairs = [a for tag, a in read(out.read_text()) if tag == "img" and not a["alt"]]
    assert pairs and "Captions by tiny" in out.read_text()
    assert invoke("audit", captioned, "--sample", 32, "--out", tmp_path / "b.html").exception is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "a.pdf"], "--out is a.pdf; it must end in .html"),
        (["--out", "s3://bucket/a.html"], "on this machine"),
        (["--sample", "31"], "--sample is 31; it must be 32 to 16,384"),
        (["--sample", "16385"], "--sample is 16385; it must be 32"),
        (["--seed", "-1"], "--seed is -1"),
        (["--captioner", "nowhere", "--pictures", "0"], "--pictures is 0"),
        (["--captioner", "nowhere"], "no pictures of visual_atoms in data/shards/visual_atoms; .*--shards"),
        (["--shards", "SHARDS", "--captioner", "nowhere"], "nowhere holds no config.json"),
        (["--shards", "SHARDS", "--captioner", "nowhere", "--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_bad_options_get_one_sentence(
    captioned: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("audit", captioned, *(undisturbed if o == "SHARDS" else o for o in options))
    assert isinstance(result.exception, UserError) and re.search(sentence, str(result.exception))
    assert not list(tmp_path.iterdir())


def test_bad_tables_get_one_sentence(captioned: Path, undisturbed: Path, tmp_path: Path) -> None:
    def refused(place: Path) -> str:
        error = invoke("audit", place, "--sample", 32, "--out", tmp_path / "a.html").exception
        assert isinstance(error, UserError) and not (tmp_path / "a.html").exists()
        return str(error)

    assert "run the command that makes it" in refused(tmp_path / "nowhere")
    assert "holds no caption tables" in refused(undisturbed)
    assert "holds 20 pictures; an audit needs at least 32" in refused(
        planted(tmp_path / "few", sphere(20, 8))
    )
    assert "000000000 to 000000015" in (long := refused(planted(tmp_path / "long", 1.1 * sphere(48, 8))))
    assert "unit length" in long
    broken = Path(shutil.copytree(captioned, tmp_path / "broken"))
    table = sorted(broken.glob("tables/*.parquet"))[1]
    table.write_bytes(table.read_bytes()[:-100])
    assert f"{table.name} is damaged" in refused(broken)
    table.unlink()
    assert f"{table.name} is missing" in refused(broken)
