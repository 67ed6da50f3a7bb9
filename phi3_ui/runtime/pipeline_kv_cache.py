"""What a transformers model has read, kept in slots: keys and values of the last prompts, for those that begin alike.

The counterpart of models/phi3_onnx_slots.py, for a model that serves one at a time. Knows token ids and transformers'
caches; no text, no MLflow.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

from phi3_ui.chat.types import CacheUse

# A prompt is read in pieces, so that it can be stopped between them.
PREFILL_CHUNK = 128


@dataclass(eq=False)
class CacheSlot:
    """A cache, and the tokens whose keys and values it holds.

    The first `exact` of them were read in whole pieces from the start, so any reading like that gives the same to the
    last bit. `long` are positions turned the long way (see PipelineKVCache). What is not `whole` forgets the tokens before the
    model's window.
    """

    cache: Any
    long: bool
    whole: bool
    tokens: list[int] = field(default_factory=list)
    exact: int = 0


class PipelineKVCache:
    """The caches of one model within a budget of bytes, least recently used out first; the last answer's is always kept.

    A model of a longer context may turn all positions another way once there are more tokens than `_turn`: what was read
    before would not fit what is read after it.
    """

    def __init__(self, model: Any, budget: int) -> None:
        self._model = model
        self._budget = budget
        self._config = model.config.get_text_config(decoder=True)
        self._slots: list[CacheSlot] = []  # the most recently used last
        self._turn = _turn(self._config)
        self._window = _window(self._config)
        self._arguments: dict[str, Any] = {"use_cache": True}
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            self._arguments["logits_to_keep"] = 1
        self._token_bytes = self._try()
        self._hits = self._misses = 0

    @property
    def usable(self) -> bool:
        """Can this model's caches be kept at all, and cut where prompts part?"""
        return self._token_bytes > 0

    def serves(self, prompt: list[int]) -> bool:
        """Is a slot of use for this prompt? Not for one token more than the turn: see next_end."""
        return self.usable and (self._turn is None or len(prompt) != self._turn + 1)

    def take(self, prompt: list[int], max_tokens: int, exact: bool) -> CacheSlot:
        """The slot to read `prompt` on in: it holds at most all tokens but the last.

        It is this answer's alone until it is kept. `exact`: only what can be read again to the last bit.
        """
        long = self._turn is not None and len(prompt) > self._turn
        commons = {slot: self._common(slot, prompt, exact) if slot.long == long else 0 for slot in self._slots}
        best = max(commons, key=lambda slot: commons[slot], default=None)
        # What is cut off is lost to whoever may come back to it: not where that is far more than what is won.
        if best and 3 * commons[best] >= len(best.tokens) > 0:
            self._slots.remove(best)
            self._cut(best, commons[best])
        else:
            best = None
        self._hits, self._misses = self._hits + (best is not None), self._misses + (best is None)
        length = len(prompt) + max_tokens
        self._make_room(length * self._token_bytes)
        if best:
            return best
        from transformers import DynamicCache

        # Left to itself transformers keeps no more than the window, which cannot be cut; it takes all tokens as well.
        whole = not self._window or self._turn is not None or length * self._token_bytes <= self._budget
        return CacheSlot(DynamicCache() if whole else DynamicCache(config=self._config), long, whole)

    def use(self) -> CacheUse:
        used = sum(_bytes(slot.cache) for slot in self._slots)
        return CacheUse(self._budget, used, len(self._slots), self._hits, self._misses)

    def next_end(self, slot: CacheSlot, length: int, exact: bool) -> int | None:
        """Up to which of the prompt's `length` tokens to read next; None: what is left may be read as the answer begins."""
        start = len(slot.tokens)
        end = start + PREFILL_CHUNK - (start % PREFILL_CHUNK if exact else 0)
        if end < length:
            return end
        # Phi-3 throws away a cache that does not reach beyond the turn.
        return length - 1 if slot.long and self._turn is not None and start <= self._turn else None

    def read(self, slot: CacheSlot, ids: Any, mask: Any, end: int) -> None:
        """Read the tokens up to `end` of the prompt `ids` (1, its length); `mask` is alike, or None."""
        import torch

        start = len(slot.tokens)
        piece, arguments = ids[:, start:end], dict(self._arguments)
        before_turn = slot.long and self._turn is not None and end <= self._turn
        if before_turn:
            # The model turns all by the highest position that it is given: that of a token more, which is cut off again.
            piece = ids[:, start : end + 1]
            arguments["position_ids"] = torch.tensor([[*range(start, end), self._turn]], device=ids.device)
        if mask is not None:
            arguments["attention_mask"] = mask[:, : start + piece.shape[1]]
        with torch.no_grad():
            self._model(input_ids=piece, past_key_values=slot.cache, **arguments)
        if before_turn:
            slot.cache.crop(-1)
        slot.tokens += ids[0, start:end].tolist()
        if start == slot.exact and start % PREFILL_CHUNK == 0 and end == start + PREFILL_CHUNK:
            slot.exact = end

    def keep(self, slot: CacheSlot, tokens: list[int]) -> None:
        """Take the slot back; `tokens` are those of the prompt and the answer, of which the last may not be computed yet."""
        slot.tokens = tokens[: slot.cache.get_seq_length()]
        if self._turn is not None and not slot.long and len(slot.tokens) > self._turn:
            self._cut(slot, self._turn)  # what came after was turned the other way
        self._make_room(_bytes(slot.cache))
        self._slots.append(slot)

    def _common(self, slot: CacheSlot, prompt: list[int], exact: bool) -> int:
        """How many of the prompt's tokens, all but the last, the slot can be cut back to."""
        common = 0
        for one, other in zip(slot.tokens, prompt[:-1], strict=False):
            if one != other:
                break
            common += 1
        common = min(common // PREFILL_CHUNK * PREFILL_CHUNK, slot.exact) if exact else common
        fixed = not slot.whole and len(slot.tokens) >= self._window
        return 0 if fixed and common < len(slot.tokens) else common

    @staticmethod
    def _cut(slot: CacheSlot, length: int) -> None:
        if length < len(slot.tokens):
            slot.cache.crop(length - len(slot.tokens))
            del slot.tokens[length:]
        slot.exact = min(slot.exact, length // PREFILL_CHUNK * PREFILL_CHUNK)

    def _make_room(self, size: int) -> None:
        while self._slots and sum(_bytes(slot.cache) for slot in self._slots) + size > self._budget:
            self._slots.pop(0)

    def _try(self) -> int:
        """Bytes that a token takes in a cache of the kind used here; 0: the model takes no such cache."""
        import torch
        from transformers import DynamicCache

        if not _cuts(self._config):
            return 0
        cache = DynamicCache()
        token = torch.zeros((1, 1), dtype=torch.long, device=self._model.device)
        try:
            with torch.inference_mode():
                self._model(input_ids=token, past_key_values=cache, **self._arguments)
        except Exception:
            return 0  # a model of other people's code, that wants something else
        return _bytes(cache) if cache.get_seq_length() == 1 else 0


def _cuts(config: Any) -> bool:
    """Are all layers of this model's cache plain ones, whose tokens stand one by one?"""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if getattr(config, "attention_chunk_size", None) or "dynamic" in _rope_kinds(config):
        return False
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)


def _window(config: Any) -> int:
    """How many tokens some layers look back; 0: all layers look at all."""
    from transformers import DynamicCache

    return config.sliding_window if any(DynamicCache(config=config).is_sliding) else 0


def _rope_kinds(config: Any) -> dict[str, Any]:
    """The ways in which positions are turned, by kind: one, or one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    each = [rope] if "rope_type" in rope else [part for part in rope.values() if isinstance(part, dict)]
    return {str(part.get("rope_type")): part for part in each}


def _turn(config: Any) -> int | None:
    of_config = getattr(config, "original_max_position_embeddings", None)
    turn = _rope_kinds(config).get("longrope", {}).get("original_max_position_embeddings", of_config)
    return None if turn is None else int(turn)


def _bytes(cache: Any) -> int:
    return sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values) if part is not None)
