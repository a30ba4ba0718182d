import enum

import numpy as np
from numpy.typing import NDArray

class DType(enum.Enum):
    float32 = ...
    float64 = ...
    bfloat16 = ...

def instruction_sets() -> list[tuple[str, str | None]]: ...
def flush_denormals(flush: bool, threads: int, /) -> bool: ...
def scatter(
    sources: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    columns: int,
    row_block: int,
    column_block: int,
    item_bytes: int,
    weight: int,
    dense: int,
    threads: int,
    /,
) -> None: ...
def gather(
    sources: NDArray[np.int32],
    starts: NDArray[np.int64] | None,
    columns: int,
    row_block: int,
    column_block: int,
    item_bytes: int,
    dense: int,
    weight: int,
    threads: int,
    /,
) -> None: ...

class Plan:
    def __init__(
        self,
        sources: NDArray[np.int32],
        columns: int,
        row_block: int,
        column_block: int,
        starts: NDArray[np.int64] | None = None,
    ) -> None: ...
    def forward(
        self,
        isa: int,
        dtype: DType,
        x: int,
        x_batch: int,
        x_feature: int,
        weight: int,
        bias: int,
        relu: bool,
        y: int,
        n_out: int,
        batch: int,
        shape: int,
        threads: int,
        /,
    ) -> None: ...
    def grad_input(
        self,
        isa: int,
        dtype: DType,
        grad_y: int,
        grad_y_batch: int,
        grad_y_feature: int,
        weight: int,
        grad_x: int,
        n_in: int,
        batch: int,
        shape: int,
        threads: int,
        /,
    ) -> None: ...
    def grad_weight(
        self,
        isa: int,
        dtype: DType,
        grad_y: int,
        grad_y_batch: int,
        grad_y_feature: int,
        x: int,
        x_batch: int,
        x_feature: int,
        grad: int,
        batch: int,
        shape: int,
        threads: int,
        /,
    ) -> None: ...
    def backward(
        self,
        input_isa: int,
        input_shape: int,
        weight_isa: int,
        weight_shape: int,
        dtype: DType,
        grad_y: int,
        grad_y_batch: int,
        grad_y_feature: int,
        x: int,
        x_batch: int,
        x_feature: int,
        weight: int,
        grad_x: int,
        n_in: int,
        grad_weight: int,
        grad_bias: int,
        batch: int,
        threads: int,
        /,
    ) -> None: ...

def amx_unavailable() -> str | None: ...
def vbmi2_unavailable() -> str | None: ...

class Masks:
    def __init__(
        self,
        sources: NDArray[np.int32],
        columns: int,
        row_block: int,
        column_block: int,
        starts: NDArray[np.int64] | None = None,
    ) -> None: ...
    @staticmethod
    def serves(row_block: int, column_block: int, /) -> bool: ...
    def scatter(self, item_bytes: int, weight: int, dense: int, threads: int, /) -> None: ...
    def gather(self, item_bytes: int, dense: int, weight: int, threads: int, /) -> None: ...
    def forward(
        self,
        x: int,
        x_batch: int,
        x_feature: int,
        weight: int,
        bias: int,
        relu: bool,
        y: int,
        batch: int,
        threads: int,
        /,
    ) -> None: ...
    def grad_input(
        self,
        grad_y: int,
        grad_y_batch: int,
        grad_y_feature: int,
        weight: int,
        grad_x: int,
        batch: int,
        threads: int,
        /,
    ) -> None: ...
    def grad_weight(
        self,
        grad_y: int,
        grad_y_batch: int,
        grad_y_feature: int,
        x: int,
        x_batch: int,
        x_feature: int,
        grad: int,
        batch: int,
        threads: int,
        /,
    ) -> None: ...
