"""torch's values, not its memory: lazy bits, autograd, subclasses, tensors without memory."""

from __future__ import annotations

import contextlib
import warnings

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import child
from support.consumers import CONSUMERS, values

import dlexchange as dx
from dlexchange.adapters import torch as torch_adapter

torch = pytest.importorskip("torch", reason="absent: torch is not installed")

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())


# ---- the lazy bits ------------------------------------------------------------------------

Z = torch.tensor([[1 + 2j, 3 - 4j, 5 + 6j], [7 - 8j, 9 + 10j, 11 - 12j]], dtype=torch.complex64)
LAZY = {
    "conj": lambda: Z.conj(),
    "conj of a row": lambda: Z.conj()[1],
    "row of conj": lambda: Z[1].conj(),
    "conj, transposed": lambda: Z.mH,
    "conj of a scalar": lambda: Z.conj()[0, 0],
    "imag of conj": lambda: Z.conj().imag,
    "imag of conj, made contiguous": lambda: Z.conj().imag.as_strided((3,), (1,)),
    "imag of conj, one element": lambda: Z.conj().imag[0, :1],
    "imag of conj, scalar": lambda: Z.conj().imag[0, 0],
    "neg view": lambda: torch._neg_view(torch.arange(3.0)),
    "neg view of integers": lambda: torch._neg_view(torch.arange(3)),
    "neg of conj": lambda: torch._neg_view(Z.conj()),
    "viewed as real": lambda: torch._neg_view(torch.view_as_real(Z)),
    "complex128": lambda: Z.to(torch.complex128).conj(),
    "detached": lambda: Z.conj().detach(),
    "expanded": lambda: Z.conj()[:1].expand(4, 3),
    "diagonal": lambda: Z[:2, :2].conj().diagonal(),
    "in inference mode": lambda: torch.inference_mode()(lambda: Z.clone().conj())(),
}
#: Negative twice, conjugate twice, no imaginary part: these are what their memory says.
PLAIN = {
    "twice conj": lambda: Z.conj().conj(),
    "real of conj": lambda: Z.conj().real,
    "twice neg": lambda: torch._neg_view(torch._neg_view(torch.arange(3.0))),
    "resolved": lambda: Z.conj().resolve_conj(),
    "physical": lambda: Z.conj_physical(),
    "imag": lambda: Z.imag,
    "imag made contiguous": lambda: Z.imag.as_strided((3,), (1,)),
    "cloned": lambda: Z.conj().imag.clone(),
}


@each_consumer
@pytest.mark.parametrize("make", LAZY.values(), ids=LAZY.keys())
def test_lazy_tensor_is_refused_or_resolved(consumer, make):
    tensor = make()
    with pytest.raises(dx.ExchangeError, match=r"lazy .* copy=True, or .*resolve_conj"):
        consumer(tensor)
    with pytest.raises(dx.CopyError, match="lazy"):
        consumer(tensor, copy=False)
    before = dx.stats().copies
    result = consumer(tensor, copy=True)
    assert values(result) == tensor.resolve_conj().resolve_neg().tolist()
    narrowed = consumer is CONSUMERS["jax"] and tensor.dtype in (torch.int64, torch.complex128)
    assert dx.stats().copies == before + 1 + narrowed


@each_consumer
@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN.keys())
def test_tensor_that_is_its_memory_goes_through(consumer, make):
    tensor = make()
    assert values(consumer(tensor)) == tensor.tolist()


def test_resolved_copy_is_the_callers_alone():
    original = Z.clone()
    tensor = dx.from_dlpack(original.conj(), copy=True)
    assert tensor.is_copied
    dx.to_numpy(tensor)[:] = 0
    assert torch.equal(original, Z)


# ---- every chain of views, with and without the guard ------------------------------------------

