import contextlib
from dataclasses import dataclass
from typing import ClassVar

import pytest

from synth.errors import UserError
from synth.settings import canonical, digest, from_json, with_settings
from train import config as configs
from train import model, presets


@dataclass(frozen=True)
class Toy:
    ADDED: ClassVar = ("dark",)  # no setting

    classes: int = 10
    ratio: float = 0.5
    name: str = "a"
    span: tuple[int, int] = (1, 2)
    dark: bool = False

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError("classes must be positive")
        if self.ratio > self.classes:
            raise ValueError("ratio is above classes")


def test_settings_are_read_by_type() -> None:
    settings = ["classes=3", "ratio=1e-3", "name=b", "span=4,9", "dark=true"]
    assert with_settings(Toy(), settings) == Toy(3, 0.001, "b", (4, 9), True)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("colour=3", "unknown setting 'colour'; known are classes, dark, name, ratio, span"),
        ("ADDED=dark", "unknown setting 'ADDED'; known are classes, dark"),
        ("classes", "has no value; write classes=VALUE"),
        ("classes=1.5", "must be a whole number; the default is 10"),
        ("ratio=x", "must be a number"),
        ("ratio=nan", "must be finite"),
        ("dark=yes", "must be true or false"),
        ("span=3", "it takes 2 values"),
        ("span=3,1", "ends before it starts"),
        ("classes=0", "classes must be positive"),
    ],
)
def test_wrong_settings_get_a_sentence(setting: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        with_settings(Toy(), [setting])


@pytest.mark.parametrize("order", [1, -1])
def test_settings_that_fit_together_are_taken_in_any_order(order: int) -> None:
    assert with_settings(Toy(), ["classes=100", "ratio=50"][::order]) == Toy(100, 50.0)
    changes = ["model.resolution=16", "model.channels=32,48,64", "model.reads=4,8", "model.itself=4"]
    sizes = configs.with_settings(configs.RunConfig.of("diffusion"), changes[::order]).groups.model
    assert (sizes.resolution, sizes.channels, sizes.reads) == (16, (32, 48, 64), (4, 8))


def test_only_the_settings_at_fault_are_named_with_the_defaults() -> None:
    sentence = "settings a.classes=3 and a.ratio=4 do not go together: ratio is above classes; "
    with pytest.raises(UserError, match=sentence + "the defaults are a.classes=10 and a.ratio=0.5"):
        with_settings(Toy(), ["name=b", "classes=3", "ratio=4"], "a.")
    with pytest.raises(UserError, match=r"ratio cannot be '40': ratio is above .*; the default is 0.5"):
        with_settings(Toy(), ["ratio=4", "name=b", "ratio=40"])


def test_the_default_is_not_an_earlier_value() -> None:
    with pytest.raises(UserError, match=r"classes cannot be 'x': .*; the default is 10"):
        with_settings(Toy(), ["classes=5", "classes=x"])


def test_json_comes_back_as_the_same_config() -> None:
    import json

    toy = Toy(classes=7, span=(3, 4))
    assert from_json(Toy, json.loads(canonical(vars(toy)))) == toy
    with pytest.raises(ValueError, match="has the fields"):
        from_json(Toy, {"classes": 1})


def test_canonical_json_does_not_depend_on_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


@pytest.mark.parametrize("name", sorted(model.names()))
@pytest.mark.parametrize("change", ["training.batch=2000000", "training.seed=18446744073709551616"])
def test_no_model_takes_a_batch_or_a_seed_that_it_cannot_use(name: str, change: str) -> None:
    with pytest.raises(UserError, match=r"it must lie in [01]\.\."):
        configs.with_settings(configs.RunConfig.of(name), [change])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("diffusion", "model.text_width=100"),
        ("diffusion", "model.channels=32,48,112,112"),
        ("contrastive", "model.text_width=100"),
        ("contrastive", "model.head=100000"),
        ("mae", "model.decoder_width=0"),
        ("autoencoder", "model.critic_layers=0"),
    ],
)
def test_sizes_that_networks_cannot_have_are_refused(name: str, change: str) -> None:
    with pytest.raises(UserError, match=r"it must|need multiples of 32"):
        configs.with_settings(configs.RunConfig.of(name), [change])


@pytest.mark.parametrize(
    ("side", "layers", "advice"), [(8, 2, "loss.critic=0"), (16, 5, "model.critic_layers=1"), (12, 1, "")]
)
def test_a_critic_has_a_patch(side: int, layers: int, advice: str) -> None:
    changes = [f"model.resolution={side}", f"model.critic_layers={layers}"]
    config = configs.with_settings(configs.RunConfig.of("autoencoder"), changes)
    with contextlib.nullcontext() if not advice else pytest.raises(UserError, match=f"give --set {advice}"):
        assert config.needs.whole


@pytest.mark.parametrize(
    ("names", "fraction"), [(["coco"], 0.1), (["emoji"], 1.0), (["mine"], None), (["coco", "cub"], None)]
)
def test_the_usual_share_of_a_set_is_known_by_its_name(names: list[str], fraction: float | None) -> None:
    assert presets.usual_fraction(names, []) == fraction
    assert presets.usual_fraction(names, ["noise"]) is None
