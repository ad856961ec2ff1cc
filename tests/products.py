"""What an accelerator makes of a program's products, found out on a CPU.

Accelerators round the operands of float32 products whose precision is not stated, see
`ace_jax.precision`. `refuse_unstated` finds such products while tests run, `products` lists those
of one function, `rounded` runs a function with the operands rounded.
"""

import sys
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ace_jax import precision

PRODUCTS = (lax.dot_general_p, lax.conv_general_dilated_p)
# Other packages and the standard library; and the decorators, which are around everything.
ELSEWHERE = (
    *(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")),
    precision.__file__,
)
CALLS = ("jit", "pjit", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call")
# Bits of mantissa that operands of DEFAULT precision keep, without the leading 1.
MANTISSA = {"tf32": 10, "bf16": 7}


def refuse_unstated() -> None:
    """From now on a float32 product of the library that states no precision is an error."""
    for primitive in PRODUCTS:
        primitive.bind = _checked(primitive.bind)


def _checked(bind: Callable) -> Callable:
    def checked(*operands: Any, **params: Any) -> Any:
        if params["precision"] is None and operands[0].dtype == "float32" and (place := _place()):
            raise AssertionError(
                f"{place}: a product without a precision, see ace_jax/precision.py"
            )
        return bind(*operands, **params)

    return checked


def _place() -> str | None:
    """Where in the library we are: in it, or in a package or the standard library called by it."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(ELSEWHERE):
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__", "").partition(".")[0] != "ace_jax":
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def products(function: Callable, *args: Any) -> list[tuple[str, Any]]:
    """The float32 products in `function(*args)`, as text, and their precisions."""
    return [
        (
            f"{equation.primitive.name} {' x '.join(str(v.aval.shape) for v in equation.invars)}",
            equation.params["precision"],
        )
        for equation in _equations(jax.make_jaxpr(function)(*args).jaxpr)
        if _is_float32_product(equation)
    ]


def rounded(function: Callable, kind: str) -> Callable:
    """`function` as a device computes it that rounds operands to "tf32" or "bf16", jitted.

    HIGHEST keeps float32; HIGH means three passes of bfloat16 or one of TensorFloat-32, of which
    the coarser is taken; sums are float32.
    """

    def evaluated(*args: Any) -> Any:
        jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        flat = _evaluate(jaxpr.jaxpr, jaxpr.consts, jax.tree.leaves(args), MANTISSA[kind])
        return jax.tree.unflatten(jax.tree.structure(shape), flat)

    return jax.jit(evaluated)


def _is_float32_product(equation: Any) -> bool:
    return equation.primitive in PRODUCTS and equation.invars[0].aval.dtype == "float32"


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(tuple(equation.params.values())):
            yield from _equations(inner)


def _inner(value: Any) -> Iterator[Jaxpr]:
    """Programs within an equation's parameters."""
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _inner(item)


def _evaluate(jaxpr: Jaxpr, consts: list, args: list, mantissa: int) -> list:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(atom) for atom in equation.invars], mantissa)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, args: list, mantissa: int) -> list:
    params, name = equation.params, equation.primitive.name

    def run(program: ClosedJaxpr | Jaxpr, values: Any) -> list:
        closed = isinstance(program, ClosedJaxpr)
        jaxpr, consts = (program.jaxpr, program.consts) if closed else (program, [])
        return _evaluate(jaxpr, consts, list(values), mantissa)

    if _is_float32_product(equation):
        bits = _kept_bits(params["precision"], mantissa)
        args = [lax.reduce_precision(x, 8, bits) for x in args]
    elif name == "scan":
        return _scan(params, args, run)
    elif name == "while":
        return _while(params, args, run)
    elif name == "cond":
        branches = [lambda *values, b=branch: run(b, values) for branch in params["branches"]]
        return lax.switch(args[0], branches, *args[1:])
    elif name in CALLS:
        return run(params["call_jaxpr" if name.startswith("custom") else "jaxpr"], args)
    results = equation.primitive.bind(*args, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _kept_bits(precision: Any, mantissa: int) -> int:
    if precision == (lax.Precision.HIGHEST, lax.Precision.HIGHEST):
        return 23
    return 10 if precision == (lax.Precision.HIGH, lax.Precision.HIGH) else mantissa


def _scan(params: dict, args: list, run: Callable) -> list:
    consts, carry = params["num_consts"], params["num_carry"]
    fixed, start, xs = args[:consts], args[consts : consts + carry], args[consts + carry :]

    def step(state: list, x: list) -> tuple[list, list]:
        out = run(params["jaxpr"], [*fixed, *state, *x])
        return out[:carry], out[carry:]

    state, ys = lax.scan(step, start, xs, length=params["length"], reverse=params["reverse"])
    return [*state, *ys]


def _while(params: dict, args: list, run: Callable) -> list:
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body = args[:of_cond], args[of_cond : of_cond + of_body]
    return lax.while_loop(
        lambda state: run(params["cond_jaxpr"], [*cond, *state])[0],
        lambda state: run(params["body_jaxpr"], [*body, *state]),
        args[of_cond + of_body :],
    )
