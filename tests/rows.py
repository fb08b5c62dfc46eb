"""One note at many places of many batches, as `static` writes it: prints what its logits and its text were, as JSON.

Once a batch has dropped rows whose notes ended, the note's row is the one with the logits that it had alone; "lost" where there is none.

    python tests/rows.py CASES

CASES is a JSON list of objects: `stamp`, `dtype`, `threads`, `quantization`, and maybe `shape`, arguments of LlamaConfig: a random model of that
shape takes the place of the stamp's. How an instruction set is chosen is up to the environment (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA), so each
of them is a process of its own.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mentionforge.generation import weights
from mentionforge.generation.backends import static
from mentionforge.generation.backends.contract import Request
from mentionforge.generation.settings import Sampling

SIZES = (1, 4, 5, 18)
"""Sizes of batches. With two threads, attention and matrix products of the library each treat other rows of them in another way."""


def digest(row):
    return hashlib.sha256(row.float().contiguous().numpy().tobytes()).hexdigest()


def places(model, tokenizer, sizes=SIZES, steps=6):
    """What became of one note: digests of its logits and its text, at the first, a middle and the last place, alone or among others."""
    prompts = ["Write about gout.", "Write a long note about heart failure, and say more of its signs.", "x"]
    mine, *others = [tuple(weights.prompt_ids(tokenizer, prompt, "chat")) for prompt in prompts]
    assert len({static.width_of(ids) for ids in (mine, *others)}) == 1
    write = static.make_batch_writer(model, tokenizer, Sampling(temperature=1.5, top_p=0.9, max_new_tokens=steps))
    form = weights.shared_tokens(tokenizer, ["A", "b"], "chat")
    assert form and all(ids[: len(form)] == form for ids in (mine, *others))
    seed = next(s for s in range(7, 99) if write([Request("n", mine, s, shared=len(form))])[0].tokens >= steps - 2)  # a note that outlives others
    seen, logits = [], []
    hook = model.get_output_embeddings().register_forward_hook(lambda _, args, out: logits.append(out))
    for size in sizes:
        for place in sorted({0, size // 2, size - 1}):
            for beside in ([mine], others):
                batch = [Request(f"o{i}", beside[i % len(beside)], 1000 + i, shared=len(form)) for i in range(size)]
                batch[place] = Request("n", mine, seed, shared=len(form))
                logits.clear()
                note = write(batch)[place]
                alone = seen[0]["logits"] if seen else []
                steps_seen = [
                    digest(out[place, -1]) if len(out) == len(logits[0]) else next((a for a in alone[t : t + 1] if a in map(digest, out[:, -1])), "lost")
                    for t, out in enumerate(logits[: note.tokens + 1])
                ]
                seen.append({"size": size, "place": place, "text": note.text, "rows": [len(out) for out in logits], "logits": steps_seen})
    hook.remove()
    return seen


def rows(stamp, dtype, threads, quantization, shape=None):
    """`places` of one case."""
    torch.set_num_threads(threads)
    tokenizer = weights.tokenizer(Path(stamp), "chat")
    with tempfile.TemporaryDirectory() as scratch:
        if shape:
            torch.manual_seed(3)
            random = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=1, pad_token_id=1, **shape))
            random.generation_config.eos_token_id = [1, *range(2, 60)]  # notes end soon, so that rows are dropped
            random.save_pretrained(scratch)
            stamp = str(Path(scratch) / "fetched.json")
            Path(stamp).write_text(json.dumps({"folder": "."}))
        model = weights.load_for_sampling(Path(stamp), None, getattr(torch, dtype), quantization)
        return places(model, tokenizer) if shape else places(model, tokenizer, SIZES[1:3], 3)


if __name__ == "__main__":
    weights.quiet()
    print(json.dumps([rows(**case) for case in json.loads(sys.argv[1])]))
