"""The engines of the ONNX wrapper; logged in the artifact's folder `code` beside phi3_onnx.py.

Modules here import one another relatively and nothing else from the project: in an artifact, this package has another name.
"""

from .engine import Engine, EngineName
from .events import CacheStats, PrefillProgress, QueuePosition, Token
from .folder import OnnxFolder, memory_budget, usable_cpus
from .sampler import Sampler
from .scheduler import Request, Scheduler
from .selection import CHOICES, Batching, Choice, open_engine
from .text_stream import StopStrings, TextStream

__all__ = [
    "CHOICES",
    "Batching",
    "CacheStats",
    "Choice",
    "Engine",
    "EngineName",
    "OnnxFolder",
    "PrefillProgress",
    "QueuePosition",
    "Request",
    "Sampler",
    "Scheduler",
    "StopStrings",
    "TextStream",
    "Token",
    "memory_budget",
    "open_engine",
    "usable_cpus",
]