VIEWS = {
    "conj": lambda t: t.conj(),
    "neg": lambda t: torch._neg_view(t),
    "reversed": lambda t: t.permute(tuple(reversed(range(t.ndim)))),
    "adjoint": lambda t: t.transpose(-2, -1).conj(),
    "real": lambda t: t.real,
    "imag": lambda t: t.imag,
    "view_as_real": lambda t: torch.view_as_real(t),
    "view_as_complex": lambda t: torch.view_as_complex(t),
    "first": lambda t: t[0],
    "last": lambda t: t[-1:],
    "step": lambda t: t[..., ::2],
    "narrow": lambda t: t.narrow(-1, 1, 1),
    "none": lambda t: t[None],
    "squeeze": lambda t: t.squeeze(),
    "unsqueeze": lambda t: t.unsqueeze(-1),
    "expand": lambda t: t[..., :1].expand(*t.shape[:-1], 3),
    "flatten": lambda t: t.flatten(),
    "view": lambda t: t.view(-1),
    "diagonal": lambda t: t.diagonal(),
    "as_strided": lambda t: t.as_strided((2,), (1,), t.storage_offset()),
    "unfold": lambda t: t.unfold(-1, 2, 1),
    "movedim": lambda t: t.movedim(0, -1),
    "detach": lambda t: t.detach(),
    "alias": lambda t: torch.ops.aten.alias(t),
    "split": lambda t: t.split(1, -1)[-1],
    "unbind": lambda t: t.unbind(0)[0],
    "chunk": lambda t: t.chunk(2)[0],
    "view dtype": lambda t: t.view(torch.int32),
    "clone": lambda t: t.clone(),
    "resolve_conj": lambda t: t.resolve_conj(),
    "resolve_neg": lambda t: t.resolve_neg(),
    "contiguous": lambda t: t.contiguous(),
    "mul": lambda t: t * 1,
}


def chain(start, names):
    """Apply views as far as torch lets us."""
    for name in names:
        with contextlib.suppress(RuntimeError, IndexError, ValueError):
            start = VIEWS[name](start)
    return start


starts = st.sampled_from(
    [
        Z,
        Z.to(torch.complex128),
        torch.arange(12.0).reshape(3, 4),
        torch.arange(24, dtype=torch.int32).reshape(2, 3, 4),
        torch.arange(4, dtype=torch.bfloat16).reshape(2, 2),
    ]
)
chains = st.lists(st.sampled_from(sorted(VIEWS)), max_size=8)


def verdicts(tensor):
    """Hand a tensor over in every way; say for each whether it was taken."""
    truth = tensor.resolve_conj().resolve_neg()
    taken = []
    for name in ("tensor", "torch", "numpy"):
        for copy in (None, True):
            try:
                result = CONSUMERS[name](tensor, copy=copy)
            except dx.ExchangeError:
                taken.append(False)
                continue
            taken.append(True)
            if name != "torch":
                result = dx.to_torch(result)
            assert result.dtype == truth.dtype
            assert result.shape == truth.shape
            assert torch.equal(result, truth)
    return taken


@given(starts, chains)
def test_no_chain_of_views_shows_other_values(start, names):
    tensor = chain(start, names)
    lazy = tensor.is_conj() or tensor.is_neg()
    assert verdicts(tensor) == [not lazy, True] * 3


@pytest.fixture
def without_guard():
    """Let the guard find nothing, so that torch's methods are asked."""
    assert torch_adapter.locate_lazy_bits(), "the guard's self-test fails on this torch"
    tensor, another = torch.zeros(2), torch.zeros(2)
    assert dx._core._torch_locate([(tensor, another._cdata, 0, 0, 0)]) is False
    yield
    assert dx._core._torch_locate(torch_adapter._specimens()) is True


@pytest.mark.usefixtures("without_guard")
@pytest.mark.parametrize("make", LAZY.values(), ids=LAZY.keys())
def test_fallback_of_the_guard_refuses_the_same(make):
    assert verdicts(make()) == [False, True] * 3


@pytest.mark.usefixtures("without_guard")
@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN.keys())
def test_fallback_of_the_guard_takes_the_same(make):
    assert verdicts(make()) == [True, True] * 3


@pytest.mark.usefixtures("without_guard")
@pytest.mark.parametrize("seed", range(3))
def test_fallback_of_the_guard_agrees_on_random_chains(seed):
    pick = np.random.default_rng(seed)
    names = sorted(VIEWS)
    for _ in range(60):
        tensor = chain(Z, [names[i] for i in pick.integers(len(names), size=6)])
        lazy = tensor.is_conj() or tensor.is_neg()
        assert verdicts(tensor) == [not lazy, True] * 3


