import hashlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from caption import encoders, lean_imports
from caption.encoders import find, load
from caption.lean_imports import import_torchvision
from synth.checkout import ROOT
from synth.errors import UserError
from tests.kit import TINY_CLIP

TIMM_TOWER = {"timm_model_name": "resnet18", "timm_model_pretrained": False, "image_size": 32}


def pixels(size: int, count: int = 8) -> np.ndarray:
    """Smooth pictures with some noise: uint8 (N, S, S, 3)."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
    )
    return (smooth + random.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def test_torchvision_can_be_imported_here() -> None:
    import_torchvision()
    import torchvision

    assert torchvision.transforms.Resize(8)(torch.zeros(3, 16, 16)).shape == (3, 8, 8)
    assert lean_imports._declare_operators.__wrapped__() is None  # what is declared, or there, is left alone


@pytest.mark.slow
def test_open_clip_is_imported_without_packages_that_only_other_towers_need(tmp_path: Path) -> None:
    """A tower of timm is built all the same, in the process that did without timm."""
    config = {"model_cfg": {**TINY_CLIP, "vision_cfg": TIMM_TOWER}, "preprocess_cfg": {"mean": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    script = """
import sys
from caption import encoders
from caption.lean_imports import complete_towers, import_open_clip
with encoders._open_clip() as open_clip:
    pass
heavy = ("transformers", "timm", "sympy", "torch._dynamo", "torch._dynamo.utils")
assert not set(heavy) & set(sys.modules)
folder = sys.argv[1]
source = encoders.EncoderSource("own", "local-dir:" + folder, folder + "/open_clip_model.safetensors")
assert encoders._has_foreign_tower(open_clip, source)
complete_towers(open_clip)
print(type(open_clip.create_model(source.model, load_weights=False).visual).__name__)
import torch._dynamo.utils
assert torch._dynamo.utils.counters is not None  # the compiler itself
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout == "TimmModel\n", run.stderr


def test_a_module_that_needs_more_than_the_stand_ins_is_imported_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_part.py").write_text("answer = 7\n")
    (tmp_path / "reader_of_it.py").write_text("from heavy_part import answer\n")
    (tmp_path / "asker.py").write_text(
        "try:\n    import heavy_part\nexcept ImportError:\n    heavy_part = 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert lean_imports._imported("asker", {"heavy_part": None}).heavy_part == 0
    assert "heavy_part" not in sys.modules
    assert lean_imports._imported("reader_of_it", {"heavy_part": ModuleType("heavy_part")}).answer == 7
    for name in ("heavy_part", "reader_of_it", "asker"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("size", [16, 32, 64, 256])
def test_pictures_are_prepared_as_open_clip_prepares_them(tiny_encoder: Path, size: int) -> None:
    import_torchvision()
    import open_clip

    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{tiny_encoder}")
    model.eval()
    given = pixels(size)
    with torch.inference_mode():
        theirs = model.encode_image(
            torch.stack([prepare(Image.fromarray(p)) for p in given]), normalize=True
        ).numpy()
    encoder = load(find(str(tiny_encoder)))
    ours = encoder.images(given)
    gradual = encoder.features(torch.from_numpy(given).permute(0, 3, 1, 2) / 255).numpy()
    assert ours.dtype == np.float32 and np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    assert (theirs * ours).sum(axis=1).min() > 0.9999
    assert (theirs * gradual).sum(axis=1).min() > 0.9999


@pytest.mark.slow
def test_threads_change_nothing_and_batches_no_more_than_rounding(tiny_encoder: Path) -> None:
    encoder, given, threads = load(find(str(tiny_encoder))), pixels(64, 33), torch.get_num_threads()
    together = encoder.images(given)
    torch.set_num_threads(3 - min(threads, 2))
    assert np.array_equal(together, encoder.images(given))
    torch.set_num_threads(threads)
    assert np.allclose(
        together, np.concatenate([encoder.images(given[i : i + 1]) for i in range(33)]), atol=1e-6
    )


def test_gradients_reach_the_pictures_and_no_weight(tiny_encoder: Path) -> None:
    encoder = load(find(str(tiny_encoder)))
    picture = torch.rand(2, 3, 64, 64, requires_grad=True)
    encoder.features(picture).square()[:, 0].sum().backward()
    assert picture.grad is not None and picture.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in encoder._model.parameters())


def test_gradients_in_bf16_point_where_those_in_fp32_do() -> None:
    gradients = []
    for precision in ("fp32", "bf16"):
        pictures = (torch.from_numpy(pixels(32)).permute(0, 3, 1, 2) / 255).requires_grad_()
        load(find("nano"), "cpu", precision).features(pictures)[:, :8].sum().backward()
        assert pictures.grad is not None
        gradients.append(pictures.grad.flatten(1))
    assert torch.cosine_similarity(gradients[0], gradients[1]).min() > 0.999


def test_texts_are_unit_vectors_that_differ(tiny_encoder: Path) -> None:
    texts = ["a red fractal", "a grey contour on black", "", "a red fractal"]
    vectors = load(find(str(tiny_encoder))).texts(texts)
    assert vectors.shape == (4, 32) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[3]) and not np.allclose(vectors[0], vectors[1])
    assert load(find(str(tiny_encoder))).texts([]).shape == (0, 32)


