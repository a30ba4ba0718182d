import enum

DEVICE: str

class DType(enum.Enum):
    float32 = ...
    bfloat16 = ...
    float16 = ...

class Place:
    def __init__(self, device: int, stream: int) -> None: ...
    @property
    def device(self) -> int: ...

class Table:
    def __init__(
        self,
        *,
        groups: int,
        columns: int,
        tile: int,
        share: int,
        quads: int,
        most: int,
        first: int,
        offset: int,
        order: int,
        group: int,
        cells: int,
        output_block: int,
        output_step: int,
        column_block: int,
        column_step: int,
    ) -> None: ...

class FewTable:
    def __init__(
        self,
        *,
        rows: int,
        slots: int,
        output_block: int,
        column_block: int,
        side: int,
        columns: int,
        pitch: int,
        depth: int,
        runs: int,
        offset: int,
        count: int,
    ) -> None: ...

def properties(device: int, /) -> tuple[int, int, int]: ...
def padded_batch(batch: int, /) -> int: ...
def multiply_tile(shared_bytes: int, /) -> int: ...
def grad_weight_tile(dtype: DType, shared_bytes: int, /) -> int: ...
def grad_weight_blocks(table: Table, /) -> int: ...
def few_samples(table: FewTable, shared_bytes: int, /) -> int: ...
def transpose(
    where: Place,
    dtype: DType,
    x: int,
    batch_stride: int,
    feature_stride: int,
    batch: int,
    features: int,
    out: int,
    /,
) -> None: ...
def pack(where: Place, dtype: DType, table: Table, weight: int, packed: int, /) -> None: ...
def multiply(
    where: Place,
    dtype: DType,
    table: Table,
    x: int,
    packed: int,
    bias: int,
    relu: bool,
    y: int,
    batch: int,
    /,
) -> None: ...
def grad_weight(
    where: Place,
    dtype: DType,
    table: Table,
    x: int,
    grad_y: int,
    partial: int,
    splits: int,
    grad: int,
    batch: int,
    /,
) -> None: ...
def few(
    where: Place,
    dtype: DType,
    table: FewTable,
    x: int,
    batch_stride: int,
    feature_stride: int,
    weight: int,
    bias: int,
    relu: bool,
    y: int,
    batch: int,
    samples: int,
    multiprocessors: int,
    /,
) -> None: ...