@pytest.mark.usefixtures("without_guard")
def test_fallback_of_the_guard_refuses_autograd():
    for tensor in (torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2))):
        with pytest.raises(dx.ExchangeError, match="requires grad"):
            dx.to_numpy(tensor)


@pytest.mark.parametrize(
    "falsify",
    [
        pytest.param(lambda t, cdata, conj, neg, grad: (t, cdata, not conj, neg, grad), id="conj"),
        pytest.param(lambda t, cdata, conj, neg, grad: (t, cdata, conj, not neg, grad), id="neg"),
        pytest.param(lambda t, cdata, conj, neg, grad: (t, cdata, conj, neg, not grad), id="grad"),
    ],
)
def test_guard_is_not_located_where_one_specimen_contradicts(falsify):
    specimens = torch_adapter._specimens()
    try:
        for at in (0, len(specimens) // 2):
            changed = list(specimens)
            if changed[at][4] == 2:
                continue
            changed[at] = falsify(*changed[at])
            assert dx._core._torch_locate(changed) is False
    finally:
        assert dx._core._torch_locate(specimens) is True


@pytest.mark.parametrize("wrong", [None, 3, [], [1], [(1, 2)], [(1, 2, 3, 4, 5)] * 65])
def test_guard_refuses_specimens_that_are_none(wrong):
    try:
        with pytest.raises((TypeError, SystemError)):
            dx._core._torch_locate(wrong)
    finally:
        assert dx._core._torch_locate(torch_adapter._specimens()) is True


@pytest.mark.slow
def test_guard_is_found_by_the_first_hand_off_of_a_process():
    child.run(
        """
        import torch, dlexchange as dx
        z = torch.ones(3, dtype=torch.complex64).conj().imag.as_strided((3,), (1,))
        assert z.is_neg() and z.is_contiguous()
        try:
            dx.to_numpy(z)
        except dx.ExchangeError:
            pass
        else:
            raise SystemExit("raw memory was shown")
        from dlexchange.adapters import torch as adapter
        assert adapter._located is True
        """
    )


# ---- autograd ----------------------------------------------------------------------------------

GRAD = {
    "leaf": lambda: torch.ones(3, requires_grad=True),
    "result": lambda: torch.ones(3, requires_grad=True) * 2,
    "view": lambda: torch.ones(3, requires_grad=True)[1:],
    "Parameter": lambda: torch.nn.Parameter(torch.ones(3)),
    "Buffer of grad": lambda: torch.nn.Buffer(torch.ones(3, requires_grad=True)),
    "set later": lambda: torch.ones(3).requires_grad_(),
    "conj": lambda: Z.clone().requires_grad_().conj(),
    "subclass": lambda: torch.ones(3, requires_grad=True).as_subclass(Plain),
    "empty": lambda: torch.ones(0, requires_grad=True),
    "weight": lambda: torch.nn.Linear(2, 2).weight,
}
NO_GRAD = {
    "detached": lambda: torch.ones(3, requires_grad=True).detach(),
    "data": lambda: torch.ones(3, requires_grad=True).data,
    "no_grad": lambda: torch.no_grad()(lambda: torch.ones(3, requires_grad=True) * 2)(),
    "frozen Parameter": lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False),
    "Buffer": lambda: torch.nn.Buffer(torch.ones(3)),
    "grad itself": lambda: _gradient(),
    "switched off": lambda: torch.ones(3, requires_grad=True).requires_grad_(False),
    "with a hook once": lambda: _hooked(),
    "inference": lambda: torch.inference_mode()(lambda: torch.ones(3))(),
}


def _gradient():
    x = torch.ones(3, requires_grad=True)
    x.sum().backward()
    return x.grad


def _hooked():
    x = torch.ones(3, requires_grad=True)
    x.register_hook(lambda grad: grad)
    return x.requires_grad_(False)


class Plain(torch.Tensor):
    pass


@each_consumer
@pytest.mark.parametrize("make", GRAD.values(), ids=GRAD.keys())
@pytest.mark.parametrize("copy", [None, True, False])
def test_tensor_that_requires_grad_is_refused(consumer, make, copy):
    with pytest.raises(dx.ExchangeError, match=r"requires grad.*detach"):
        consumer(make(), copy=copy)


