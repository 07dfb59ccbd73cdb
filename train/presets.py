"""The table of named experiments: model, settings, hours, disk, and the measured result.

Hours are for one A100 unless a row says otherwise. They follow from the published 12.5 s/kimg of plain
StyleGAN2 at 256 px and half these channels, times 3 for channels, text and CLIP. None of the large presets
has been run by exnihilo yet. Disk is that of the run, with one checkpoint per 200,000 images. At 256 px each
keeps 0.2 GB, and the two newest have their full state, 1.1 GB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synth.errors import UserError
from synth.sets import places
from train.config import RunConfig

Changes = dict[str, Any]  # by GROUP.KEY


@dataclass(frozen=True)
class Preset:
    """A named experiment."""

    name: str
    model: str  # module of train/models
    changes: Changes  # to the defaults
    what: str
    hours: str
    disk: str
    result: str = "not run yet"  # with its interval

    def make(self) -> RunConfig:
        """Returns its config."""
        return RunConfig.of(self.model, self.changes)


def _widths(resolution: int, base: int, most: int, latent: int, layers: int) -> Changes:
    """Returns the sizes of a small StyleGAN2 with equally wide z, w and text layers."""
    wide = {f"model.{name}": latent for name in ("z_dim", "w_dim", "text_width")}
    sizes = {"model.resolution": resolution, "model.channel_base": base, "model.channel_max": most}
    return {**sizes, **wide, "model.mapping_layers": layers}


def _periods(images: int, tick: int, checkpoint: int, samples: int) -> Changes:
    """Returns the length of a run, and the images between two log lines, checkpoints and grids."""
    return {"run.images": images, "run.tick": tick, "run.checkpoint": checkpoint, "run.samples": samples}


_LAFITE_LOSS = {"loss.projection": "batch_sum", "loss.contrast": "sharpened"}
_LAFITE_LAWS = {
    "model.mbstd_order": "strided",
    "loss.view": "crop",
    "loss.path_mean": "after",
    "training.mixing_cutoff": "batch",
    "training.texts": "phase",
    "training.path_samples": "first",
    "training.unreached": "zero",
    "training.ema_clock": "before",
}
_LAFITE_DATA = {"data.xi": 3.0, "data.caption_xi": 1 / 9, "data.mirror": True, "loss.cond_weight": 10.0}
_LAFITE = {"model.style": "w", **_LAFITE_LOSS, **_LAFITE_LAWS, **_LAFITE_DATA}
_SMALL = {**_widths(64, 8192, 256, 256, 4), "run.images": 2_000_000}
_NARROW = {**_widths(32, 1024, 64, 128, 2), "training.batch": 32}
_TINY = {**_NARROW, **_periods(30_000, 1_000, 10_000, 5_000)}
_TENTH = {"data.text": "caption", "data.fraction": 0.1}  # the part of its sets that the paper fine-tunes on
_SLOW = {"training.g_lr": 1e-3, "training.d_lr": 1e-3}
_KEPT = {"training.ema_ramp_up": 0.0}  # the average goes on from that of the pre-training
_COCO = {**_TENTH, **_KEPT, "training.d_lr": 1e-3, **_periods(1_000_000, 4_000, 100_000, 100_000)}
_BIRDS = {**_TENTH, **_KEPT, **_SLOW, **_periods(500_000, 4_000, 100_000, 100_000)}
_EMOJI = {**_NARROW, **_SLOW, "data.text": "caption", **_periods(20_000, 1_000, 10_000, 5_000)}

_GAN, _DIFFUSION, _KL = "stylegan2", "diffusion", "autoencoder"
_WORDS = "a denoiser that reads words, by a vector or by cross-attention"
_CODED = "a denoiser of latents that reads words"
_WORDS_RESULT = (
    "scenes_flat, without positions: 3 facts right in .93 [.87, .96], 6 facts in .25 [.18, .33]; with them,"
    " after 202,720 images, .59 [.51, .67] and .15 [.10, .22]; one run each"
)
_FORMULA_RESULT = "after all six parts: 3 facts right in .98 [.95, .99], 6 facts in .71 [.65, .76]"
_LAYOUTS_RESULT = "a direction turned round raises the loss by .067 [.059, .076]; one run"
_DIFFUSION_32 = {
    "training.decay_from": 278_400,
    "training.decay_to": 371_200,
    **_periods(371_200, 1_600, 38_400, 38_400),
}
# The shipped model learns words on small pictures, where they cost less, then five sets at full size. The
# commands are in evaluate/experiments/formula.py.
_FORMULA_32_SMALL = {
    "model.resolution": 16,
    "model.channels": (48, 64, 96),
    "noise.mean": 0.2,
    "noise.deviation": 1.1,
    "data.text": "blend:1,plain",
    "training.drop_vector": 1.0,
    **_periods(112_000, 1_600, 16_000, 112_000),
}
_FORMULA_32 = {
    "data.text": "blend:1,plain",
    "training.drop_vector": 1.0,
    "training.warm_up": 4_800,
    "training.decay_from": 176_000,
    "training.decay_to": 352_000,
    **_periods(352_000, 1_600, 16_000, 88_000),
}
# Two flat objects in a clear direction, which every text states, under much noise: so directions act.
_LAYOUTS_32 = {
    "noise.mean": 2.0,
    "noise.deviation": 0.8,
    "data.text": "blend:1,related",
    "training.drop_vector": 1.0,
    **_periods(24_000, 1_600, 24_000, 24_000),
}
# The published autoencoder with f = 8 (latent-diffusion, models/first_stage_models/kl-f8).
_KL_256 = {
    "model.resolution": 256,
    "model.channels": (128, 256, 512, 512),
    "model.blocks": 2,
    "model.groups": 32,
    "model.critic_channels": 64,
    "model.critic_layers": 3,
    "training.batch": 12,
    "training.lr": 5.4e-5,
    "training.critic_lr": 5.4e-5,
    "loss.network": "ViT-B-32/openai",
    "loss.perceptual": 1.0,
    "loss.critic_begins": 600_000,
    **_periods(2_000_000, 4_000, 200_000, 200_000),
}
_KL_64 = {"loss.critic_begins": 140_000, **_periods(200_000, 2_000, 20_000, 200_000)}
# Noise levels are those of diffusion-32 times 2, as latents have twice the deviation of pictures.
_DIFFUSION_64 = {
    "model.resolution": 64,
    "model.latents": "runs/autoencoder-64",
    "model.factor": 4,
    "model.planes": 4,
    "model.channels": (64, 96, 128),
    "noise.mean": 1.2,
    "noise.least": 0.04,
    "noise.most": 80.0,
    **_DIFFUSION_32,
}
# The published text-to-image model, with one skip connection a level and a shared embedding of texts.
_LDM_256 = {
    "model.resolution": 256,
    "model.latents": "runs/autoencoder-256",
    "model.factor": 8,
    "model.planes": 4,
    "model.channels": (320, 640, 1280, 1280),
    "model.blocks": 2,
    "model.reads": (4, 8, 16, 32),
    "model.itself": (4, 8, 16, 32),
    "model.embedding": 1280,
    "model.text_width": 1280,
    "model.text_layers": 32,
    "model.tokens": 77,
    "noise.formulation": "ddpm",
    "training.batch": 680,
    "training.lr": 1e-4,
    "training.muon_lr": 0.0,
    "training.warm_up": 6_800_000,
    "training.drop_words": 0.0,
    "training.drop_vector": 1.0,
    **_periods(265_200_000, 68_000, 26_520_000, 26_520_000),
}
_KL_RESULT = "a tenth of the run: PSNR 21.3, rFD (nano) 0.031; one run, no interval"
_CODED_RESULT = (
    "a fifth of the run, on a tenth of autoencoder-64's: of scenes_flat, colours right in .53 [.49, .56],"
    " kinds in .20 [.17, .23]; one run"
)
_EMOJI_DIFFUSION = {
    "data.text": "caption",
    "training.batch": 32,
    "training.lr": 2e-3,
    "training.muon_lr": 4e-3,
    "training.drop_vector": 1.0,
    "training.decay_from": 30_000,
    "training.decay_to": 40_000,
    **_periods(40_000, 1_000, 5_000, 10_000),
}
_HOURS = "0.1 on 2 cores"
_CONTRAST, _MAE = "contrastive", "mae"
# A vision transformer of 0.7 million parameters.
_VIT_32 = {"model.width": 96, "model.layers": 6, "model.heads": 3}
_LEARNER_32 = {
    **_VIT_32,
    "training.batch": 240,
    "training.warm_up": 4_800,
    "training.decay_to": 48_000,
    **_periods(48_000, 2_400, 24_000, 48_000),
}
_GROUPS_OF_6 = {"training.views": 1, "training.group": 6}
_STABLEREP_32 = {**_LEARNER_32, **_GROUPS_OF_6}
_TEXTS_32 = {"data.text": "caption", "loss.text_weight": 1.0, "model.text_width": 96}
_STABLEREP_PLUS_32 = {**_STABLEREP_32, **_TEXTS_32}
# A crop is CLIP's only augmentation, so that captions stay true.
_CROP = {f"augment.{name}": 0.0 for name in ("flip", "jitter", "grey", "blur", "down")}
_CLIP_32 = {
    **_LEARNER_32,
    **_TEXTS_32,
    **_CROP,
    "augment.crop": 0.5,
    "loss.picture_weight": 0.0,
    "training.views": 1,
}
_VIT_B_16 = {
    "model.resolution": 224,
    "model.patch": 16,
    "model.width": 768,
    "model.layers": 12,
    "model.heads": 12,
}
# The published recipe: 1,376 captions with 6 pictures each, AdamW at 2e-4 x batch / 256, 35 epochs of the 8.3
# million captions of CC12M. Half an epoch warms up.
_STABLEREP_224 = {
    **_VIT_B_16,
    **_GROUPS_OF_6,
    "model.head": 4096,
    "model.embedding": 256,
    "training.batch": 8_256,
    "training.lr": 6.45e-3,
    "training.warm_up": 4_150_000,
    "training.decay_to": 290_500_000,
    **_periods(290_500_000, 82_560, 8_256_000, 290_500_000),
}
# The published recipe: 800 epochs of ImageNet's 1.28 million pictures, 40 of them to warm up.
_MAE_224 = {
    **_VIT_B_16,
    "model.decoder_width": 512,
    "model.decoder_layers": 8,
    "model.decoder_heads": 16,
    "training.batch": 4_096,
    "training.lr": 2.4e-3,
    "training.warm_up": 51_200_000,
    "training.decay_to": 1_024_000_000,
    **_periods(1_024_000_000, 409_600, 40_960_000, 1_024_000_000),
}
_HIDDEN = "features by a masked autoencoder"
_HIDDEN_224 = "the same at its published sizes"
_PAIRS = "features by SimCLR: two views of a picture"
_SETS = "features by StableRep: six pictures of a class"
_SETS_TEXTS = "features by StableRep++: six pictures of a class, and their captions"
_TEXTS = "features by CLIP: pictures and their captions"
_SETS_224 = "StableRep at its published sizes, on sets rendered at 224 or 448 px"
_PROBED = "fractals and shaders: {} above first weights by a linear probe on CIFAR-10; 3 seeds"
_PAIRS_RESULT = _PROBED.format(".060 [.052, .069]")
_SETS_RESULT = _PROBED.format(".058 [.031, .084]")
_NAMED = "scenes_flat: {} named right of 60, zero-shot; {} by a linear probe on CIFAR-10; one run"
_SETS_TEXTS_RESULT = _NAMED.format(".08 [.07, .09]", ".377 [.368, .387]")
_TEXTS_RESULT = _NAMED.format(".15 [.14, .16]", ".345 [.336, .355]")
_HIDDEN_RESULT = _PROBED.format(".035 [.012, .058]")
_PAPER = "the paper's pre-training: 10 epochs of a million, plain equations"
_TINY_RESULT = "6.6 s/kimg a core; cond 6.94 -> 5.46; one run, no interval"
_EMOJI_KD = "KD (efficientnet-lite0): 0.43 ± 0.05 from tiny-32, 0.49 ± 0.05 from scratch"
_EMOJI_RESULT = f"{_EMOJI_KD}; one run each"

_EMOJI_WORDS_RESULT = (
    "from formula-32: held-out loss 0.176 [0.169, 0.182], KD (efficientnet-lite0) 0.071 ± 0.004,"
    " 0.43 ± 0.04 named right of ten; one run"
)

PRESETS = {
    p.name: p
    for p in [
        Preset("paper-256", _GAN, {}, _PAPER, "100", "13 GB"),
        Preset("lafite-256", _GAN, _LAFITE, "the same as LAFITE's program has it", "100", "13 GB"),
        Preset("small-64", _GAN, _SMALL, "a quarter of the side and of the channels", "5", "1.5 GB"),
        Preset("tiny-32", _GAN, _TINY, "for a laptop", _HOURS, "0.1 GB", _TINY_RESULT),
        Preset("coco-256", _GAN, _COCO, "fine-tuning on 10 % of MSCOCO", "10", "5 GB"),
        Preset("cub-256", _GAN, _BIRDS, "fine-tuning on 10 % of CUB", "5", "4 GB"),
        Preset("celeba_hq-256", _GAN, _BIRDS, "fine-tuning on 10 % of CelebA-HQ", "5", "4 GB"),
        Preset("emoji-32", _GAN, _EMOJI, "fine-tuning on emoji", _HOURS, "0.1 GB", _EMOJI_RESULT),
        Preset(
            "autoencoder-64", _KL, _KL_64, "latents of 16 x 16 x 4", "1.6 on 1 core", "0.2 GB", _KL_RESULT
        ),
        Preset("autoencoder-256", _KL, _KL_256, "latents of 32 x 32 x 4, published sizes", "60", "6 GB"),
        Preset("diffusion-64", _DIFFUSION, _DIFFUSION_64, _CODED, "0.5 on 2 cores", "0.3 GB", _CODED_RESULT),
        Preset("ldm-256", _DIFFUSION, _LDM_256, "latent diffusion at its published sizes", "400", "140 GB"),
        Preset(
            "emoji-32-diffusion",
            _DIFFUSION,
            _EMOJI_DIFFUSION,
            "fine-tuning on emoji",
            "0.2 on 1 core",
            "0.2 GB",
            _EMOJI_WORDS_RESULT,
        ),
        Preset("simclr-32", _CONTRAST, _LEARNER_32, _PAIRS, "0.3 on 1 core", "0.03 GB", _PAIRS_RESULT),
        Preset("stablerep-32", _CONTRAST, _STABLEREP_32, _SETS, "0.15 on 1 core", "0.03 GB", _SETS_RESULT),
        Preset(
            "stablerep-plus-32",
            _CONTRAST,
            _STABLEREP_PLUS_32,
            _SETS_TEXTS,
            "0.2 on 1 core",
            "0.03 GB",
            _SETS_TEXTS_RESULT,
        ),
        Preset("clip-32", _CONTRAST, _CLIP_32, _TEXTS, "0.2 on 1 core", "0.03 GB", _TEXTS_RESULT),
        Preset("mae-32", _MAE, _LEARNER_32, _HIDDEN, "0.1 on 1 core", "0.03 GB", _HIDDEN_RESULT),
        Preset("mae-b16-224", _MAE, _MAE_224, _HIDDEN_224, "12 on 8 GPUs", "35 GB"),
        Preset("stablerep-b16-224", _CONTRAST, _STABLEREP_224, _SETS_224, "9 on 8 GPUs", "50 GB"),
        Preset(
            "formula-32",
            _DIFFUSION,
            _FORMULA_32,
            "the shipped model",
            "1.7 on 1 core",
            "0.4 GB",
            _FORMULA_RESULT,
        ),
        Preset(
            "formula-32-small",
            _DIFFUSION,
            _FORMULA_32_SMALL,
            "its words, at 16 px",
            "0.4 on 1 core",
            "0.1 GB",
            "the third of formula-32's six parts",
        ),
        Preset(
            "layouts-32",
            _DIFFUSION,
            _LAYOUTS_32,
            "a denoiser that learns directions first",
            "0.2 on 1 core",
            "0.1 GB",
            _LAYOUTS_RESULT,
        ),
        Preset("diffusion-32", _DIFFUSION, _DIFFUSION_32, _WORDS, "0.5 on 2 cores", "0.2 GB", _WORDS_RESULT),
    ]
}


@dataclass(frozen=True)
class Usual:
    """The usual fine-tuning on a real set."""

    preset: str
    fraction: float  # of the set


FINE_TUNING = {  # by real set; the paper fine-tunes on a tenth of each of its own
    "coco": Usual("coco-256", 0.1),
    "cub": Usual("cub-256", 0.1),
    "celeba_hq": Usual("celeba_hq-256", 0.1),
    "emoji": Usual("emoji-32", 1.0),
}


def usual(on: Sequence[str], live: Sequence[str]) -> Usual:
    """Returns the usual fine-tuning on a stored set, given by its name or its place.

    Raises UserError if there is none, or other sets."""
    if known := _known(on, live):
        return known
    sets = " ".join([*(f"--live {name}" for name in live), *(f"--on {name}" for name in on)])
    problem = f"no usual preset of {sets} is known, those of --on {', '.join(FINE_TUNING)} are"
    raise UserError(f"{problem}; give one, as in finetune {'formula-32' if live else 'coco-256'} {sets}")


def usual_fraction(on: Sequence[str], live: Sequence[str]) -> float | None:
    """Returns the usual share of a stored set, or None if there is none, or for other sets."""
    known = _known(on, live)
    return known.fraction if known else None


def _known(on: Sequence[str], live: Sequence[str]) -> Usual | None:
    """Returns the usual fine-tuning on these sets, or None if there is none."""
    return FINE_TUNING.get(places.name_of(on[0])) if len(on) == 1 and not live else None


def get(name: str) -> Preset:
    """Returns the preset of this name. Raises UserError if it is unknown, and lists all presets."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
