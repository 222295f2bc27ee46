"""The pretended GPU itself: it sees every kind of wait, refuses mixed devices, and casts as CUDA's autocast does."""

import pytest
import torch
from pretended_cuda import CUDA, PretendedTensor
from torch import nn
from torch.nn import functional as F

WAITS = {
    "item": [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x[: x.long().sum() // 10],
        lambda x: torch.zeros(8, device=x.device).split([int(x[1]), 7]),
        lambda x: f"{x.sum():.1f}",
    ],
    "to host": [
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.to(torch.ones(1)),
        lambda x: x.tolist(),
        lambda x: torch.empty(4).copy_(x),
    ],
    "from pageable memory": [
        lambda x: torch.ones(3).to(x.device),
        lambda x: torch.ones(3).to(x.device, non_blocking=True),
        lambda x: torch.ones(3).to(x),
        lambda x: torch.ones(3).type_as(x),
        lambda x: torch.tensor([1.0, 2.0], device=x.device),
        lambda x: torch.as_tensor([1.0, 2.0], device=x.device),
        lambda x: x.new_tensor([1.0]),
        lambda x: x[[1, 2]],
        lambda x: x.clone().copy_(torch.ones(4)),
        lambda x: x.clone().__setitem__(slice(2), torch.ones(2)),
    ],
    "from host": [lambda x: torch.ones(3).pin_memory().to(x.device)],
    "index from host": [lambda x: x[torch.tensor([1, 2])]],
    "index by mask": [
        lambda x: x[x > 1],
        lambda x: x[torch.ones(4) > 0],
        lambda x: x.clone().__setitem__(x > 1, x[:2]),
        lambda x: x.clone().__setitem__(x > 1, x[0]),
    ],
    "nonzero": [lambda x: x.nonzero(), lambda x: torch.where(x > 1)],
    "repeat_interleave": [lambda x: x.repeat_interleave(x.long())],
    "unique": [lambda x: x.unique()],
    "equal": [lambda x: torch.equal(x, x)],
    "allclose": [lambda x: torch.allclose(x, x)],
    "synchronize": [lambda x: torch.cuda.synchronize(), lambda x: torch.cuda.current_stream().synchronize()],
}
FREE = [
    lambda x: torch.ones(3).pin_memory().to(x.device, non_blocking=True),
    lambda x: x.to("cpu", non_blocking=True),
    lambda x: torch.zeros(3, device=x.device) + x[0],
    lambda x: torch.arange(3, device="cuda"),
    lambda x: x.clone().__setitem__(x > 1, 0.0),
    lambda x: x.clone().masked_fill_(x > 1, 0.0),
    lambda x: x.clone().__setitem__(0, 3.0),
    lambda x: x[1:3],
    lambda x: x[x.long()],
    lambda x: x * torch.tensor(2.0),
    lambda x: torch.nonzero_static(x > 1, size=2),
    lambda x: x.repeat_interleave(x.long(), output_size=6),
    lambda x: x.to(torch.float16).to(x),
    lambda x: (len(x), x.shape, x.device, x.is_cuda, list(x)),
]
MIXED = [
    lambda x: x + torch.ones(4),
    lambda x: torch.cat([x, torch.ones(4)]),
    lambda x: torch.stack([x.sum(), torch.tensor(0.0)]),
    lambda x: torch.ones(4)[x.long()],
    lambda x: torch.tensor(0.0).add_(x.sum()),
    lambda x: torch.ones(4).add_(x),
    lambda x: nn.Linear(4, 2)(x),
    lambda x: x.numpy(),
    lambda x: x.pin_memory(),
]


@pytest.fixture
def x(cuda):
    made = torch.arange(4.0).pin_memory().to(CUDA, non_blocking=True)
    assert not cuda.waits
    return made


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("why", WAITS)
def test_what_waits_is_counted(cuda, x, why, inference):
    for wait in WAITS[why]:
        cuda.waits.clear()
        with torch.inference_mode(inference):
            wait(x)
        assert [reason for _, reason in cuda.waits.elements()] == [why]


@pytest.mark.parametrize("inference", [False, True])
def test_what_does_not_wait_is_not(cuda, x, inference):
    with torch.inference_mode(inference):
        for step in FREE:
            step(x)
    assert not cuda.waits


@pytest.mark.parametrize("inference", [False, True])
def test_devices_do_not_mix(x, inference):
    for step in MIXED:
        with torch.inference_mode(inference), pytest.raises((RuntimeError, TypeError)):
            step(x)


def test_a_backward_pass_waits_where_its_mask_is_counted_again(cuda, x):
    w = x.clone().requires_grad_()
    total = w[w > 1].sum()
    cuda.waits.clear()
    total.backward()
    assert dict(cuda.waits) == {("backward of IndexBackward0", "index by mask"): 1}
    assert isinstance(w.grad, PretendedTensor) and w.grad.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_cudas(x, dtype):
    layer = nn.Linear(4, 4).to(CUDA)
    with torch.autocast("cuda", dtype):
        y = layer(x[None])
        types = y.dtype, y.exp().dtype, F.softplus(y).dtype, (y + y).dtype, y.sum().dtype
    assert types == (dtype, torch.float32, torch.float32, dtype, torch.float32)
    y.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_modules_move_as_they_do(cuda):
    shared = nn.Linear(2, 2)
    module = nn.Sequential(shared, nn.BatchNorm1d(2), shared).requires_grad_(False)
    module[1].weight.requires_grad_(True)
    module.to(CUDA)
    assert module[0].weight is module[2].weight
    assert all(tensor.is_cuda for tensor in module.state_dict().values())
    assert [p.requires_grad for p in module.parameters()] == [False, False, True, False]


def test_all_is_as_before_afterwards():
    from pretended_cuda import pretended_cuda

    before = torch.cuda.is_available(), nn.Module.to, torch.backends.cudnn.enabled
    with pretended_cuda():
        pass
    assert (torch.cuda.is_available(), nn.Module.to, torch.backends.cudnn.enabled) == before
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.ones(2, device="cuda")
