"""A GPU that is pretended: what runs on it runs on the CPU, but under CUDA's rules.

    with pretended_cuda() as cuda:
        network.to(CUDA)(image.pin_memory().to(CUDA, non_blocking=True)).sum().backward()
    cuda.waits  # Counter of (place, reason)

An operation that mixes devices raises, as it would on a GPU; one for which the host would wait is counted. Nothing
is said of cuDNN's and NCCL's own ways, memory or speed.
"""

from pretended_cuda.session import UnavailableError, pretended_cuda
from pretended_cuda.tensors import CUDA, PretendedTensor, held

__all__ = ["CUDA", "PretendedTensor", "UnavailableError", "held", "pretended_cuda"]
