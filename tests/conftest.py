import gc
import json
import logging
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synth.sets import parallel
from tests.kit import SHADES, TINY_CLIP, make_small, make_tables, parameter_id

RAY = re.compile(r"ray_session: None|usefixtures\(\"ray_session")  # starts in seconds, once a process
SLOW_FIXTURES = {
    "ray_session",
    "inception_file",
    "looks",
    "s3_server",
    "squares",
    "vetted",
}  # each takes seconds by itself


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what is a soak or waits for a slow fixture."""
    for item in items:
        if item.get_closest_marker("soak") or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)

    # Processes of xdist begin with the files that take longest, and end together.
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Returns the order of `--dist loadfile`, which takes files as they come, those with a Ray as one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    folder = Path(__file__).parent
    with_ray = {path.name for path in folder.glob("test_*.py") if RAY.search(path.read_text("utf-8"))}

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "a Ray" if Path(file).name in with_ray else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """Leaves out waiting for the disk, which protects from power cuts alone. Tests write many files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_grids() -> Iterator[None]:
    """Draws the sample grids of runs and exports in few steps: in 18 they take longer than short runs."""
    if "train.start.prepared" not in sys.modules:
        yield
        return
    from train import handover, log, model
    from train.sampling import draw
    from train.start import prepared

    def hasty(loaded: Any, texts: Any, *, options: dict[str, str], **more: Any) -> Any:
        steps = {"steps": "2"} if hasattr(model.find(loaded.name).Options, "steps") else {}
        return draw.drawing(loaded, texts, options={**options, **steps}, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared, "GRID", 4)
        for module in (log, handover):
            patch.setattr(module, "draw", SimpleNamespace(**{**vars(draw), "drawing": hasty}))
        yield


def pytest_collection_finish() -> None:
    """Freezes the objects of the imports, so that the collector skips them."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """Unfreezes these objects."""
    gc.unfreeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Fails the collection of parameters that pytest would number."""
    return parameter_id(val, argname)


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


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of a small denoiser that was trained for seconds."""
    import torch

    from tests import kit_squares

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = kit_squares.trained(tmp_path_factory.mktemp("squares") / "run")
    torch.set_num_threads(threads)
    return run


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small CLIP of open_clip's architecture and random weights."""
    import torch
    from safetensors.torch import save_file

    from caption.lean_imports import import_torchvision

    import_torchvision()
    from open_clip.model import CLIP

    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(CLIP(**TINY_CLIP).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}})
    )
    return folder


@pytest.fixture(scope="session")
def image_to_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision encoder with a text decoder and random weights, as transformers writes it."""
    from caption.audit import captioner
    from caption.lean_imports import import_torchvision

    import_torchvision()
    import tokenizers
    import torch
    import transformers as hub

    folder = tmp_path_factory.mktemp("captioners") / "tiny"
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", *SHADES])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<pad>"}
    seeing = hub.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    tokens: Any = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    writing = hub.GPT2Config(vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2, **tokens)
    torch.manual_seed(3)
    with captioner._quiet(hub):
        both = hub.VisionEncoderDecoderModel(
            hub.VisionEncoderDecoderConfig.from_encoder_decoder_configs(seeing, writing)
        )
        both.generation_config = hub.GenerationConfig(
            decoder_start_token_id=1, min_new_tokens=4, suppress_tokens=[0, 1], **tokens
        )
        both.save_pretrained(folder)
        hub.PreTrainedTokenizerFast(tokenizer_object=model, **special).save_pretrained(folder)
        hub.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chatting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with random weights and a chat template, as transformers writes it."""
    from caption.audit import captioner
    from caption.lean_imports import import_torchvision

    import_torchvision()
    import tokenizers
    import torch
    import transformers as hub

    # Words.
    folder = tmp_path_factory.mktemp("captioners") / "chatting"
    special = ["<pad>", "<s>", "</s>", "<image>", "USER:", "ASSISTANT:"]
    words = {word: i for i, word in enumerate([*special, *SHADES])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    template = (
        "{% for m in messages %}{{ m['role'].upper() }}: {% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )

    # Networks.
    narrow: Any = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    tokens: Any = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    seeing = hub.CLIPVisionConfig(
        **narrow, num_hidden_layers=2, image_size=16, patch_size=8, projection_dim=16
    )
    writing = hub.LlamaConfig(
        **narrow, vocab_size=len(words), num_hidden_layers=1, num_key_value_heads=2, **tokens
    )
    torch.manual_seed(3)
    with captioner._quiet(hub):
        both = hub.LlavaForConditionalGeneration(
            hub.LlavaConfig(vision_config=seeing, text_config=writing, image_token_index=3)
        )
        both.generation_config = hub.GenerationConfig(
            min_new_tokens=4, suppress_tokens=[0, 1, 3, 4, 5], **tokens
        )
        both.bfloat16().save_pretrained(folder)
        tokenizer = hub.PreTrainedTokenizerFast(
            tokenizer_object=model,
            bos_token="<s>",
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<pad>",
            extra_special_tokens={"image_token": "<image>"},
        )
        hub.LlavaProcessor(
            hub.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            chat_template=template,
            num_additional_image_tokens=1,
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def captioned(undisturbed: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of the small set as one quiet process makes them."""
    out = tmp_path_factory.mktemp("captioned") / "tables"
    make_tables(undisturbed, out, tiny_encoder)
    return out
