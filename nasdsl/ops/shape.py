"""Operations without arithmetic: `id`, `none`, `crop`; and what passes make: `drop_path` and `scale` of edges."""

from __future__ import annotations

from nasdsl.ops.base import Misfit, Parameter, Primitive, Sizes, Values, integer, need
from nasdsl.types import Dim, TensorType


def _same(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    return source


def _id_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "{x}"


ID = Primitive(
    name="id",
    summary="its input, unchanged",
    parameters=(),
    infer=_same,
    function=_id_function,
    identity=True,
)


def _none_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "torch.zeros_like({x})"


NONE = Primitive(
    name="none",
    summary="zeros of its input's shape: no connection",
    parameters=(),
    infer=_same,
    function=_none_function,
    zero=True,
)


def _infer_crop(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "crop")
    offset = integer(values, "n")
    for dim in source.dims[1:]:
        if sizes(dim) <= offset:
            raise Misfit(f"`crop({offset})` leaves nothing of an input of {sizes(dim)} pixels")
    return TensorType("image", (source.channels, *(d - offset for d in source.dims[1:])))


def _crop_function(source: TensorType, result: TensorType, values: Values) -> str:
    offset = integer(values, "n")
    return f"{{x}}[:, :, {offset}:, {offset}:]"


CROP = Primitive(
    name="crop",
    summary="without its first n rows and columns",
    parameters=(Parameter("n", "integer", required=True),),
    infer=_infer_crop,
    function=_crop_function,
)


def _scale_function(source: TensorType, result: TensorType, values: Values) -> str:
    return f"{{x}} * {values['by']!r}"


SCALE = Primitive(
    name="scale",
    summary="its input times a constant: what weights of edges are at an architecture",
    parameters=(Parameter("by", "number", required=True, minimum=0),),
    infer=_same,
    function=_scale_function,
    internal=True,
)


def _drop_path_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "drop_path({x}, self.drop_path_prob, self.training)"


DROP_PATH = Primitive(
    name="drop_path",
    summary="in training, zeroes whole examples with the probability set by the retraining loop",
    parameters=(),
    infer=_same,
    function=_drop_path_function,
    internal=True,
)


def _infer_flatten(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("image", source, "flatten")
    return TensorType("vector", (source.elements,))


def _flatten_module(source: TensorType, result: TensorType, values: Values) -> str:
    return "nn.Flatten(1)"


def _flatten_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "{x}.flatten(1)"


def _infer_as_image(source: TensorType, values: Values, sizes: Sizes) -> TensorType:
    need("vector", source, "as_image")
    one = Dim.of(1)
    return TensorType("image", (source.channels, one, one))


def _as_image_function(source: TensorType, result: TensorType, values: Values) -> str:
    return "{x}[:, :, None, None]"


AS_IMAGE = Primitive(
    name="as_image",
    summary="a vector as an image of one pixel, for convolutions behind `global_pool`",
    parameters=(),
    infer=_infer_as_image,
    function=_as_image_function,
)


FLATTEN = Primitive(
    name="flatten",
    summary="an image as one vector",
    parameters=(),
    infer=_infer_flatten,
    module=_flatten_module,
    function=_flatten_function,
)
