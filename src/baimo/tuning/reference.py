# pyright: basic
"""The trainer's side of the gate: transformers and PEFT in f32, nothing of the serving path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baimo.core.call import Request
from baimo.core.registry import require
from baimo.core.tuning import Row
from baimo.providers.peft_folder import CONFIG, PeftFolder
from baimo.tuning.adapters.merge import is_whole
from baimo.tuning.fit.encode import Dialect, dialect
from baimo.tuning.parity import Answer, Spoken

_TOGETHER = 16  # answers that are decoded at once


class Reference:
    """A tuned model as the trainer computes it, as `parity.Trained`. Loading blocks for seconds.

    Args:
        base: folder in Hugging Face form.
        folder: of the adapter: PEFT, or whole weights.
        threads: 0 = all cores.
        foreign: trained elsewhere: rendered and cut by transformers' own tokenizer, as it was there.
    """

    def __init__(self, base: Path, folder: Path, *, threads: int = 0, foreign: bool = False) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        self._torch = torch = require("torch", "tune", "parity.purpose")
        self._transformers = transformers = require("transformers", "tune", "parity.purpose")
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads or os.cpu_count() or 1)
        whole = is_whole(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder if whole else base, dtype=torch.float32, local_files_only=True
        )
        self._adapter = None
        if (folder / CONFIG).is_file():
            PeftFolder(folder)  # what cannot be served is refused in our words
            peft = require("peft", "tune", "parity.purpose")
            model = self._adapter = peft.PeftModel.from_pretrained(model, folder, local_files_only=True)
        self._model = model.eval()
        self._own = folder if (folder / "tokenizer.json").is_file() else base
        self._dialect = dialect(self._own)
        configured = (self._own / "generation_config.json").is_file() or self._own == base
        self.ends = frozenset(
            self._dialect.ends if configured else (*self._dialect.ends, *dialect(base).ends)
        )
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(self._own) if foreign else None

    @property
    def dialect(self) -> Dialect:
        """How it writes a conversation."""
        return self._dialect

    def spoken(self, request: Request) -> Spoken:
        """See `parity.Trained`."""
        if self._tokenizer is None:
            row = Row(messages=request.messages, tools=request.tools)
            prompt = self._dialect.prompt(row)
            return Spoken(prompt, self._dialect.ids(prompt))
        turns: list[Mapping[str, Any]] = [
            {"role": one.role, "content": str(one.content)} for one in request.messages
        ]
        prompt = str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        return Spoken(prompt, list(self._tokenizer(prompt, add_special_tokens=False).input_ids))

    def answers(self, prompts: Sequence[Sequence[int]], count: int) -> list[Answer]:
        """See `parity.Trained`."""
        found: list[Answer] = []
        for start in range(0, len(prompts), _TOGETHER):
            found += self._decoded(prompts[start : start + _TOGETHER], count)
        return found

    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> Any:
        """See `parity.Trained`."""
        torch = self._torch
        ids = torch.tensor([[*prompt, *answer[:-1]]])
        with torch.no_grad():
            tables = [self._table(ids, len(answer))]
            if self._adapter is not None:
                with self._adapter.disable_adapter():
                    tables.append(self._table(ids, len(answer)))
        return torch.stack(tables).numpy()

    def token(self, number: int) -> str:
        """Text of a token."""
        return str(self._dialect.tokenizer.id_to_token(number))

    def _table(self, ids: Any, count: int) -> Any:
        return self._torch.log_softmax(self._model(ids, use_cache=False).logits[0, -count:].float(), -1)

    def _decoded(self, prompts: Sequence[Sequence[int]], count: int) -> list[Answer]:
        torch = self._torch
        width, ends = max(map(len, prompts)), sorted(self.ends)
        ids = torch.tensor([[ends[0]] * (width - len(one)) + list(one) for one in prompts])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
        config = self._transformers.GenerationConfig(
            max_new_tokens=count, do_sample=False, eos_token_id=ends, pad_token_id=ends[0], use_cache=True
        )
        with torch.no_grad():
            rows = self._model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        return [self._answer(row[width:].tolist()) for row in rows]

    def _answer(self, ids: list[int]) -> Answer:
        end = next((at for at, token in enumerate(ids) if token in self.ends), None)
        kept = ids if end is None else ids[: end + 1]
        return Answer(self._dialect.decoded(kept).rstrip("\ufffd"), end is not None, tuple(kept))
