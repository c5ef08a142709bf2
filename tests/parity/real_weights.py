"""`make parity-real`: the two greedy texts that transformers' own tests expect of google/gemma-2b, in f32 and in bf16.

In: MODEL, a folder or a name on the hub (google/gemma-2b unless told), with REVISION and HF_TOKEN as the hub
needs them. Out: each text beside the expected one; exit code 0 where all agree, 1 where one differs, 2 where
the weights cannot be had. The expected texts are facts of the reference (its test of the Flax Gemma, 20 new tokens).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.errors import RunspecError

EXPECTED = {
    "Hello I am doing": "Hello I am doing a project on the 198-199 Ford Mustang GT. I am trying to",
    "Hi today": "Hi today I am going to show you how to make a simple and easy to make a simple and easy to",
}
NEW_TOKENS = 20
USUAL = "google/gemma-2b"
ABSENT = """\
the weights of {model} are not here, so nothing was compared. To have them:
  MODEL=path/to/folder make parity-real       a folder with config.json, tokenizer and weights
  HF_TOKEN=… make parity-real                 from the hub, after accepting the licence at
                                              https://huggingface.co/{usual}; REVISION=flax for Flax weights"""


def main() -> int:
    """Find, compare, report."""
    model = os.environ.get("MODEL", "")
    if not model and not os.environ.get("HF_TOKEN"):
        print(ABSENT.format(model=USUAL, usual=USUAL), file=sys.stderr)
        return 2
    try:
        folder = _folder(model or USUAL)
        agreed = [_agrees(folder, dtype) for dtype in ("float32", "bfloat16")]
    except RunspecError as error:
        print(f"{error}\n\n{ABSENT.format(model=model or USUAL, usual=USUAL)}", file=sys.stderr)
        return 2
    return int(not all(agreed))


def _folder(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from engine.trainer import hub

    return hub.fetch(model, os.environ.get("REVISION") or None)[0]


def _agrees(folder: Path, dtype: str) -> bool:
    from engine.trainer.generation.sampler import generate
    from engine.trainer.weights import load_folder

    model, config, tokenizer = load_folder(folder, param_dtype=dtype, compute_dtype=dtype)
    prompts = [[config.bos_token_id, *tokenizer.encode(text)] for text in EXPECTED]
    ends = {config.eos_token_id: "eos"}
    answers = generate(model, prompts, max_new_tokens=NEW_TOKENS, ends=ends, pad_id=config.pad_token_id, batch_size=2)
    agree = True
    for prompt, answer, expected in zip(prompts, answers, EXPECTED.values(), strict=True):
        text = tokenizer.decode([*prompt[1:], *answer.ids])
        agree = agree and text == expected
        print(f"{dtype:<9} {'equal' if text == expected else 'DIFFERS'}\n  expected {expected!r}\n  found    {text!r}")
    return agree


if __name__ == "__main__":
    sys.exit(main())
