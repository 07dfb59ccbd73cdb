import torch

from train.models import latents, randomness
from train.models.stylegan2_networks import Sizes

SMALL = Sizes(resolution=16, z_dim=32)


def test_a_sample_draws_its_own_numbers_in_any_batch() -> None:
    numbers = (range(100, 116), range(108, 112))
    whole, part = (latents.draw_latents(SMALL, 1, 0, chosen) for chosen in numbers)
    for name in ("z", "cutoff", "noise"):
        assert torch.equal(getattr(whole, name)[8:12], getattr(part, name))
    assert torch.equal(
        latents.draw_path_noise(SMALL, 1, 0, range(8))[3:4], latents.draw_path_noise(SMALL, 1, 0, [3])
    )


def test_seed_use_and_number_each_change_everything() -> None:
    base = latents.draw_latents(SMALL, 1, 2, [3])
    for seed, use, number in ((2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)):
        other = latents.draw_latents(SMALL, seed, use, [number])
        assert (base.z - other.z).abs().min() > 0
        assert (base.noise - other.noise).abs().min() > 0


def test_latents_and_noise_are_normal() -> None:
    drawn = latents.draw_latents(SMALL, 0, 0, range(400))
    assert drawn.z.shape == (400, 2, 32)
    assert drawn.noise.shape == (400, 16 + 2 * 64 + 2 * 256)
    for values in (drawn.z, drawn.noise):
        assert abs(values.mean()) < 0.02
        assert abs(values.std() - 1) < 0.02
        assert abs((values**4).mean() - 3) < 0.2


def test_nine_samples_of_ten_mix_at_a_uniform_layer() -> None:
    cutoff = latents.draw_latents(SMALL, 0, 0, range(4000)).cutoff
    shares = torch.bincount(cutoff, minlength=7) / 4000
    assert SMALL.layers == 6
    assert torch.allclose(shares, torch.tensor([0, 0.18, 0.18, 0.18, 0.18, 0.18, 0.1]), atol=0.03)


def test_no_mixing_means_one_latent() -> None:
    assert (latents.draw_latents(SMALL, 0, 0, range(50), mixing=0.0).cutoff == 6).all()


def test_mixing_of_bits_is_splitmix() -> None:
    # the first two outputs of the published generator from the state 0, and no collision among neighbours
    assert randomness.mixed(0) == 0xE220A8397B1DCDAF
    assert randomness.mixed(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4
    assert len({randomness.mixed(a, b) for a in range(100) for b in range(100)}) == 10_000