def test_long_texts_are_cut_at_words(tiny_encoder: Path) -> None:
    encoder = load(find(str(tiny_encoder)))  # 64 tokens: start, 62 words of one token, end
    words = ["red", "blue"] * 40
    assert encoder.cut(" ".join(words[:62])) == " ".join(words[:62])
    assert encoder.cut(" ".join(words)) == " ".join(words[:62])
    assert encoder.cut("") == ""
    assert np.array_equal(*encoder.texts([" ".join(words), encoder.cut(" ".join(words))]))


def test_bf16_says_nearly_the_same(tiny_encoder: Path) -> None:
    exact, quick = (load(find(str(tiny_encoder)), "cpu", p).images(pixels(64)) for p in ("fp32", "bf16"))
    assert quick.dtype == np.float32 and (exact * quick).sum(axis=1).min() > 0.999


@pytest.fixture
def architecture(tmp_path: Path) -> str:
    import_torchvision()
    import open_clip

    (tmp_path / "tiny-test.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(tmp_path / "tiny-test.json")
    return "tiny-test"


@pytest.mark.parametrize("merges", [None, b"no gzip"])
def test_a_folder_without_its_tokeniser_gets_one_sentence(tmp_path: Path, merges: bytes | None) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(ROOT / "data/nano" / name, tmp_path / name)
    if merges:
        (tmp_path / encoders.MERGES).write_bytes(merges)
    with pytest.raises(UserError, match=r"the tokeniser of .* cannot be made \(.*copy the whole folder"):
        load(find(str(tmp_path)))


def test_folder_and_files_give_the_same_encoder(
    tiny_encoder: Path, tmp_path: Path, architecture: str
) -> None:
    from safetensors.torch import load_file

    weights = tiny_encoder / "open_clip_model.safetensors"
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in load_file(weights).items()}}, tmp_path / "epoch_7.pt"
    )
    shutil.copy(weights, tmp_path / "own.safetensors")
    sources = [find(f"{architecture}={tmp_path / name}") for name in ("epoch_7.pt", "own.safetensors")]
    assert [s.name for s in sources] == ["tiny-test/epoch_7", "tiny-test/own"]
    assert sources[1].sha256 == find(str(tiny_encoder)).sha256 != sources[0].sha256
    vectors = [load(s).texts(["a red fractal"]) for s in (*sources, find(str(tiny_encoder)))]
    assert np.array_equal(vectors[0], vectors[1]) and np.array_equal(vectors[1], vectors[2])


