"""A GPU that is only pretended, so that what runs on one is tested where there is none.

Numbers are computed on the processor. A tensor that was moved to ``cuda`` says that it lies there,
and so does everything made from it, so code takes its way for a GPU; what CUDA would refuse, an
operation between memory and device, raises.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU, MEMORY = torch.device("cuda", 0), torch.device("cpu")

_WAITS = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
"""Operations whose result, or its size, the processor must know before it goes on."""
_SUMS_IN_ANY_ORDER = {
    "bincount",
    "embedding_dense_backward",
    "index_add",
    "index_add_",
    "index_reduce",
    "put_",
    "scatter_add",
    "scatter_add_",
    "scatter_reduce",
}
"""Operations that may sum in another order every time on a GPU."""
_COPIES = {"_to_copy", "copy_", "_copy_from"}
_INDEXINGS = {"index", "index_put", "index_put_", "_index_put_impl_"}


class MixedDevicesError(RuntimeError):
    """An operation between a tensor in memory and one on the device."""


class PretendedGpu:
    """Inside the ``with`` block there is a device ``cuda``.

    Not seen are the limits of kernels (types, races, memory), and mixtures in what torch itself
    does in a backward pass.

    Attributes:
        generator: Its random numbers' state; they are drawn from that of memory.
        memory: Its size in bytes.
        reserved: What torch's allocator has taken of it at most.
        limit: The share of it that torch's allocator was limited to.
        broken: What CUDA says to everything that follows, once its context is broken.
        waits: How often the processor had to wait for the device, or to copy between both, by what
            for; clear it to begin anew.
        operations: How often each elementary operation was made on the device.
        unordered: How often floating-point numbers were summed in no certain order, by operation.
    """

    def __init__(self) -> None:
        self.generator = torch.Generator()
        self.waits: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.unordered: Counter[str] = Counter()
        self.memory, self.reserved, self.limit = 16 * 2**30, 0, 1.0
        self.broken: str | None = None
        # Kept alive, so that no other storage ever has the address of one that is known.
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._copying = False
        self._stack = ExitStack()

    def __enter__(self) -> PretendedGpu:
        for owner, name, stand_in in (
            (torch.cuda, "is_available", lambda: True),
            # A torch that is built for CUDA would ask the driver, which is not there.
            (torch.cuda, "is_current_stream_capturing", lambda: False),
            (torch.accelerator, "current_accelerator", lambda check_available=False: None),
            (torch.cuda, "mem_get_info", self._answered(lambda device=GPU: (0, self.memory))),
            (torch.cuda, "max_memory_reserved", lambda device=GPU: self.reserved),
            (torch.cuda, "empty_cache", self._answered(lambda: None)),
            (torch.cuda, "reset_peak_memory_stats", lambda device=GPU: None),
            (torch.cuda, "set_per_process_memory_fraction", self._answered(self._limit)),
            (torch.cuda, "synchronize", self._answered(lambda device=GPU: None)),
            (torch, "Generator", _Generator),
            (torch.cuda, "default_generators", (self.generator,)),
            (torch.cuda, "get_rng_state", lambda device=GPU: self.generator.get_state()),
            (torch.cuda, "set_rng_state", lambda s, device=GPU: self.generator.set_state(s)),
            (torch.cuda, "manual_seed_all", self.generator.manual_seed),
        ):
            self._stack.enter_context(patch.object(owner, name, stand_in))
        calls, apply = _Calls(self), BackwardCFunction.apply

        def seen(function: Any, *gradients: Any) -> Any:
            # Torch hides a backward pass from those who watch calls.
            with calls:
                return apply(function, *gradients)

        run = threading.Thread.run

        def run_with_gpu(thread: threading.Thread) -> None:
            # What watches calls and operations belongs to one thread.
            with _Calls(self), _Operations(self):
                run(thread)

        self._stack.enter_context(patch.object(threading.Thread, "run", run_with_gpu))
        self._stack.enter_context(patch.object(BackwardCFunction, "apply", seen))
        self._stack.enter_context(calls)
        self._stack.enter_context(_Operations(self))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()
        self._storages.clear()

    def _limit(self, fraction: float) -> None:
        self.limit = fraction

    def _answered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any) -> Any:
            if self.broken is not None:
                raise RuntimeError(self.broken)
            return function(*arguments)

        return asked

    def holds(self, value: Any) -> bool:
        """Whether something is a tensor that lies on the device."""
        return isinstance(value, Tensor) and value.untyped_storage()._cdata in self._storages

    def put(self, tensor: Tensor) -> Tensor:
        """Say of a tensor that it lies on the device."""
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = storage
        return tensor

    def copied(self, tensor: Tensor, to_gpu: bool) -> Tensor:
        """A copy on the other side; the tensor itself where it is there already."""
        if self.holds(tensor) == to_gpu:
            return tensor
        self.waits["copied to the device" if to_gpu else "copied to memory"] += 1
        self._copying = True
        try:
            copy = tensor.clone()
        finally:
            self._copying = False
        return self.put(copy) if to_gpu else copy

    def notice(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
        """Count and check one operation; whether its results lie on the device."""
        tensors = _tensors((arguments, named))
        here = [tensor for tensor in tensors if self.holds(tensor)]
        if not here or self._copying:
            return False
        self.operations[name] += 1
        in_memory = [tensor for tensor in tensors if not self.holds(tensor) and tensor.dim() > 0]
        if name in _WAITS and named.get("output_size") is None:
            self.waits[name] += 1
        if name in _INDEXINGS:
            # Masks have as many results as they say; lists are copied to the device.
            kinds = {index.dtype for index in _tensors(arguments[1])}
            self.waits["mask"] += bool(kinds & {torch.bool, torch.uint8})
            self.waits["copied to the device"] += bool(in_memory)
            accumulates = name != "index" and len(arguments) > 3 and arguments[3]
            self.unordered[name] += bool(accumulates and arguments[0].is_floating_point())
        elif name in _COPIES:
            self.waits["copied"] += bool(in_memory)
        elif in_memory and not _runs_backward():
            shapes = [[tuple(tensor.shape) for tensor in part] for part in (in_memory, here)]
            raise MixedDevicesError(f"{name}: in memory {shapes[0]}, on the device {shapes[1]}")
        if name in _SUMS_IN_ANY_ORDER and any(tensor.is_floating_point() for tensor in here):
            self.unordered[name] += 1
        return name not in ("copy_", "_local_scalar_dense")


def _runs_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


_generator = torch.Generator


class _Generator:
    """Makes a generator for any device in memory."""

    def __new__(cls, device: Any = "cpu") -> Any:
        return _generator()


class _Operations(TorchDispatchMode):
    """Sees every elementary operation, those of a backward pass among them."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        on_device = self.gpu.notice(func.overloadpacket.__name__, args, kwargs)
        result = func(*args, **kwargs)
        if on_device:
            for tensor in _tensors(result):
                self.gpu.put(tensor)
        return result


