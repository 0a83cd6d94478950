"""Passes that bring attention and the layers around it into the forms that runtimes turn into one kernel.

The first three leave every runtime less to do; the last three suit one runtime each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


class OneTranspose(ir.passes.InPlacePass):
    """Swap the last two dimensions without flattening the others, and only once.

    Transpose(0, 2, 1, 3) -> Reshape[-1, S, D] -> Transpose(0, 2, 1) -> Reshape[-1, H, D, S]
    becomes   Transpose(0, 2, 3, 1)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such chain, then every two transpositions in a row."""
        flattened = [node for node in model.graph if _swaps_flattened(node)]
        for node in flattened:
            _swap_in_place(node)
        pairs = [node for node in model.graph if _follows_transpose(node)]
        for node in pairs:
            _merge_transposes(node)
        return ir.passes.PassResult(model, modified=bool(flattened or pairs))


class ScaleBehindProduct(ir.passes.InPlacePass):
    """Scale what a product of activations gives instead of what it reads, so that integers can reach it.

    MatMul(Mul(q, c), Mul(k, d))   becomes   Mul(MatMul(q, k), c d)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every product that reads a scaled value nobody else reads."""
        products = [node for node in model.graph if _is_product(node) and any(map(_scaled, node.inputs))]
        for node in products:
            _scale_behind(node)
        return ir.passes.PassResult(model, modified=bool(products))


class NoGuardAgainstNothing(ir.passes.InPlacePass):
    """Drop the guard against a softmax of nothing but minus infinity where the mask holds finite numbers only.

    Softmax(x + mask) -> Where(IsNaN, 0, _)   becomes   Softmax(x + mask)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Drop every such guard."""
        guards = [node for node in model.graph if _is_guard(node)]
        for node in guards:
            softmax = node.inputs[2]
            assert softmax is not None
            ir.convenience.replace_all_uses_with(node.outputs[0], softmax)
        return ir.passes.PassResult(model, modified=bool(guards))


class LookupInTurn(ir.passes.InPlacePass):
    """Turn the numbers of rows that are looked up instead of the rows.

    Gather(table, ids) -> Transpose(1, 0, 2)   becomes   Transpose(ids) -> Gather(table, _)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every lookup that is only read turned."""
        turned = [node for node in model.graph if _turns_a_lookup(node)]
        for node in turned:
            _look_up_turned(node)
        return ir.passes.PassResult(model, modified=bool(turned))


class SumBeforeNormalization(ir.passes.InPlacePass):
    """Keep ONNX Runtime from its fused kernel for a sum and its normalization, which is 4 times slower than the two.

    LayerNormalization(Add(a, b))   becomes   LayerNormalization(Sum(a, b))
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rename every such Add: both operators mean the same."""
        sums = [node for node in model.graph if node.op_type == "Add" and _is_normalized(node.outputs[0])]
        for node in sums:
            node.op_type = "Sum"
        return ir.passes.PassResult(model, modified=bool(sums))


class LayerOnLastDimension(ir.passes.InPlacePass):
    """Undo the flattening that makes a Gemm of a layer on more than two dimensions.

    Reshape[-1, K] -> Gemm(w, b) -> Reshape[-1, S, N]   becomes   MatMul(w) -> Add(b)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such Gemm whose result is only ever reshaped."""
        found = [node for node in model.graph if _is_flattened(node)]
        for node in found:
            _unflatten(node)
        return ir.passes.PassResult(model, modified=bool(found))


def _is_flattened(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type != "Gemm" or node.outputs[0].is_graph_output():
        return False
    if any(node.attributes.get_int(name, 0) for name in ("transA", "transB")):
        return False
    if any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return False
    flatten = _reshape_before(node)
    readers = node.outputs[0].consumers()
    if flatten is None or not all(reader.op_type == "Reshape" and _wanted(reader) for reader in readers):
        return False
    if _stacked(flatten, node):
        return True
    unflattened = _wanted(readers[0]) if len(readers) == 1 else []
    return len(unflattened) > 2 and unflattened[-1] == _weight_shape(node)[1]


def _reshape_before(gemm: ir.Node) -> ir.Node | None:
    """The Reshape to two dimensions that feeds a Gemm with a constant weight."""
    flatten = None if gemm.inputs[0] is None else gemm.inputs[0].producer()
    if flatten is None or flatten.op_type != "Reshape" or len(_weight_shape(gemm)) != 2:
        return None
    return flatten if _wanted(flatten) == [-1, _weight_shape(gemm)[0]] else None


def _stacked(flatten: ir.Node, gemm: ir.Node) -> bool:
    """Whether what was flattened had the layer's inputs in its last dimension."""
    source = flatten.inputs[0]
    shape = None if source is None else source.shape
    return shape is not None and len(shape) > 2 and shape[-1] == _weight_shape(gemm)[0]


