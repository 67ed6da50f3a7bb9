"""Lets the package `spaces` believe in a GPU where there is none: Python imports this first, if its folder is on PYTHONPATH.

`spaces` reads which CUDA torch was built for, and at the start of each worker starts CUDA. The rest of it is real.
"""

import sys

if {"phi3_ui.host.worker", "phi3_ui.host.zero_gpu_report"} & set(sys.orig_argv):  # others may be short of time for it
    import torch

    torch.version.cuda = torch.version.cuda or "12.8"
    if not hasattr(torch._C, "_cuda_init"):
        torch._C._cuda_init = torch.cuda.init  # never called
    torch.cuda._is_in_bad_fork = bool  # a function that can be sent to a process, and returns False
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]  # there is no GPU to move it to
    torch.cuda.synchronize = lambda *_: None
