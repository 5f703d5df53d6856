"""Where there is no GPU, Triton is told to interpret its kernels; to be imported before whatever imports Triton.

Transformers does, through torch, where Triton is installed.
"""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
