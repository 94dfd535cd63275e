"""The names of TensorRT that every version from 10.3 to 11.4, and RTX, has.

Written by bench/write_tensorrt_api.py from the names recorded in export/tensorrt_names;
do not edit. `TensorRT` is the module itself: it is passed in, so that one code path
serves `tensorrt` and `tensorrt_rtx`, and a test can pass a stand-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer


class Enumerator(Protocol):
    """One value of an enumeration."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def __int__(self) -> int:
        """Return its number."""
        ...


class BuilderFlagValues(Protocol):
    """The values of `BuilderFlag`."""

    DEBUG: Enumerator
    DIRECT_IO: Enumerator
    DISABLE_COMPILATION_CACHE: Enumerator
    DISABLE_TIMING_CACHE: Enumerator
    ERROR_ON_TIMING_CACHE_MISS: Enumerator
    EXCLUDE_LEAN_RUNTIME: Enumerator
    GPU_FALLBACK: Enumerator
    REFIT: Enumerator
    REFIT_IDENTICAL: Enumerator
    REFIT_INDIVIDUAL: Enumerator
    SAFETY_SCOPE: Enumerator
    SPARSE_WEIGHTS: Enumerator
    STRIP_PLAN: Enumerator
    TF32: Enumerator
    VERSION_COMPATIBLE: Enumerator
    WEIGHT_STREAMING: Enumerator


class DataTypeValues(Protocol):
    """The values of `DataType`."""

    BF16: Enumerator
    BOOL: Enumerator
    FLOAT: Enumerator
    FP8: Enumerator
    HALF: Enumerator
    INT32: Enumerator
    INT4: Enumerator
    INT64: Enumerator
    INT8: Enumerator
    UINT8: Enumerator


class LayerInformationFormatValues(Protocol):
    """The values of `LayerInformationFormat`."""

    JSON: Enumerator
    ONELINE: Enumerator


class LayerTypeValues(Protocol):
    """The values of `LayerType`."""

    ACTIVATION: Enumerator
    ASSERTION: Enumerator
    CAST: Enumerator
    CONCATENATION: Enumerator
    CONDITION: Enumerator
    CONDITIONAL_INPUT: Enumerator
    CONDITIONAL_OUTPUT: Enumerator
    CONSTANT: Enumerator
    CONVOLUTION: Enumerator
    DECONVOLUTION: Enumerator
    DEQUANTIZE: Enumerator
    EINSUM: Enumerator
    ELEMENTWISE: Enumerator
    FILL: Enumerator
    GATHER: Enumerator
    GRID_SAMPLE: Enumerator
    IDENTITY: Enumerator
    ITERATOR: Enumerator
    LOOP_OUTPUT: Enumerator
    LRN: Enumerator
    MATRIX_MULTIPLY: Enumerator
    NMS: Enumerator
    NON_ZERO: Enumerator
    NORMALIZATION: Enumerator
    ONE_HOT: Enumerator
    PADDING: Enumerator
    PARAMETRIC_RELU: Enumerator
    PLUGIN: Enumerator
    PLUGIN_V2: Enumerator
    PLUGIN_V3: Enumerator
    POOLING: Enumerator
    QUANTIZE: Enumerator
    RAGGED_SOFTMAX: Enumerator
    RECURRENCE: Enumerator
    REDUCE: Enumerator
    RESIZE: Enumerator
    REVERSE_SEQUENCE: Enumerator
    SCALE: Enumerator
    SCATTER: Enumerator
    SELECT: Enumerator
    SHAPE: Enumerator
    SHUFFLE: Enumerator
    SLICE: Enumerator
    SOFTMAX: Enumerator
    TOPK: Enumerator
    TRIP_LIMIT: Enumerator
    UNARY: Enumerator


class MemoryPoolTypeValues(Protocol):
    """The values of `MemoryPoolType`."""

    DLA_GLOBAL_DRAM: Enumerator
    DLA_LOCAL_DRAM: Enumerator
    DLA_MANAGED_SRAM: Enumerator
    TACTIC_DRAM: Enumerator
    TACTIC_SHARED_MEMORY: Enumerator
    WORKSPACE: Enumerator


class NetworkDefinitionCreationFlagValues(Protocol):
    """The values of `NetworkDefinitionCreationFlag`."""

    STRONGLY_TYPED: Enumerator


