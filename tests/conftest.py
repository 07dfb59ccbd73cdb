import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synth.pipeline import Request, Summary, make_shards
from synth.sets import completion, parallel
from synth.sets.shards import ShardSet
from synth.sets.storage import open_storage

Make = Callable[..., Summary]

SMALL = {"dataset": "visual_atoms", "samples": 40, "size": 32, "shard_size": 16, "workers": 0, "settings": ("canvas=64", "orbits=1,20")}


def make_small(out: Any, **changes: Any) -> Summary:
    """Makes a set of 40 small pictures in three shards, or what `changes` ask for."""
    request = Request(**{**SMALL, "out": str(out), **changes})
    return completion.finish(make_shards(request))


def tar_hashes(out: Any, suffix: str = ".tar") -> dict[str, str]:
    """sha256 of every tar, or other part, of a place."""
    storage = open_storage(str(out))
    return {n: hashlib.sha256(storage.read(n)).hexdigest() for n in sorted(storage.sizes()) if n.endswith(suffix)}


def pictures(out: Any) -> dict[str, bytes]:
    """Pixels of every sample of a finished set, by key."""
    shard_set = ShardSet(str(out))
    return {s.key: s.pixels.tobytes() for shard in shard_set.shards for s in shard_set.read(shard)}


def children(pid: int) -> list[tuple[int, str]]:
    """(pid, command line) of every descendant of a process."""
    parents: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(int(status[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            found.append((child, commands[child]))
            waiting.append(child)
    return found


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small set as one quiet process makes it."""
    out = tmp_path_factory.mktemp("undisturbed") / "set"
    make_small(out)
    return out


@pytest.fixture
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the small set, to be spoilt."""
    return Path(shutil.copytree(undisturbed, tmp_path / "set"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server on loopback that the environment points to; its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def ray_session(s3_server: str) -> Iterator[None]:
    """The one Ray of the whole run: two workers, who inherit the environment."""
    with parallel.ray_session(2, None, ["synth"]):
        yield


@pytest.fixture
def bucket(s3_server: str) -> Iterator[str]:
    """An empty bucket, as a URL."""
    import boto3
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # they remember their credentials
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="pictures")
    yield "s3://pictures/atoms"
    for entry in s3.list_objects_v2(Bucket="pictures").get("Contents", []):
        s3.delete_object(Bucket="pictures", Key=entry["Key"])
    s3.delete_bucket(Bucket="pictures")
    s3.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with one thread, as sums of several differ in their last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 64, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small CLIP of open_clip's architecture and random weights."""
    import torch
    from safetensors.torch import save_file

    from caption.torchvision_ops import declare

    declare()
    from open_clip.model import CLIP

    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(CLIP(**TINY).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}))
    return folder


@pytest.fixture(scope="session")
def captioned(undisturbed: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the small set as one quiet process makes them."""
    out = tmp_path_factory.mktemp("captioned") / "tables"
    make_tables(undisturbed, out, tiny_encoder)
    return out


def make_tables(shards: Any, out: Any, encoder: Path | str, **changes: Any) -> Any:
    """Makes the tables of a set in this process, or as `changes` ask for."""
    from caption.pipeline import Request, make_captions

    request = Request(str(shards), str(out), str(encoder), **{"workers": 0, **changes})
    return completion.finish(make_captions(request))


def write_random_inception(file: Path) -> Path:
    """Writes weights of the shapes of FID's inception, random but such that signals keep their size."""
    from caption.encoders import declare

    declare()
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as module

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = module.FeatureExtractorInceptionV3("any", ["logits"])
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(net.state_dict(), file)
    return file


def demo_command(out: Path, font: Path, *options: str) -> list[str]:
    """A demo at the smallest sizes."""
    sizes = ["--pretraining", "64", "--finetuning", "64", "--pictures", "32", "--measured", "12"]
    return [sys.executable, "-m", "evaluate.experiments.demo", "--out", str(out), *sizes, "--font", str(font), *options]


@pytest.fixture(scope="session")
def demo_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to call demos from, with a made-up font of a hundred emoji in it."""
    from emoji import EMOJI_DATA, STATUS

    from tests.made_font import write_font

    place = tmp_path_factory.mktemp("demo")
    single = [e for e, about in EMOJI_DATA.items() if len(e) == 1 and about["status"] == STATUS["fully_qualified"]][:100]
    write_font(place / "made.ttf", {e: (2 * i, 250 - 2 * i, 40 + i) for i, e in enumerate(dict.fromkeys(["😀", *single]))})
    return place


@pytest.fixture(scope="session")
def demo_done(demo_place: Path) -> Path:
    """The smallest demo, done without a stop."""
    out = demo_place / "done"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        demo_command(out, demo_place / "made.ttf"), cwd=demo_place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out