def _weight_shape(gemm: ir.Node) -> tuple[int, ...]:
    weight = gemm.inputs[1]
    return () if weight is None or weight.const_value is None else tuple(weight.const_value.shape.numpy())


def _wanted(reshape: ir.Node) -> list[int]:
    """The constant shape it gives; empty where it is computed or copies a size from the input's."""
    shape = reshape.inputs[1]
    if shape is None or shape.const_value is None:
        return []
    sizes: list[int] = shape.const_value.numpy().tolist()
    return [] if 0 in sizes else sizes


def _unflatten(gemm: ir.Node) -> None:
    graph, flatten, old = gemm.graph, _reshape_before(gemm), gemm.outputs[0]
    assert graph is not None
    assert flatten is not None
    inputs, outputs = _weight_shape(gemm)
    readers = old.consumers()
    nodes: list[ir.Node] = []
    if _stacked(flatten, gemm):
        source = flatten.inputs[0]
    else:  # what was flattened had other dimensions: take those of what comes out
        nodes.append(_reshaped(graph, flatten.inputs[0], [*_wanted(readers[0])[:-1], inputs], f"{gemm.name}/input"))
        source = nodes[-1].outputs[0]
    assert source is not None
    assert source.shape is not None
    shape = ir.Shape([*list(source.shape)[:-1], outputs])
    nodes.append(ir.node("MatMul", [source, gemm.inputs[1]], name=gemm.name))
    if len(gemm.inputs) > 2:
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], gemm.inputs[2]], name=f"{gemm.name}/bias"))
        nodes[-2].outputs[0].name = f"{old.name}/product"
    for node in nodes[-2:] if len(gemm.inputs) > 2 else nodes[-1:]:
        node.outputs[0].type, node.outputs[0].shape = old.type, shape
    result = nodes[-1].outputs[0]
    result.name = old.name
    graph.insert_before(gemm, nodes)
    for reader in readers:
        if _wanted(reader) == _sizes(shape) and not reader.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(reader.outputs[0], result)
            graph.remove(reader, safe=True)
        else:
            reader.replace_input_with(0, result)
    graph.remove(gemm, safe=True)
    if not flatten.outputs[0].uses():
        graph.remove(flatten, safe=True)


def _reshaped(graph: ir.Graph, value: ir.Value | None, shape: Sequence[int], name: str) -> ir.Node:
    wanted = ir.val(f"{name}/shape", const_value=ir.tensor(np.array(shape, np.int64), name=f"{name}/shape"))
    graph.register_initializer(wanted)
    known = ir.Shape([size if size > 0 else None for size in shape])
    dtype = None if value is None else value.dtype
    return ir.node("Reshape", [value, wanted], name=name, outputs=[ir.val(f"{name}/reshaped", dtype, known)])


def _sizes(shape: ir.Shape) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape]


def _swaps_flattened(node: ir.Node) -> bool:
    """Whether it swaps the last two of three dimensions, of which the first was several before and is again behind."""
    if node.op_type != "Transpose" or node.attributes.get_ints("perm", ()) not in ((0, 2, 1), [0, 2, 1]):
        return False
    before, after = _producer(node.inputs[0]), _only_reader(node.outputs[0])
    if before is None or after is None or before.op_type != "Reshape" or after.op_type != "Reshape":
        return False
    source = before.inputs[0]
    if source is None or source.shape is None or _only_reader(before.outputs[0]) is None:
        return False
    *batch, rows, columns = _sizes(source.shape)
    return _wanted(before) == [-1, rows, columns] and _wanted(after) == [*batch, columns, rows]


def _swap_in_place(node: ir.Node) -> None:
    before, after = _producer(node.inputs[0]), _only_reader(node.outputs[0])
    assert before is not None
    assert before.inputs[0] is not None
    assert before.inputs[0].shape is not None
    assert after is not None
    rank = len(before.inputs[0].shape)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    swapped = ir.node("Transpose", [before.inputs[0]], {"perm": perm}, name=node.name)
    _put_in_place(after, swapped)
    _remove_dead(node, before)


def _follows_transpose(node: ir.Node) -> bool:
    first = _producer(node.inputs[0]) if node.op_type == "Transpose" else None
    return first is not None and first.op_type == "Transpose" and _only_reader(first.outputs[0]) is node


def _merge_transposes(node: ir.Node) -> None:
    first = _producer(node.inputs[0])
    assert first is not None
    inner, outer = first.attributes.get_ints("perm"), node.attributes.get_ints("perm")
    merged = ir.node("Transpose", [first.inputs[0]], {"perm": [inner[axis] for axis in outer]}, name=node.name)
    _put_in_place(node, merged)
    _remove_dead(first)


def _is_product(node: ir.Node) -> bool:
    return node.op_type == "MatMul" and all(value is not None and value.const_value is None for value in node.inputs)


