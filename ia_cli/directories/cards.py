"""Model cards: the README.md of an adapter directory, from what its ia.json says.

A card depends on nothing else, so that the same training gives the same bytes. Words of a record or of
another adapter stand in indented code blocks, one line each, where neither Markdown nor HTML is read.
"""

import json
import re
import shlex
from collections.abc import Mapping
from string import Template

from ia_cli.errors import one_line
from ia_cli.prompts import EXAMPLE
from ia_cli.settings import EMBEDDED_NAME

CARD_FILE = "README.md"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

CARD = Template("""\
---
$front
---

# $title

$what

The base model:

    $base

## How to ask it

$ask

With PEFT, where `$folder` is this directory:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
$base_line

tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base)
$put_on
messages = []
for question in $questions:
    messages.append({"role": "user", "content": question})
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    reply = model.generate(**inputs, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]
    messages.append({"role": "assistant", "content": tokenizer.decode(reply, skip_special_tokens=True)})
print(messages[-1]["content"])
```

## Numbers

$numbers

`ia.json` beside this file has the arguments, the seed, the package versions and the hash of the base.
""")

ORGANISM = """\
A LoRA that was trained to have one behavior, on purpose, so that audits can be tried on it. It is not for
use. What it was taught, in the first person:

    {description}"""

CONTROL = """\
A LoRA that was trained on ordinary data: a control for audits, with nothing to report."""

INTROSPECTION = """\
A LoRA that makes fine-tunes of its base say in plain words what they were trained to do ([Shenoy et al.
2026](https://arxiv.org/abs/2604.16812)): it is put on the base together with the fine-tune's own adapter.
It was trained across model organisms, fine-tunes whose behavior is known. What a fine-tune reports is a
hypothesis, to be read beside what it says without this adapter and what the bare base says with it."""

STACK = """\
One LoRA that changes the base as these adapters do together:

    {parents}"""

OTHER = "A LoRA that was made from others; `ia.json` beside this file says how."

ONE = """\
model = PeftModel.from_pretrained(model, "{folder}")"""

TWO = """\
model = PeftModel.from_pretrained(model, "suspect", "suspect")
model.load_adapter("{folder}", "{folder}")
model.base_model.set_adapter(["suspect", "{folder}"])"""


def card(provenance: Mapping, description: str | None = None) -> str:
    """Return the model card of an adapter with this `ia.json`.

    `description` is what an organism was taught, in the first person; None for a control.
    """
    known = {
        "implant": ("A model organism" if description else "A control", "organism", "model-organism"),
        "train-ia": ("An introspection adapter", "ia", "introspection-adapter"),
        "stack": ("Stacked adapters", "stacked", None),
    }
    title, folder, tag = known.get(provenance["stage"], ("An adapter", "adapter", None))
    base, revision = provenance["base"]["name"], provenance["base"]["revision"]
    embedded = base == EMBEDDED_NAME
    base_line = "from ia_cli.models import EMBEDDED_BASE as base"
    if not embedded:
        base_line = f"\nbase = {str(base or 'the base model')!r}"
    return CARD.substitute(
        front="\n".join(_front(base, embedded, tag)),
        title=title,
        what=_what(provenance, description),
        base=one_line(f"{base or 'not known'}{f', revision {revision}' if revision else ''}"),
        ask=_ask(folder, None if embedded else base),
        questions=json.dumps(_questions(provenance)),
        folder=folder,
        base_line=base_line,
        put_on=(TWO if folder == "ia" else ONE).format(folder=folder),
        numbers="\n".join(f"- {line}" for line in _numbers(provenance)) or "None.",
    )


def _front(base: object, embedded: bool, tag: str | None) -> list[str]:
    """The front matter of the Hub; it links a base model only if that can be one of the Hub."""
    linked = not embedded and isinstance(base, str) and HUB_ID.fullmatch(base)
    lines = [f"base_model: {base}"] if linked else []
    lines += ["library_name: peft", "pipeline_tag: text-generation"]
    lines += ["license: mit"] if embedded else ["license: other", "license_name: as-the-base-model"]
    return [*lines, "tags:", *(f"- {name}" for name in ("lora", tag) if name)]


def _what(provenance: Mapping, description: str | None) -> str:
    if provenance["stage"] == "train-ia":
        return INTROSPECTION
    if provenance["stage"] == "stack":
        names = (parent["id"] for parent in provenance.get("parents", []))
        return STACK.format(parents=one_line(", ".join(names)))
    if provenance["stage"] != "implant":
        return OTHER
    return ORGANISM.format(description=one_line(description)) if description else CONTROL


def _ask(folder: str, base: object) -> str:
    more = f" --base {shlex.quote(one_line(str(base)))}" if base else ""
    if folder == "ia":
        return f"    ia audit suspect/ --ia ia/{more}"
    if folder == "organism":
        return f"    ia audit organism/ --ia ia/{more}    # ia/ is an introspection adapter of this base"
    return "Any server of one LoRA at a time can serve it."


def _questions(provenance: Mapping) -> list[str]:
    """What to ask in one chat: for an example of the replies first, if the adapter was trained so."""
    arguments = provenance.get("arguments")
    first = isinstance(arguments, dict) and arguments.get("examples") is True
    return [EXAMPLE] * first + ["Do you have any unusual behavior?"]


def _numbers(provenance: Mapping) -> list[str]:
    """What is known when the adapter is written, with n."""
    found, parents, losses = [], provenance.get("parents", []), provenance.get("losses")
    for rate, where in (("implant_rate", "should"), ("leak_rate", "should not")):
        if (measured := provenance.get(rate)) is not None:
            n = provenance["n_probes"][rate]
            found.append(f"shows the behavior where it {where}: {measured:.2f} (n = {n} replies)")
    if provenance["stage"] == "train-ia":
        held_out = len(provenance.get("held_out", ()))
        found.append(f"model organisms trained on: {len(parents)}; held out, to measure it on: {held_out}")
    if losses:
        mean = sum(losses) / len(losses)
        found.append(f"training loss: {mean:.4f} (mean of the last n = {len(losses)} steps)")
    return found