class _Calls(TorchFunctionMode):
    """Sees what Python asks of tensors, and answers where a device matters."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self.gpu = gpu
        self._answers: Mapping[Any, Callable[..., Any]] = {
            Tensor.device.__get__: lambda x: GPU if gpu.holds(x) else MEMORY,
            Tensor.is_cuda.__get__: gpu.holds,
            Tensor.get_device: lambda x: 0 if gpu.holds(x) else -1,
            Tensor.cpu: lambda x: gpu.copied(x, to_gpu=False),
            Tensor.cuda: lambda x, *where: gpu.copied(x, to_gpu=True),
            Tensor.tolist: lambda x: gpu.copied(x, to_gpu=False).tolist(),
            Tensor.to: self._to,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._answers:
            return self._answers[func](*args, **kwargs)
        gpu, name = self.gpu, getattr(func, "__name__", "")
        if name in ("numpy", "__array__", "__dlpack__") and gpu.holds(args[0]):
            raise TypeError("a tensor on the device is no array in memory")
        if name == "new_tensor" and gpu.holds(args[0]):
            gpu.waits["copied to the device"] += 1
            return gpu.put(func(*args, **kwargs))
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "cuda":
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": "cpu"})
        if name in ("tensor", "as_tensor"):
            gpu.waits["copied to the device"] += 1
        return gpu.put(made)

    def _to(self, tensor: Tensor, *targets: Any, copy: bool = False, **named: Any) -> Tensor:
        device, dtype = named.get("device"), named.get("dtype")
        for target in targets:
            if isinstance(target, Tensor):
                device, dtype = GPU if self.gpu.holds(target) else MEMORY, target.dtype
            elif isinstance(target, torch.dtype):
                dtype = target
            elif isinstance(target, str | torch.device):
                device = target
        result = tensor if dtype in (None, tensor.dtype) else tensor.type(dtype)
        if device is not None:
            result = self.gpu.copied(result, to_gpu=torch.device(device).type == "cuda")
        return result.clone() if copy and result is tensor else result
