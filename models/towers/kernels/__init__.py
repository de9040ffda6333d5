"""Kernels for GPUs, in Triton. Who imports them needs Triton; what they compute, their callers say."""