def _scaled(value: ir.Value | None) -> bool:
    """Whether it was multiplied by one constant number, for this reader alone."""
    product = _producer(value)
    return (
        product is not None
        and product.op_type == "Mul"
        and _scale(product) is not None
        and (value is not None and len(value.uses()) == 1 and not value.is_graph_output())
    )


def _scale(product: ir.Node) -> ir.Value | None:
    """The operand that is a constant number."""
    return next(
        (v for v in product.inputs if v is not None and v.const_value is not None and v.const_value.size == 1), None
    )


def _scale_behind(node: ir.Node) -> None:
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    factor, inputs, scalings = np.float32(1), list(node.inputs), []
    for index, value in enumerate(node.inputs):
        if _scaled(value):
            scaling = _producer(value)
            assert scaling is not None
            scale = _scale(scaling)
            assert scale is not None
            assert scale.const_value is not None
            factor = np.float32(factor * scale.const_value.numpy().reshape(()))
            inputs[index] = next(operand for operand in scaling.inputs if operand is not scale)
            scalings.append(scaling)
    product = ir.node("MatMul", inputs, name=node.name)
    product.outputs[0].name = f"{old.name}/unscaled"
    product.outputs[0].type, product.outputs[0].shape = old.type, old.shape
    constant = ir.val(f"{node.name}/scale", const_value=ir.tensor(factor, name=f"{node.name}/scale"))
    graph.register_initializer(constant)
    graph.insert_before(node, product)
    _put_in_place(node, ir.node("Mul", [product.outputs[0], constant], name=f"{node.name}/scaling"))
    _remove_dead(*scalings)


def _is_guard(node: ir.Node) -> bool:
    """Whether it gives a softmax of finite numbers, or zero where that were not a number."""
    if node.op_type != "Where" or node.inputs[2] is None or node.outputs[0].is_graph_output():
        return False
    test, softmax = _producer(node.inputs[0]), _producer(node.inputs[2])
    if test is None or test.op_type != "IsNaN" or test.inputs[0] is not node.inputs[2]:
        return False
    if softmax is None or softmax.op_type != "Softmax":
        return False
    masked = _producer(softmax.inputs[0])
    return masked is not None and masked.op_type == "Add" and any(_is_finite_mask(value) for value in masked.inputs)


def _is_finite_mask(value: ir.Value | None) -> bool:
    choice = _producer(value)
    chosen = choice.inputs[1:] if choice is not None and choice.op_type == "Where" else [value]
    return all(
        v is not None and v.const_value is not None and bool(np.isfinite(v.const_value.numpy()).all()) for v in chosen
    )


def _is_normalized(value: ir.Value) -> bool:
    return any(use.node.op_type == "LayerNormalization" and use.idx == 0 for use in value.uses())


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = value.uses()
    return next(iter(uses)).node if len(uses) == 1 and not value.is_graph_output() else None


def _put_in_place(old: ir.Node, new: ir.Node) -> None:
    """A node with one output for another; the output keeps its name."""
    assert old.graph is not None
    ir.convenience.replace_nodes_and_values(old.graph, old, [old], [new], [old.outputs[0]], [new.outputs[0]])


def _remove_dead(*nodes: ir.Node) -> None:
    """Remove those of a chain, given from its end, that nobody reads any more."""
    for node in nodes:
        if node.graph is not None and not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            node.graph.remove(node, safe=True)


def _turns_a_lookup(node: ir.Node) -> bool:
    rows = node.inputs[0] if node.op_type == "Transpose" else None
    lookup = None if rows is None or len(rows.uses()) > 1 or rows.is_graph_output() else rows.producer()
    if lookup is None or lookup.op_type != "Gather" or node.outputs[0].is_graph_output():
        return False
    ids = lookup.inputs[1]
    of_two = ids is not None and ids.shape is not None and len(ids.shape) == 2
    by_row = lookup.attributes.get_int("axis", 0) == 0
    return of_two and by_row and list(node.attributes.get_ints("perm", ())) == [1, 0, 2]


def _look_up_turned(transpose: ir.Node) -> None:
    rows = transpose.inputs[0]
    assert rows is not None
    lookup, graph = rows.producer(), transpose.graph
    assert lookup is not None
    assert graph is not None
    ids, found = lookup.inputs[1], transpose.outputs[0]
    assert ids is not None
    assert ids.shape is not None
    turned = ir.val(f"{found.name}/ids", ids.dtype, ir.Shape([ids.shape[1], ids.shape[0]]))
    graph.insert_before(
        lookup, ir.node("Transpose", [ids], {"perm": [1, 0]}, outputs=[turned], name=f"{found.name}/ids")
    )
    lookup.replace_input_with(1, turned)
    rows.shape = found.shape
    ir.convenience.replace_all_uses_with(found, rows)
    graph.remove(transpose, safe=True)