@pytest.mark.parametrize(
    "names",
    [
        ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"],
        ["open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth", "model.safetensors"],
        ["open_clip_a.safetensors", "open_clip_b.safetensors", "open_clip_a.bin", "open_clip_z.pt"],
        ["open_clip_a.safetensors", "model.safetensors"],
        ["open_clip_a.bin", "open_clip_b.pth"],
    ],
)
def test_the_digest_of_a_folder_is_that_of_the_weights_that_open_clip_loads(
    tmp_path: Path, names: list[str]
) -> None:
    import_torchvision()
    from open_clip import factory

    (tmp_path / "open_clip_config.json").touch()
    for name in names:
        (tmp_path / name).write_text(name)
    source = find(str(tmp_path))
    assert source.weights == factory._find_checkpoint_in_dir(tmp_path)
    assert source.sha256 == hashlib.sha256(Path(source.weights).read_bytes()).hexdigest()


def test_weights_that_open_clip_does_not_look_for_make_no_encoder(tmp_path: Path) -> None:
    for name in ("open_clip_config.json", "open_clip_model.pt", "model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds no encoder: it needs"):
        find(str(tmp_path))


def test_the_activation_is_that_of_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import_torchvision()
    import open_clip

    (tmp_path / "w.pt").touch()
    monkeypatch.setattr(open_clip, "download_pretrained", lambda _: str(tmp_path / "w.pt"))
    monkeypatch.setattr(encoders, "_do_not_wait_for_the_hub", lambda: None)
    assert dict(find("ViT-B-32/openai").options) == {"force_quick_gelu": True}
    assert dict(find("ViT-B-32/laion2b_s34b_b79k").options) == {}


def test_without_network_or_weights_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    advice = r"from https://huggingface.co/.* --encoder ViT-B-32-quickgelu=FILE"
    with pytest.raises(UserError, match=rf"(?s)ViT-B-32/openai are not in the cache .* {advice}"):
        find("ViT-B-32/openai")


def test_a_mirror_of_the_hub_is_asked_at_its_own_port(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(encoders, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as mirror:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{mirror.getsockname()[1]}")
        encoders._do_not_wait_for_the_hub()
        assert not constants.HF_HUB_OFFLINE
    encoders._do_not_wait_for_the_hub()
    assert constants.HF_HUB_OFFLINE


def test_nano_is_found_where_ray_puts_what_it_sends_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = find("nano")
    shutil.copytree(encoders._DATA / "nano", tmp_path / "nano")
    monkeypatch.setattr(encoders, "_DATA", tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no encoder"):
        find("nano")
    monkeypatch.syspath_prepend(tmp_path)
    assert (find("nano").name, find("nano").sha256) == ("nano", here.sha256)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ViT-B-32/opanai", "unknown encoder 'ViT-B-32/opanai'; similar names are ViT-B-32/openai"),
        ("nona", "similar names are nano"),
        ("vitb32=/tmp", "the encoder's file /tmp does not exist; give --encoder vitb32=FILE"),
        ("weights.pt", "has no architecture; write one before the file, such as ViT-B-32=weights.pt"),
    ],
)
def test_unknown_names_get_similar_ones(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find(name)


@pytest.mark.slow
def test_weights_of_another_architecture_are_refused(
    tiny_encoder: Path, tmp_path: Path, architecture: str
) -> None:
    other = shutil.copytree(tiny_encoder, tmp_path / "other")
    wide = {**TINY_CLIP, "embed_dim": 64}
    (other / "open_clip_config.json").write_text(json.dumps({"model_cfg": wide, "preprocess_cfg": {}}))
    with pytest.raises(UserError, match="does not hold the weights of"):
        load(find(str(other)))
    (tmp_path / "cut.pt").write_bytes(b"PK no weights")
    for name in (
        f"ViT-B-32={tiny_encoder / 'open_clip_model.safetensors'}",
        f"{architecture}={tmp_path / 'cut.pt'}",
    ):
        with pytest.raises(UserError, match="does not hold the weights of"):
            load(find(name))
    with pytest.raises(UserError, match="unknown architecture 'ViT-B-23'; similar names are ViT-B-32"):
        find(f"ViT-B-23={tmp_path / 'cut.pt'}")
    (other / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no encoder: it needs"):
        find(str(other))


def test_devices_that_are_not_here_are_refused() -> None:
    with pytest.raises(UserError, match="unknown device 'tpu'"):
        encoders.choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="has no CUDA device"):
            encoders.choose_device("cuda")
        assert encoders.choose_device("auto") == "cpu"
