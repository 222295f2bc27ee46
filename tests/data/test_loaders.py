import multiprocessing
import os
import pickle
import signal
import time
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import HANGS, start
from torch.utils.data import DataLoader

from srfgan.models.errors import InputError
from srfgan_cli.data import loaders
from srfgan_cli.data.loaders import build_test_loader, build_train_loader
from srfgan_cli.data.open import open_split
from srfgan_cli.presets.config import DataConfig, SelfTrainingConfig

CONFIG = DataConfig(short_sides=[40, 60], max_side=100, test_short_side=50, test_max_side=70)


@pytest.fixture
def dataset(tiny):
    tiny.write()
    return open_split(CONFIG, tiny.root, "train", training=True)


def take(loader, count):
    batches = iter(loader)
    taken = list(islice(batches, count))
    batches.close()
    return taken


@pytest.mark.parametrize(("labelled", "pseudo", "enough"), [(2, 2, 8), (3, 1, 8), (8, 4, 16), (12, 12, 24)])
def test_a_mixed_batch_whose_parts_cannot_be_divided_is_refused_with_one_that_can(
    dataset, labelled, pseudo, enough
):
    """A part had been named as the batch, and a multiple asked for that the batch itself is."""
    parts = {"accumulate": 2, "world_size": 2}
    if labelled % 4 == pseudo % 4 == 0:
        build_train_loader(dataset, batch_size=labelled, pseudo=(dataset, pseudo), **parts)
        return
    with pytest.raises(InputError) as caught:
        build_train_loader(dataset, batch_size=labelled, pseudo=(dataset, pseudo), **parts)
    assert f"a batch of {labelled + pseudo} images is {labelled} labelled and {pseudo} pseudo-" in str(
        caught.value
    )
    assert str(caught.value).endswith(f"multiples of 4, as a batch of {enough} with a ratio of 1")
    shares = SelfTrainingConfig(ratio=1.0).shares(enough)
    build_train_loader(dataset, batch_size=shares[0], pseudo=(dataset, shares[1]), **parts)


def same(left, right):
    assert left.image_ids == right.image_ids and left.original_sizes == right.original_sizes
    for a, b in zip(left.images, right.images, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    for a, b in zip(left.targets, right.targets, strict=True):
        assert a.boxes.dtype == b.boxes.dtype and torch.equal(a.boxes, b.boxes)
        assert a.labels.dtype == b.labels.dtype and torch.equal(a.labels, b.labels)
        for mask, other in zip(a.masks, b.masks, strict=True):
            assert all(map(np.array_equal, mask.parts, other.parts)) and len(mask.parts) == len(other.parts)


@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_worker_processes_change_nothing(dataset, monkeypatch, context):
    plain = take(build_train_loader(dataset, batch_size=2, seed=4), 6)
    with_context = multiprocessing.get_context(context)
    monkeypatch.setattr(
        loaders,
        "DataLoader",
        lambda *args, **options: DataLoader(*args, **options, multiprocessing_context=with_context),
    )
    for left, right in zip(
        plain, take(build_train_loader(dataset, batch_size=2, seed=4, workers=2), 6), strict=True
    ):
        same(left, right)


def test_a_batch_leaves_its_worker_in_one_piece_of_shared_memory(dataset):
    batch = take(build_train_loader(dataset, batch_size=3), 1)[0]
    batch.images[1] = batch.images[1].contiguous()  # channel by channel
    found = pickle.loads(ForkingPickler.dumps(batch))
    same(found, batch)
    pieces = {image.untyped_storage().data_ptr() for image in found.images}
    assert len(pieces) == 1 and found.images[0].is_shared() and not found.targets[0].boxes.is_shared()


def test_a_process_that_is_spawned_gets_no_copy_of_the_annotations(dataset):
    index = dataset.index
    digest = index.digest()
    first, second = (pickle.loads(ForkingPickler.dumps(index)) for _ in range(2))
    assert first.digest() == second.digest() == index.digest() == digest
    index.boxes[0, 0] += 1
    assert first.boxes[0, 0] == second.boxes[0, 0] == index.boxes[0, 0] != first.truth_boxes[0, 0]


def test_resuming_gives_the_same_batches(dataset):
    whole = take(build_train_loader(dataset, batch_size=2, accumulate=2, seed=4), 8)
    tail = take(build_train_loader(dataset, batch_size=2, accumulate=2, seed=4, start=2), 4)
    for left, right in zip(whole[4:], tail, strict=True):
        same(left, right)


def test_loading_leaves_torchs_random_state_alone(dataset):
    before = torch.get_rng_state()
    take(build_train_loader(dataset, batch_size=2), 2)
    take(build_test_loader(dataset), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_test_loader_gives_every_image_once(dataset):
    loader = build_test_loader(dataset, batch_size=2)
    assert len(loader) == 2
    batches = list(loader)
    assert [batch.image_ids for batch in batches] == [[1, 5], [2]]  # those of one size together
    assert [batch.original_sizes for batch in batches] == [[(20, 30), (20, 30)], [(24, 16)]]
    halves = [build_test_loader(dataset, rank=rank, world_size=2) for rank in (0, 1)]
    assert [ids for half in halves for batch in half for ids in batch.image_ids] == [1, 2, 5]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unusable_image_ends_with_its_own_message_and_no_traceback(dataset, workers):
    dataset.image_path(1).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        list(build_test_loader(dataset, workers=workers))
    assert str(caught.value) == f"{dataset.image_path(1)}: the image file is empty; replace it"


def test_signals_to_the_group_do_not_end_workers_but_closing_does(dataset):
    """Ctrl-C and a scheduler's SIGTERM reach the workers too; the main process must still get its batches."""
    batches = iter(build_train_loader(dataset, batch_size=2, workers=2))
    list(islice(batches, 2))  # one of each worker: before its first, a worker may not be set up yet
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
        # Sent by a process that is not the worker's parent.
        os.system(f"kill -TERM {worker.pid}")
    assert len(list(islice(batches, 20))) == 20
    assert all(worker.is_alive() for worker in workers)
    workers[0].terminate()  # sent by the parent
    workers[0].join(HANGS)
    assert not workers[0].is_alive()


def test_workers_end_with_the_iteration(dataset):
    batches = iter(build_train_loader(dataset, batch_size=2, workers=2))
    next(batches)
    workers = multiprocessing.active_children()
    batches.close()
    for worker in workers:
        worker.join(HANGS)
    assert not any(worker.is_alive() for worker in workers)


KILLED = """
import multiprocessing, os, signal, time
from pathlib import Path
from srfgan_cli.data import loaders
from srfgan_cli.data.open import open_split
from srfgan_cli.presets.config import DataConfig

loaders._collate = lambda samples: bytes(2**20)  # as masks of many objects; a pipe holds 64 KiB
dataset = open_split(DataConfig(), Path(given), "train", training=True)
batches = iter(loaders.build_train_loader(dataset, batch_size=2, workers=2))
next(batches)
print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
time.sleep(1)  # until they have read ahead and wait
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_process_that_is_killed(tiny, tmp_path):
    tiny.write()
    code, said = start(KILLED, str(tiny.root), tmp_path).ended()
    workers = [int(pid) for pid in said.split()]
    assert code == -signal.SIGKILL and len(workers) == 2
    deadline = time.monotonic() + HANGS
    while any(runs(pid) for pid in workers):
        assert time.monotonic() < deadline, workers
        time.sleep(0.1)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
