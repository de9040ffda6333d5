"""What a profile says of a step's time."""

import pytest
import torch

from benchmarks.kernels import OTHER, Kernel, by_kind, facts, kind_of, profiled

# As an H100's profile names them, shortened.
NAMES = {
    "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x32": "convolutions forwards",
    "void implicit_convolveNd_sgemm<__nv_bfloat16, 3, 1024, 5, 5, 3, 3, 3>": "convolutions forwards",
    "sm80_xmma_dgrad_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc": "convolutions backwards",
    "sm80_xmma_wgrad_implicit_gemm_indexed_bf16bf16_bf16f32": "convolutions backwards",
    "void at::native::batch_norm_collect_statistics_channels_last_kernel<>": "batch norm",
    "void cudnn::bn_fw_tr_1C11_kernel_NCHW": "batch norm",
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n": "matrix products",
    "nvjet_hsh_128x128_64x5_1x2_h_bz_TNT": "matrix products",
    "void at::native::elementwise_kernel<128, 4, direct_copy_kernel_cuda>": "copies and casts",
    "Memcpy DtoD (Device -> Device)": "copies and casts",
    "void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add>": "elementwise",
    "void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>": "optimiser",
    "void at::native::reduce_kernel<512, 1>": "reductions",
    "triton_poi_fused_relu_0": "compiled",
    "void regular_fft<1024u>": "Fourier transforms",
    "something new": OTHER,
}


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_told_apart_by_their_names(name: str) -> None:
    assert kind_of(name) == NAMES[name]


def test_kinds_add_up_and_the_longest_come_first() -> None:
    kernels = [Kernel("wgrad", 1, 5.0), Kernel("dgrad", 2, 3.0), Kernel("relu_elementwise", 4, 9.0)]
    assert by_kind(kernels) == {"elementwise": 9.0, "convolutions backwards": 8.0}
    told = facts(kernels, most=1)
    assert told["longest, ms a step"] == [{"kernel": "wgrad", "calls": 1, "ms": 5.0}]


def test_a_profile_has_the_operators_of_a_step() -> None:
    x = torch.ones(64, 64)
    kernels = profiled(lambda: [x @ x for _ in range(6)], 2, torch.device("cpu"))
    [product] = [kernel for kernel in kernels if kernel.name == "aten::mm"]
    assert product.calls == 3
    assert product.ms > 0
