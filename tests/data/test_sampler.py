from itertools import islice

import numpy as np
import pytest

from srfgan.models.errors import InputError
from srfgan_cli.data.sampler import EvaluationBatches, TrainingBatches, aspect_groups

WIDE, TALL = (20, 30), (30, 20)
SIZES = np.array([WIDE] * 23 + [TALL] * 14)


def steps(count, **options):
    options = {"batch_size": 4} | options
    micro = options.get("accumulate", 1)
    return list(islice(TrainingBatches(SIZES, **options), count * micro))


def test_every_epoch_visits_every_image_once():
    """37 images are no multiple of 4: those still waiting are within one batch per group of the end."""
    positions = [position for batch in steps(100, seed=3) for position, _ in batch]
    counts = np.bincount(positions, minlength=37)
    assert counts.sum() == 400
    assert counts.max() - counts.min() <= 2
    first_epoch = positions[: 37 - 2 * 3]
    assert len(set(first_epoch)) == len(first_epoch)
    # All of it in whole epochs: with a batch of one nothing ever waits.
    single = [batch[0][0] for batch in steps(74, batch_size=1)]
    assert sorted(single[:37]) == sorted(single[37:]) == list(range(37))
    assert single[:37] != single[37:]


def test_a_global_batch_is_all_wide_or_all_tall():
    groups = [{bool(SIZES[p][1] >= SIZES[p][0]) for p, _ in batch} for batch in steps(50)]
    assert all(len(group) == 1 for group in groups)
    assert {True} in groups
    assert {False} in groups


def test_finer_groups_are_torchvisions():
    """`--aspect-ratio-group-factor 3`: bounds at 1/2, 0.63, 0.79, 1, 1.26, 1.59 and 2, each the wider group's."""
    sizes = np.array([(100, w) for w in (49, 50, 62, 64, 79, 80, 99, 100, 125, 127, 158, 159, 199, 200, 900)])
    groups, count = aspect_groups(sizes, 3)
    assert groups.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7] and count == 8
    plain, two = aspect_groups(sizes, 0)
    assert plain.tolist() == [0] * 7 + [1] * 8 and two == 2


def test_a_batch_is_of_one_group_and_no_image_is_forgotten():
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 60, (90, 2))
    groups, _ = aspect_groups(sizes, 3)
    batches = list(islice(TrainingBatches(sizes, batch_size=4, group_factor=3), 400))
    assert all(len({groups[position] for position, _ in batch}) == 1 for batch in batches)
    counts = np.bincount([position for batch in batches for position, _ in batch], minlength=90)
    assert counts.max() - counts.min() <= 3
    later = list(islice(TrainingBatches(sizes, batch_size=4, group_factor=3, start=57), 9))
    assert later == batches[57:66]


def test_rare_images_come_as_often_as_their_factors_say():
    """Whole visits in every epoch, a fraction in its share of them; order and resume as ever."""
    repeats = np.ones(37)
    repeats[[3, 30]] = 2.25, 3
    common = {"repeats": repeats, "seed": 5}
    single = [batch[0][0] for batch in steps(400 * 41, batch_size=1, **common)]
    counts = np.bincount(single[: 40 * 37], minlength=37)
    assert single[:40].count(30) >= 2 and {single[:36].count(p) for p in range(37) if p not in (3, 30)} <= {
        0,
        1,
    }
    shares = np.bincount(single, minlength=37) / (len(single) / repeats.sum())
    np.testing.assert_allclose(shares, repeats, rtol=0.02)
    assert counts.min() >= 35
    tail = steps(10, start=57, **common)
    assert tail == steps(67, **common)[57:]
    parts = [steps(67, rank=rank, world_size=2, **common)[57:] for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == tail


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 2), (2, 1), (2, 2), (4, 1)])
def test_processes_and_accumulation_share_out_the_same_global_batches(world_size, accumulate):
    whole = steps(20, batch_size=8)
    parts = [
        steps(20, batch_size=8, rank=rank, world_size=world_size, accumulate=accumulate)
        for rank in range(world_size)
    ]
    for step in range(20):
        of_step = slice(step * accumulate, (step + 1) * accumulate)
        together = [request for part in parts for micro in part[of_step] for request in micro]
        assert together == whole[step]


@pytest.mark.parametrize("start", [1, 9, 10, 57])
def test_resuming_gives_the_same_tail(start):
    assert steps(10, start=start, seed=5) == steps(start + 10, seed=5)[start:]


def test_seeds_differ_between_images_and_runs():
    requests = [request for batch in steps(200) for request in batch]
    seeds = [seed for _, seed in requests]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert steps(5, seed=1) != steps(5, seed=2)


def test_fewer_images_than_a_batch():
    (batch,) = islice(TrainingBatches(np.array([WIDE, TALL]), batch_size=4), 1)
    assert len({position for position, _ in batch}) == 1
    assert len(batch) == 4


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(InputError) as caught:
        TrainingBatches(SIZES, batch_size=6, world_size=2, accumulate=2)
    assert str(caught.value) == (
        "a batch of 6 images cannot be divided over 2 process(es) with 2 accumulation step(s);"
        " choose a multiple of 4"
    )


@pytest.mark.parametrize("count", [0, 1, 7, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_every_image_once_in_order(count, world_size):
    sizes = np.full((count, 2), 64)
    shares = [
        EvaluationBatches(sizes, batch_size=2, rank=r, world_size=world_size) for r in range(world_size)
    ]
    positions = [position for share in shares for batch in share for position, _ in batch]
    assert positions == list(range(count))
    assert all(len(list(share)) == len(share) for share in shares)
    lengths = [len(share.positions) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_batches_are_of_one_size(world_size):
    """Of several they would be padded, and what is found in an image would depend on the others."""
    sizes = np.array([WIDE, TALL, WIDE, WIDE, TALL, (5, 5), WIDE, TALL, WIDE, WIDE])
    shares = [
        EvaluationBatches(sizes, batch_size=3, rank=r, world_size=world_size) for r in range(world_size)
    ]
    batches = [[position for position, _ in batch] for share in shares for batch in share]
    assert sorted(position for batch in batches for position in batch) == list(range(10))
    assert all(len({tuple(sizes[position]) for position in batch}) == 1 for batch in batches)
    assert all(len(share) == len(list(share)) for share in shares)
    if world_size == 1:
        assert batches == [[0, 2, 3], [6, 8, 9], [1, 4, 7], [5]]
    alone = EvaluationBatches(sizes)
    assert [batch for (batch,) in (list(batch) for batch in alone)] == [(at, 0) for at in range(10)]
