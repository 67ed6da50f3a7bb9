"""Make the package `spaces` find a GPU on a machine without one. Imported at startup if its folder is on PYTHONPATH.

`spaces` reads torch's CUDA version, and initialises CUDA at the start of each worker; only these are faked.
"""

import sys

if {"phi3_ui.host.worker", "phi3_ui.host.zero_gpu_report"} & set(
    sys.orig_argv
):  # importing torch would slow down other programs
    import torch

    torch.version.cuda = torch.version.cuda or "12.8"
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = torch.cuda.init  # never called
    torch.cuda._is_in_bad_fork = bool  # a picklable function that returns False
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]  # there is no GPU to move it to
    torch.cuda.synchronize = lambda *_: None
