"""Weights that share one input on a CUDA device: one launch, and a second one for what follows in a row.

The first launch multiplies x for all weights at once, the hidden numbers of their chains among it; the second reads
these hidden numbers where they lie in the first one's output. A weight that has both parts is their sum. Hidden numbers
are as exact as the input: bfloat16 between bfloat16, float32 between others.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from liptt_cli.formats.zones import Zones
from liptt_cli.kernels.dispatch import TRITON_FAST, chosen
from liptt_cli.kernels.program import Program
from liptt_cli.kernels.terms import Lowered
from liptt_cli.kernels.triton_launch import MOST_TOKENS, PARTS, multiply, multiply_by_torch, multiply_rounded
from liptt_cli.kernels.triton_layout import Job, Launch, Read, lay_out

Place = tuple[int, int, int]
"""A launch, and the first column and the number of columns of what it gives."""


@dataclass(frozen=True)
class DeviceProducts:
    """`x @ W.T` of several weights, side by side; `places` are, for each weight, the outputs that it is the sum of."""

    launches: tuple[Launch, ...]
    places: tuple[tuple[Place, ...], ...]

    def __call__(self, x: Float[Tensor, "*lead in"], *, rounded: bool) -> Float[Tensor, "*lead out"]:
        """Return the products in the dtype of x; `rounded` reads 8-bit inputs."""
        tokens = x.reshape(-1, x.shape[-1])
        tokens = tokens if tokens.stride(-1) == 1 else tokens.contiguous()
        with _on(x.device):
            found = self._run(tokens, rounded=rounded)
            y = found[-1] if self._is_last_alone else torch.cat([_sum(found, at) for at in self.places], dim=1)
        return y.to(x.dtype).reshape(*x.shape[:-1], y.shape[1])

    @property
    def _is_last_alone(self) -> bool:
        """Tell whether the last launch gives every weight's whole product, in order."""
        return all(len(at) == 1 and at[0][0] == len(self.launches) - 1 for at in self.places)

    def _run(self, x: Float[Tensor, "tokens in"], *, rounded: bool) -> list[Float[Tensor, "tokens _out"]]:
        """Return what each launch gives."""
        few, dtype, parts = 0 < len(x) <= MOST_TOKENS and x.dtype in PARTS, x.dtype, PARTS.get(x.dtype, 0)
        hidden = torch.float32 if few and dtype == torch.float16 else dtype
        found = [x]
        for number, launch in enumerate(self.launches):
            wanted = dtype if number == len(self.launches) - 1 else hidden
            if not few:
                found.append(multiply_by_torch(launch, found[-1], dtype=wanted))
            elif rounded:
                found.append(multiply_rounded(launch, found[-1], dtype=wanted))
            else:
                found.append(multiply(launch, found[-1], dtype=wanted, parts=parts))
        return found[1:]


@dataclass(frozen=True)
class DeviceProgram(Program):
    """Products on a CUDA device, of 8-bit inputs if `rounded`; `tensors` and `plan` are the same for the operator."""

    whole: DeviceProducts
    tensors: tuple[Tensor, ...]
    plan: tuple[int, ...]
    rounded: bool

    def products(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Run the launches; under `torch.compile` they are one operator."""
        if not torch.compiler.is_compiling() and type(x) is Tensor:
            return self.whole(x, rounded=self.rounded)
        y: Tensor = torch.ops.liptt.sign_products_by_triton(
            x, list(self.tensors), list(self.plan), sum(self.out_features), self.rounded
        )
        return y


def write_program(
    weights: Sequence[Lowered], out_features: tuple[int, ...], columns: tuple[tuple[int, Zones], ...]
) -> DeviceProgram:
    """Return the program of weights that share one input, on the device of their codes."""
    products = write_products(weights, out_features)
    tensors, plan = flatten(products)
    rounded = chosen("cuda").name == TRITON_FAST
    return DeviceProgram(out_features, columns, products, tuple(tensors), tuple(plan), rounded)


def write_products(weights: Sequence[Lowered], out_features: Sequence[int]) -> DeviceProducts:
    """Return the launches of weights that share one input, on the device of their codes."""
    first: list[list[Read]] = []
    second: list[list[Read]] = []
    places, columns, late_columns = [], 0, 0
    for weight, rows in zip(weights, out_features, strict=True):
        found: list[Place] = []
        late: list[Read] = []
        if weight.direct:
            first.append([(0, term) for term in weight.direct])
            found.append((0, columns, rows))
            columns += rows
        for before, after in weight.pairs:
            first.append([(0, term) for term in before])
            late += [(columns, term) for term in after]
            columns += before[0].codes.shape[0]
        if late:
            second.append(late)
            found.insert(0, (1, late_columns, rows))
            late_columns += rows
        places.append(tuple(found))
    return DeviceProducts(tuple(lay_out(outputs) for outputs in (first, second) if outputs), tuple(places))


def flatten(products: DeviceProducts) -> tuple[list[Tensor], list[int]]:
    """Return the products as an operator's arguments: tensors and numbers."""
    tensors: list[Tensor] = []
    plan = [len(products.launches)]
    for launch in products.launches:
        optional = [launch.scales, launch.cols, launch.inputs]
        tensors += [launch.codes, launch.table, launch.first_blocks, *(part for part in optional if part is not None)]
        plan += [int(part is not None) for part in optional]
        plan += [int(launch.by_plane), launch.plane_columns, len(launch.jobs)]
        plan += [number for job in launch.jobs for number in astuple(job)]
    for places in products.places:
        plan += [len(places), *(number for place in places for number in place)]
    return tensors, plan


def unflatten(tensors: Sequence[Tensor], plan: Sequence[int]) -> DeviceProducts:
    """Return the products that `flatten` took apart."""
    left, numbers = iter(tensors), iter(plan)
    launches = tuple(_read_launch(left, numbers) for _ in range(next(numbers)))
    places = []
    for count in numbers:
        places.append(tuple((next(numbers), next(numbers), next(numbers)) for _ in range(count)))
    return DeviceProducts(launches, tuple(places))


def _read_launch(left: Iterator[Tensor], numbers: Iterator[int]) -> Launch:
    codes, table, first_blocks = next(left), next(left), next(left)
    scales, cols, inputs = [next(left) if next(numbers) else None for _ in range(3)]
    by_plane, plane_columns, count = bool(next(numbers)), next(numbers), next(numbers)
    jobs = tuple(Job(*(next(numbers) for _ in fields(Job))) for _ in range(count))
    return Launch(codes, table, scales, by_plane, cols, inputs, first_blocks, plane_columns, jobs)


def _by_operator(x: Tensor, tensors: list[Tensor], plan: list[int], out_features: int, rounded: bool) -> Tensor:
    return unflatten(tensors, plan)(x, rounded=rounded)


def _fake(x: Tensor, tensors: list[Tensor], plan: list[int], out_features: int, rounded: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


def _sum(found: Sequence[Tensor], places: Sequence[Place]) -> Float[Tensor, "tokens rows"]:
    parts = [found[launch][:, start : start + rows] for launch, start, rows in places]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Launch on the device of the tensors: Triton asks for the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


_LIBRARY = torch.library.Library("liptt", "FRAGMENT")  # the registration lives as long as this object
_LIBRARY.define(
    "sign_products_by_triton(Tensor x, Tensor[] tensors, int[] plan, int out_features, bool rounded) -> Tensor"
)
for _device in ("CUDA", "CPU"):  # on the CPU: in Triton's interpreter
    _LIBRARY.impl("sign_products_by_triton", _by_operator, _device)
torch.library.register_fake("liptt::sign_products_by_triton", _fake)