@each_consumer
@pytest.mark.parametrize("make", NO_GRAD.values(), ids=NO_GRAD.keys())
def test_tensor_that_requires_no_grad_goes_through(consumer, make):
    assert values(consumer(make())) == [1.0, 1.0, 1.0] or make is NO_GRAD["no_grad"]


# ---- tensors without memory of their own ---------------------------------------------------


def _quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


MEMORYLESS = {
    "sparse COO": lambda: torch.eye(3).to_sparse(),
    "sparse CSR": lambda: _quietly(lambda: torch.eye(3).to_sparse_csr()),
    "sparse CSC": lambda: _quietly(lambda: torch.eye(3).to_sparse_csc()),
    "sparse BSR": lambda: _quietly(lambda: torch.eye(4).to_sparse_bsr((2, 2))),
    "meta": lambda: torch.ones(3, device="meta"),
    "quantised": lambda: _quietly(
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    ),
    "quantised by channel": lambda: _quietly(
        lambda: torch.quantize_per_channel(
            torch.ones(3, 2), torch.ones(3), torch.zeros(3), 0, torch.quint8
        )
    ),
    "mkldnn": lambda: torch.ones(3, 3).to_mkldnn(),
    "nested": lambda: _quietly(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
    "jagged": lambda: _quietly(
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    ),
    "zero tensor": lambda: torch._efficientzerotensor((3,)),
    "fake": lambda: torch._subclasses.FakeTensorMode().from_tensor(torch.ones(3)),
    "functional": lambda: torch._to_functional_tensor(torch.ones(3)),
    "freed storage": lambda: _freed(),
    "bits": lambda: torch.empty(3, dtype=torch.bits8),
}


def _freed():
    x = torch.ones(3)
    x.untyped_storage().resize_(0)
    return x


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@each_consumer
@pytest.mark.parametrize("make", MEMORYLESS.values(), ids=MEMORYLESS.keys())
@pytest.mark.parametrize("copy", [None, True, False])
def test_tensor_without_strided_memory_is_refused(consumer, make, copy):
    with pytest.raises(dx.ExchangeError):
        consumer(make(), copy=copy)


@pytest.mark.parametrize(
    "transform",
    [torch.func.vmap, torch.func.grad, torch.func.functionalize, torch.func.jacfwd],
    ids=lambda t: t.__name__,
)
@each_consumer
def test_tensor_inside_a_transformation_is_refused(consumer, transform):
    refused = []

    def inner(x):
        with pytest.raises(dx.ExchangeError) as caught:
            consumer(x)
        refused.append(type(caught.value))
        return x.sum()

    _quietly(lambda: transform(inner)(torch.ones(2, 3)))
    assert refused


@each_consumer
def test_real_tensor_inside_a_transformation_goes_through(consumer):
    constant = torch.arange(3.0)

    def inner(x):
        assert values(consumer(constant)) == [0.0, 1.0, 2.0]
        return x

    torch.func.vmap(inner)(torch.ones(2, 3))


# ---- subclasses -----------------------------------------------------------------------------


class Loud(torch.Tensor):
    """Changes what functions return."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})


class Refusing(torch.Tensor):
    def __dlpack__(self, **keywords):
        raise BufferError("these values have a unit")


class Doubled(torch.Tensor):
    """Its values are not its memory, and its export says so."""

    def __dlpack__(self, **keywords):
        return (self.as_subclass(torch.Tensor) * 2).__dlpack__(**keywords)


class Wrapper(torch.Tensor):
    """A tensor without memory around another (`__torch_dispatch__`)."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args = [a.inner if isinstance(a, Wrapper) else a for a in args]
        return func(*args, **(kwargs or {}))


@each_consumer
@pytest.mark.parametrize("cls", [Plain, Loud], ids=["plain", "__torch_function__"])
def test_subclass_that_is_its_memory_goes_through(consumer, cls):
    assert values(consumer(torch.arange(3.0).as_subclass(cls))) == [0.0, 1.0, 2.0]


@each_consumer
@pytest.mark.parametrize("cls", [Plain, Loud], ids=["plain", "__torch_function__"])
@pytest.mark.parametrize("make", LAZY.values(), ids=LAZY.keys())
def test_lazy_subclass_is_refused_or_resolved(consumer, cls, make):
    tensor = make().as_subclass(cls)
    assert tensor.is_conj() or tensor.is_neg()
    with pytest.raises(dx.ExchangeError, match=r"lazy .*resolve_conj"):
        consumer(tensor)
    with pytest.raises(dx.CopyError, match="lazy"):
        consumer(tensor, copy=False)
    assert values(consumer(tensor, copy=True)) == make().resolve_conj().resolve_neg().tolist()


@each_consumer
def test_subclass_that_refuses_is_refused(consumer):
    with pytest.raises(dx.ExchangeError) as caught:
        consumer(torch.ones(3).as_subclass(Refusing))
    assert "unit" in str(caught.value.__cause__)


@each_consumer
def test_subclass_with_an_export_of_its_own_is_asked(consumer):
    assert values(consumer(torch.arange(3.0).as_subclass(Doubled))) == [0.0, 2.0, 4.0]


@each_consumer
@pytest.mark.parametrize("copy", [None, True])
def test_wrapper_without_memory_is_refused(consumer, copy):
    with pytest.raises(dx.ExchangeError):
        consumer(Wrapper(torch.ones(3)), copy=copy)


@each_consumer
def test_masked_tensor_is_refused_and_not_stripped(consumer):
    masked = _quietly(
        lambda: torch.masked.masked_tensor(torch.ones(3), torch.tensor([True, False, True]))
    )
    with pytest.raises((dx.ExchangeError, TypeError)):
        _quietly(lambda: consumer(masked))


def test_result_is_a_plain_tensor():
    result = dx.to_torch(torch.ones(3).as_subclass(Plain))
    assert type(result) is torch.Tensor
    assert type(dx.to_torch(torch.nn.Parameter(torch.ones(3), requires_grad=False))) is torch.Tensor


# ---- modes and conditions of the process ---------------------------------------------------------


@each_consumer
def test_hand_off_under_a_dispatch_mode(consumer):
    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with Counting():
        result = consumer(torch.arange(3.0))
    assert values(result) == [0.0, 1.0, 2.0]


def test_import_under_a_default_device_is_on_the_host():
    with torch.device("meta"):
        result = dx.to_torch(np.arange(3.0))
    assert result.device.type == "cpu"
    assert result.tolist() == [0.0, 1.0, 2.0]


def test_import_under_a_default_dtype_keeps_its_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert dx.to_torch(np.ones(2, np.float32)).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


# ---- jax, which has its own ways of not being memory ---------------------------------------


@each_consumer
def test_tracers_are_refused(consumer):
    refused = []

    def inner(x):
        with pytest.raises(dx.ExchangeError, match="tracer"):
            consumer(x)
        refused.append(type(x).__name__)
        return x.sum()

    jax.jit(inner)(jax.numpy.ones(3))
    jax.grad(inner)(jax.numpy.ones(3))
    jax.vmap(inner)(jax.numpy.ones((2, 3)))
    assert len(refused) == 3


@each_consumer
def test_deleted_and_donated_arrays_are_refused(consumer):
    array = jax.numpy.arange(3.0)
    array.delete()
    with pytest.raises(dx.ExchangeError, match="jax"):
        consumer(array)


@each_consumer
def test_key_arrays_are_refused(consumer):
    with pytest.raises(dx.ExchangeError, match="key"):
        consumer(jax.random.key(0))


@pytest.mark.parametrize("dtype", [jax.numpy.int4, jax.numpy.uint4, jax.numpy.int2])
def test_integers_that_jax_cannot_export_are_refused(dtype):
    with pytest.raises(dx.ExchangeError, match="jax"):
        dx.from_dlpack(jax.numpy.zeros(3, dtype))


def test_jax_memory_is_read_only():
    array = jax.numpy.arange(4.0)
    tensor = dx.from_dlpack(array)
    assert tensor.readonly
    assert not dx.to_numpy(array).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        dx.to_numpy(array)[0] = 1
