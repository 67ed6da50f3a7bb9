"""KV cache of a transformers model, in slots: keys and values of recent prompts, reused by prompts with the same prefix.

The counterpart of models/phi3_onnx_engine/slots.py for a model that serves one request at a time. It works on token ids and
transformers' caches, and depends on neither text nor MLflow.
"""

import inspect
import logging
from dataclasses import dataclass, field
from typing import Any

from phi3_ui.chat.types import CacheStats

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 128
"""Tokens: a prompt is prefilled in chunks, so that it can be cancelled between them."""


@dataclass(eq=False)
class CacheSlot:
    """The cached keys and values of one token sequence."""

    cache: Any
    """A transformers DynamicCache."""

    uses_long_rope: bool
    """Whether it was computed with the long scaling factors of LongRoPE (see PipelineKVCache)."""

    covers_all_tokens: bool
    """Whether it keeps tokens that have left the model's sliding window."""

    tokens: list[int] = field(default_factory=list)
    """The token ids whose keys and values are cached."""

    exact_prefix_len: int = 0
    """The number of tokens prefilled in full chunks from the start: recomputing them gives bit-identical values."""


class PipelineKVCache:
    """The slots of one model within a budget of bytes, evicted least recently used first; the most recent one always stays.

    LongRoPE models switch scaling factors past `_rope_switch` tokens, which invalidates keys and values cached before the
    switch. Not thread-safe: the caller serves one request at a time.
    """

    def __init__(self, model: Any, budget: int) -> None:
        """`model` is a transformers causal language model; `budget` is in bytes."""
        self._model = model
        self._budget = budget
        self._config = model.config.get_text_config(decoder=True)
        self._slots: list[CacheSlot] = []  # the most recently used last
        self._rope_switch = _rope_switch(self._config)
        self._window = _sliding_window(self._config)
        self._arguments: dict[str, Any] = {"use_cache": True}
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            self._arguments["logits_to_keep"] = 1
        self._token_bytes = self._measure_token_bytes()
        self._hits = self._misses = 0

    @property
    def is_usable(self) -> bool:
        """Whether this model's caches can be kept, and cropped where prompts diverge."""
        return self._token_bytes > 0

    def can_serve(self, prompt: list[int]) -> bool:
        """Return whether a slot can serve this prompt. A prompt one token past the switch cannot be served: see next_chunk_end."""
        return self.is_usable and (self._rope_switch is None or len(prompt) != self._rope_switch + 1)

    def acquire(self, prompt: list[int], max_tokens: int, exact: bool) -> CacheSlot:
        """Return the slot to prefill `prompt` in. It holds a prefix of it, at most all tokens but the last.

        The caller has exclusive use of the slot until it is released. `exact`: reuse only values that recomputing would give
        bit-identically.
        """
        uses_long_rope = self._rope_switch is not None and len(prompt) > self._rope_switch
        prefix_lens = {
            slot: self._reusable_prefix_len(slot, prompt, exact) if slot.uses_long_rope == uses_long_rope else 0
            for slot in self._slots
        }
        best = max(prefix_lens, key=lambda slot: prefix_lens[slot], default=None)
        # Cropping a slot costs its conversation the cropped tokens: do not if that is far more than the reuse gains.
        if best and 3 * prefix_lens[best] >= len(best.tokens) > 0:
            self._slots.remove(best)
            self._crop(best, prefix_lens[best])
        else:
            best = None
        self._hits, self._misses = self._hits + (best is not None), self._misses + (best is None)
        length = len(prompt) + max_tokens
        self._evict_for(length * self._token_bytes)
        return best or self._new_slot(uses_long_rope, length)

    def stats(self) -> CacheStats:
        """Return the size of the slots, and how often a prompt found a reusable prefix."""
        used = sum(_cache_bytes(slot.cache) for slot in self._slots)
        return CacheStats(self._budget, used, len(self._slots), self._hits, self._misses)

    def next_chunk_end(self, slot: CacheSlot, length: int, exact: bool) -> int | None:
        """Return the end of the next chunk to prefill of the prompt's `length` tokens; None: generate may prefill the rest."""
        start = len(slot.tokens)
        end = start + PREFILL_CHUNK - (start % PREFILL_CHUNK if exact else 0)
        if end < length:
            return end
        # Phi-3 discards a cache that does not extend past the switch.
        return length - 1 if slot.uses_long_rope and self._before_switch(start) else None

    def prefill(self, slot: CacheSlot, ids: Any, mask: Any, end: int) -> None:
        """Compute keys and values of the prompt `ids` (1, its length) up to `end`; `mask` has the same shape, or is None."""
        import torch

        start = len(slot.tokens)
        chunk, arguments = ids[:, start:end], dict(self._arguments)
        is_before_switch = slot.uses_long_rope and self._before_switch(end)
        if is_before_switch:
            # The model scales all positions by the highest one in the call: pass one token past the switch, then crop it.
            chunk = ids[:, start : end + 1]
            arguments["position_ids"] = torch.tensor([[*range(start, end), self._rope_switch]], device=ids.device)
        if mask is not None:
            arguments["attention_mask"] = mask[:, : start + chunk.shape[1]]
        with torch.no_grad():
            self._model(input_ids=chunk, past_key_values=slot.cache, **arguments)
        if is_before_switch:
            slot.cache.crop(-1)
        slot.tokens += ids[0, start:end].tolist()
        if start == slot.exact_prefix_len and start % PREFILL_CHUNK == 0 and end == start + PREFILL_CHUNK:
            slot.exact_prefix_len = end

    def release(self, slot: CacheSlot, tokens: list[int]) -> None:
        """Return a slot to the cache; `tokens` are those of prompt and answer, the last of which may not be cached yet."""
        slot.tokens = tokens[: slot.cache.get_seq_length()]
        if self._rope_switch is not None and not slot.uses_long_rope and len(slot.tokens) > self._rope_switch:
            self._crop(slot, self._rope_switch)  # the rest was computed with the long factors
        self._evict_for(_cache_bytes(slot.cache))
        self._slots.append(slot)

    def _before_switch(self, length: int) -> bool:
        return self._rope_switch is not None and length <= self._rope_switch

    def _new_slot(self, uses_long_rope: bool, length: int) -> CacheSlot:
        from transformers import DynamicCache

        # By default, transformers keeps only the window, which cannot be cropped; it also accepts a cache of all tokens.
        fits = length * self._token_bytes <= self._budget
        covers_all_tokens = not self._window or self._rope_switch is not None or fits
        cache = DynamicCache() if covers_all_tokens else DynamicCache(config=self._config)
        return CacheSlot(cache, uses_long_rope, covers_all_tokens)

    def _reusable_prefix_len(self, slot: CacheSlot, prompt: list[int], exact: bool) -> int:
        """Return how many of the prompt's tokens, at most all but the last, the slot can be cropped to."""
        common = 0
        for cached, wanted in zip(slot.tokens, prompt[:-1], strict=False):
            if cached != wanted:
                break
            common += 1
        if exact:
            common = min(common // PREFILL_CHUNK * PREFILL_CHUNK, slot.exact_prefix_len)
        cannot_crop = not slot.covers_all_tokens and len(slot.tokens) >= self._window
        return 0 if cannot_crop and common < len(slot.tokens) else common

    @staticmethod
    def _crop(slot: CacheSlot, length: int) -> None:
        if length < len(slot.tokens):
            slot.cache.crop(length - len(slot.tokens))
            del slot.tokens[length:]
        slot.exact_prefix_len = min(slot.exact_prefix_len, length // PREFILL_CHUNK * PREFILL_CHUNK)

    def _evict_for(self, size: int) -> None:
        while self._slots and sum(_cache_bytes(slot.cache) for slot in self._slots) + size > self._budget:
            self._slots.pop(0)

    def _measure_token_bytes(self) -> int:
        """Return the bytes of one token's keys and values; 0: the model does not support such a cache."""
        import torch
        from transformers import DynamicCache

        if not _is_croppable(self._config):
            return 0
        cache = DynamicCache()
        token = torch.zeros((1, 1), dtype=torch.long, device=self._model.device)
        try:
            with torch.inference_mode():
                self._model(input_ids=token, past_key_values=cache, **self._arguments)
        except Exception as error:  # noqa: BLE001 (a third-party model's code may fail in any way; it then runs uncached)
            logger.warning("%s runs without KV cache reuse: %s", type(self._model).__name__, error)
            return 0
        return _cache_bytes(cache) if cache.get_seq_length() == 1 else 0


def _is_croppable(config: Any) -> bool:
    """Return whether each layer's cache holds one entry per token."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if getattr(config, "attention_chunk_size", None) or "dynamic" in _rope_parameters(config):
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)


def _sliding_window(config: Any) -> int:
    """Return the size of the sliding window of some layers in tokens; 0: all layers attend to all tokens."""
    from transformers import DynamicCache

    return config.sliding_window if any(DynamicCache(config=config).is_sliding) else 0


def _rope_parameters(config: Any) -> dict[str, Any]:
    """Return the RoPE parameters by type: one entry, or one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    return {str(kind.get("rope_type")): kind for kind in kinds}


def _rope_switch(config: Any) -> int | None:
    """Return the number of tokens past which LongRoPE switches scaling factors; None: never."""
    default = getattr(config, "original_max_position_embeddings", None)
    switch = _rope_parameters(config).get("longrope", {}).get("original_max_position_embeddings", default)
    return None if switch is None else int(switch)


def _cache_bytes(cache: Any) -> int:
    return sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values) if part is not None)