class ProfilingVerbosityValues(Protocol):
    """The values of `ProfilingVerbosity`."""

    DETAILED: Enumerator
    LAYER_NAMES_ONLY: Enumerator
    NONE: Enumerator


class TensorIOModeValues(Protocol):
    """The values of `TensorIOMode`."""

    INPUT: Enumerator
    NONE: Enumerator
    OUTPUT: Enumerator


class IHostMemory(Protocol):
    """`IHostMemory` of TensorRT."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def nbytes(self) -> int: ...


class ITensor(Protocol):
    """`ITensor` of TensorRT."""

    dtype: Enumerator
    name: str
    shape: Sequence[int]


class ILayer(Protocol):
    """`ILayer` of TensorRT."""

    name: str

    @property
    def type(self) -> Enumerator: ...
    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    def get_input(self, index: int) -> ITensor: ...
    def get_output(self, index: int) -> ITensor: ...


class INetworkDefinition(Protocol):
    """`INetworkDefinition` of TensorRT."""

    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    def get_input(self, index: int) -> ITensor: ...
    def get_output(self, index: int) -> ITensor: ...
    def get_layer(self, index: int) -> ILayer: ...


class IOptimizationProfile(Protocol):
    """`IOptimizationProfile` of TensorRT."""

    def set_shape(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None: ...


class ITimingCache(Protocol):
    """`ITimingCache` of TensorRT."""

    def serialize(self) -> IHostMemory | None: ...


class IBuilderConfig(Protocol):
    """`IBuilderConfig` of TensorRT."""

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...

    builder_optimization_level: int

    def create_timing_cache(
        self, serialized_timing_cache: Buffer
    ) -> ITimingCache | None: ...
    def get_timing_cache(self) -> ITimingCache | None: ...

    profiling_verbosity: Enumerator
    progress_monitor: Any

    def set_memory_pool_limit(self, pool: Enumerator, pool_size: int) -> None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...


class Builder(Protocol):
    """`Builder` of TensorRT."""

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_network(self, flags: int = ...) -> INetworkDefinition: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...


class ParserError(Protocol):
    """`ParserError` of TensorRT."""

    def desc(self) -> str: ...
    def node(self) -> int: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """`OnnxParser` of TensorRT."""

    def get_error(self, index: int) -> ParserError: ...
    @property
    def num_errors(self) -> int: ...
    def parse(self, model: Buffer, path: str = ...) -> bool: ...


class EngineInspector(Protocol):
    """`EngineInspector` of TensorRT."""

    def get_engine_information(self, format: Enumerator) -> str: ...


class IExecutionContext(Protocol):
    """`IExecutionContext` of TensorRT."""

    def execute_async_v3(self, stream_handle: int) -> bool: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def infer_shapes(self) -> list[str]: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...


class ICudaEngine(Protocol):
    """`ICudaEngine` of TensorRT."""

    def create_engine_inspector(self) -> EngineInspector: ...
    def create_execution_context(
        self, strategy: Any = ...
    ) -> IExecutionContext | None: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    def get_tensor_dtype(self, name: str) -> Enumerator: ...
    def get_tensor_mode(self, name: str) -> Enumerator: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_profile_shape(
        self, name: str, profile_index: int
    ) -> list[Sequence[int]]: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    @property
    def num_io_tensors(self) -> int: ...


class Runtime(Protocol):
    """`Runtime` of TensorRT."""

    def deserialize_cuda_engine(
        self, serialized_engine: Buffer
    ) -> ICudaEngine | None: ...


class TensorRT(Protocol):
    """The module: `tensorrt`, `tensorrt_rtx`, or a stand-in."""

    __version__: str
    ILogger: type[Any]
    IProgressMonitor: type[Any]
    BuilderFlag: BuilderFlagValues
    DataType: DataTypeValues
    LayerInformationFormat: LayerInformationFormatValues
    LayerType: LayerTypeValues
    MemoryPoolType: MemoryPoolTypeValues
    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlagValues
    ProfilingVerbosity: ProfilingVerbosityValues
    TensorIOMode: TensorIOModeValues

    def Builder(self, logger: object) -> Builder: ...
    def OnnxParser(self, network: INetworkDefinition, logger: object) -> OnnxParser: ...
    def Runtime(self, logger: object) -> Runtime: ...
