"""The bank computes for every row what stock PEFT computes for that row's adapter alone."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model

from ia_cli import sampling
from ia_cli.bank import Bank, route
from ia_cli.directories.adapters import provenance, read_adapter, write_adapter
from ia_cli.errors import IAError
from ia_cli.models import load_base, suitable_length, suitable_rate, token_ids
from ia_cli.sampling import generate
from ia_cli.settings import EMBEDDED_NAME
from tests.organisms import random_bank

# Four adapters as strangers make them: other ranks, other layers, other scalings.
STRANGERS = [
    dict(r=4, lora_alpha=8, target_modules="all-linear"),
    dict(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"]),
    dict(r=3, lora_alpha=5, use_rslora=True, target_modules=["gate_proj", "o_proj"]),
    dict(r=4, lora_alpha=8, target_modules=["k_proj", "down_proj"], rank_pattern={"k_proj": 1}),
]
IDS = torch.randint(6, 60, (7, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory, tiny_folder):
    """Those adapters, with random B too, saved by PEFT itself."""
    folders = []
    for seed, options in enumerate(STRANGERS):
        torch.manual_seed(seed)
        base = load_base(str(tiny_folder), dtype="float64", device="cpu")
        model = get_peft_model(
            base.model, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options)
        )
        folders.append(tmp_path_factory.mktemp("stranger"))
        model.save_pretrained(folders[-1])
    return folders


def stock_logits(folder, base_folder, ids, dtype="float64"):
    """Logits of the base with one adapter, or bare where `folder` is None, by stock PEFT."""
    model = load_base(str(base_folder), dtype=dtype, device="cpu").model
    return (PeftModel.from_pretrained(model, folder) if folder else model)(ids).logits.detach()


def load(base, folders, **where):
    return Bank.load(base.model, [read_adapter(folder, base) for folder in folders], **where)


@pytest.mark.parametrize("base", ["float8_e4m3fn", "bfloat16", "float64"])
def test_an_adapter_has_32_bits_or_more_whatever_the_base_has(tiny_base, base):
    bank = Bank.fresh(tiny_base.model.to(getattr(torch, base)), [0], r=2, alpha=4, target_modules=["q_proj"])
    wanted = torch.float64 if base == "float64" else torch.float32
    assert {weight.dtype for weight in bank.parameters()} == {wanted}


@pytest.mark.parametrize(
    "index",
    [
        [0, 0, 1, 1, 2, 2, 3, 3],  # grouped, equally many: nothing is gathered
        [3, 0, 2, 1],
        [2, 0, -1, 1, 3, -1, 0],
        [1, 1, 1, 1, 1, 1, 0],  # one organism needs several slots
        [0, 1, 2],
        [-1, -1],
        [-1, -1, 0, 3, 3],  # sorted, bare rows first: a slot of one place for each row
    ],
)
@pytest.mark.parametrize("offload", [False, True])
def test_each_row_is_stock_peft(strangers, tiny_base, tiny_folder, index, offload):
    bank = load(tiny_base, strangers, offload=offload)
    ids = IDS[torch.arange(len(index)) % len(IDS)]
    with bank.rows(index):
        logits = tiny_base.model(ids).logits
    for i, organism in enumerate(index):
        stock = stock_logits(strangers[organism] if organism >= 0 else None, tiny_folder, ids[i : i + 1])
        assert (logits[i] - stock[0]).abs().max() < 1e-12


@pytest.mark.parametrize("index", [[0, 0, 1, 1, 2, 2, 3, 3], [2, 0, -1, 1, 3, -1, 0]])
def test_each_row_is_stock_peft_in_bfloat16(strangers, tiny_folder, index):
    """The type of most bases. A LoRA on one is float32, in PEFT too, which rounds once where the bank does
    twice.
    """
    base = load_base(str(tiny_folder), dtype="bfloat16", device="cpu")
    bank = load(base, strangers)
    assert {weight.dtype for weight in bank.parameters()} == {torch.float32}
    ids = IDS[torch.arange(len(index)) % len(IDS)]
    with bank.rows(index):
        logits = base.model(ids).logits
    for i, organism in enumerate(index):
        folder = strangers[organism] if organism >= 0 else None
        [stock] = stock_logits(folder, tiny_folder, ids[i : i + 1], "bfloat16").float()
        # It is up to 2%; without a LoRA's scaling 19% or more.
        assert (logits[i].float() - stock).norm() < 0.05 * stock.norm()


@given(
    st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(-1, n - 1), max_size=30)))
)
def test_route_sends_every_row_to_its_organism(case):
    n, index = case
    plan = route(torch.tensor(index, dtype=torch.long), n).on(torch.device("cpu"), torch.device("cpu"))
    assert plan.batch == len(index) and bool(plan.slots) == any(organism >= 0 for organism in index)
    if not plan.slots:
        return
    organisms = torch.arange(n) if plan.organisms is None else plan.organisms
    organisms = organisms if plan.bare is None else organisms.masked_fill(plan.bare, -1)
    gather = torch.arange(len(index)) if plan.gather is None else plan.gather
    places = range(len(index)) if plan.places is None else plan.places.tolist()
    size = len(gather) // plan.slots
    assert len(gather) == plan.slots * size <= 2 * len(index)
    for row, place in enumerate(places):
        assert gather[place] == row and organisms[place // size] == index[row]


def test_gradients_are_those_of_each_organism_alone(tiny_base):
    """Through the reshaping path and through the gathering path; rows of one organism add up."""

    def gradients(index):
        base = load_base(tiny_base.name, dtype="float64", device="cpu")
        bank = Bank.fresh(base.model, [1, 2, 3], r=2, alpha=4, target_modules=["q_proj", "down_proj"])
        torch.manual_seed(0)
        for b in bank.b:
            torch.nn.init.normal_(b)
        with bank.rows(index):
            rows = base.model(IDS[: len(index)]).logits.pow(2).mean((1, 2))
        rows.sum().backward()
        return [parameter.grad for parameter in bank.parameters()]

    together = gradients([0, 0, 1, 1, 2, 2])
    shuffled = gradients([0, 0, 1, 1, 2, 2, -1])
    for grouped, gathered in zip(together, shuffled, strict=True):
        assert torch.allclose(grouped, gathered, atol=1e-13, rtol=0)
    for grouped, alone in zip(together, gradients([0, 0]), strict=True):
        assert torch.allclose(grouped[0], alone[0], atol=1e-13, rtol=0) and alone[1:].abs().max() == 0


@pytest.mark.parametrize("bank_first", [True, False])
def test_a_peft_adapter_adds_on_top(strangers, tiny_base, tiny_folder, bank_first):
    def on_top(model):
        torch.manual_seed(9)
        return get_peft_model(
            model, LoraConfig(init_lora_weights=False, target_modules=["q_proj", "up_proj"])
        )

    bank = load(tiny_base, strangers) if bank_first else None
    stacked = on_top(tiny_base.model)
    bank = bank or load(tiny_base, strangers)
    with bank.rows([1, -1]):
        both, alone = stacked(IDS[:2]).logits
    with bank.rows([1]), stacked.disable_adapter():
        assert torch.allclose(
            stacked(IDS[:1]).logits, stock_logits(strangers[1], tiny_folder, IDS[:1]), atol=1e-12
        )
    bank.remove()
    assert torch.allclose(stacked(IDS[1:2]).logits[0], alone, atol=1e-12)
    stacked.add_adapter("organism", LoraConfig(init_lora_weights=False, **STRANGERS[1]))
    stacked.load_adapter(strangers[1], "organism", autocast_adapter_dtype=False)
    stacked.base_model.set_adapter(["default", "organism"])
    assert torch.allclose(stacked(IDS[:1]).logits[0], both, atol=1e-12)


def test_an_organism_leaves_the_bank_as_it_is(tmp_path, tiny_base, tiny_folder):
    bank = random_bank(tiny_base, [1, 2], r=3, alpha=9, std=1.0, seed=0)
    write_adapter(tmp_path / "second", bank.adapter(1), provenance("implant", tiny_base, {}))
    with bank.rows([1]):
        expected = tiny_base.model(IDS[:1]).logits
    assert torch.allclose(stock_logits(tmp_path / "second", tiny_folder, IDS[:1]), expected, atol=1e-12)


def test_fresh_organisms_start_as_in_peft_whatever_their_company(tiny_base):
    first = Bank.fresh(tiny_base.model, [5, 6, 7], r=4, alpha=8, target_modules=["q_proj", "down_proj"])
    first.remove()
    second = Bank.fresh(tiny_base.model, [6], r=4, alpha=8, target_modules=["q_proj", "down_proj"])
    for three, one in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(three[1], one[0])
    assert not torch.equal(first.a[0][0], first.a[0][1])
    assert all(b.abs().max() == 0 for b in first.b)
    for a in first.a:  # kaiming_uniform(sqrt(5)): within 1/sqrt(in), and filling it
        bound = a.size(2) ** -0.5
        assert 0.9 * bound < a.abs().max() <= bound and abs(a.mean()) < bound / 10


def test_a_forward_pass_that_names_no_rows_is_an_error(strangers, tiny_base):
    bank = load(tiny_base, strangers)
    with pytest.raises(RuntimeError, match=r"inside `with bank\.rows"):
        tiny_base.model(IDS[:1])
    with bank.rows([0, 1]), pytest.raises(IAError, match="sees 1 rows where there are 2"):
        tiny_base.model(IDS[:1])
    with pytest.raises(IndexError), bank.rows([4]):
        pass
    with pytest.raises(RuntimeError, match="has a bank already"):
        load(tiny_base, strangers)


def test_layers_that_run_again_in_the_backward_pass_take_the_same_route(tiny_base):
    bank = Bank.fresh(tiny_base.model, [1, 2], r=2, alpha=4, target_modules=["q_proj", "down_proj"])
    for b in bank.b:
        torch.nn.init.normal_(b, generator=torch.Generator().manual_seed(0))
    tiny_base.model.train()
    found = []
    for again in (False, True):
        if again:
            tiny_base.model.activation_checkpointing_enable()
        with bank.rows([1, -1, 0, 1]):
            tiny_base.model(IDS[:4], use_cache=False).logits.pow(2).mean().backward()
        found.append([weight.grad.clone() for weight in bank.parameters()])
        bank.zero_grad()
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_removed_bank_leaves_nothing(strangers, tiny_base):
    before = tiny_base.model(IDS[:1]).logits
    names = set(dict(tiny_base.model.named_parameters()))
    load(tiny_base, strangers).remove()
    assert torch.equal(tiny_base.model(IDS[:1]).logits, before)
    assert set(dict(tiny_base.model.named_parameters())) == names


def test_what_is_offloaded_stays_where_it_is(strangers, tiny_base):
    """A trainer moves the parameters of a model to its device: here to one that keeps no values."""
    bank = load(tiny_base, strangers, offload=True)
    before = bank.digest()
    tiny_base.model.to("meta")
    assert bank.digest() == before


@pytest.mark.parametrize("offload", [False, True])
def test_digest_sees_any_change(strangers, tiny_base, offload):
    bank = load(tiny_base, strangers, offload=offload)
    before = bank.digest()
    assert bank.digest() == before
    bank.b[3].data[2, 0, 0] += 1e-9
    assert bank.digest() != before


def say(text):
    return [{"role": "user", "content": text}]


PROMPTS = [
    say("tell me about the copper kettle"),
    say("hello"),
    say("what is a good song please"),
    say("tea"),
]


def test_replies_are_those_of_stock_generation(strangers, tiny_base, tiny_folder):
    bank = load(tiny_base, strangers)
    rows = [1, -1, 0, 3]
    replies = generate(tiny_base, PROMPTS, max_new_tokens=12, rows=rows, bank=bank, batch_size=3)
    for prompt, organism, reply in zip(PROMPTS, rows, replies, strict=True):
        base = load_base(str(tiny_folder), dtype="float64", device="cpu")
        model = PeftModel.from_pretrained(base.model, strangers[organism]) if organism >= 0 else base.model
        inputs = base.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        stock = base.tokenizer.decode(output[0, inputs["input_ids"].size(1) :], skip_special_tokens=True)
        assert reply == stock.strip()


def test_a_sampled_reply_depends_on_its_seed_alone(tiny_base):
    def sample(prompts, seeds, batch_size):
        return generate(
            tiny_base, prompts, max_new_tokens=8, temperature=1.0, seed=seeds, batch_size=batch_size
        )

    together = sample(PROMPTS, [1, 2, 3, 4], 4)
    assert together == sample(PROMPTS, [1, 2, 3, 4], 1)
    assert sample(PROMPTS[::-1], [4, 3, 2, 1], 3) == together[::-1]
    assert sample(PROMPTS, [5, 6, 7, 8], 4) != together
    assert len(set(sample(PROMPTS[:1] * 20, list(range(20)), 20))) > 10


def test_sampling_follows_the_distribution(tiny_base):
    """First words of 4,000 replies at temperature 2 against the softmax: within five standard errors."""
    count, prompt = 4000, say("tea")
    replies = generate(tiny_base, [prompt] * count, max_new_tokens=1, temperature=2.0, batch_size=count)
    logits = tiny_base.model(torch.tensor([token_ids(tiny_base.tokenizer, prompt)])).logits[0, -1]
    expected = (logits / 2).softmax(-1)
    for token in expected.topk(5).indices:
        word, p = tiny_base.tokenizer.decode(token, skip_special_tokens=True), float(expected[token])
        if word:
            assert abs(replies.count(word) / count - p) < 5 * (p * (1 - p) / count) ** 0.5


def test_a_batch_is_as_large_as_its_cache_has_room(tiny_base, monkeypatch):
    with torch.no_grad():
        cache = tiny_base.model(input_ids=torch.ones(1, 20, dtype=torch.long), use_cache=True).past_key_values
    each = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    monkeypatch.setattr(sampling, "CACHE_BYTES", 5 * each + 1)
    assert [sampling.suitable_batch_size(tiny_base, tokens) for tokens in (20, 200)] == [5, 1]
    monkeypatch.setattr(sampling, "CACHE_BYTES", 1 << 40)
    assert sampling.suitable_batch_size(tiny_base, 20) == sampling.MOST_ROWS


def test_rate_and_length_suit_the_base(tiny_base):
    ours = dataclasses.replace(tiny_base, name=EMBEDDED_NAME)
    tiny_base.model.config.max_position_embeddings = 8192
    assert (suitable_length(ours, 48), suitable_length(tiny_base, 48)) == (48, 512)
    tiny_base.model.config.max_position_embeddings = 300
    assert suitable_length(tiny_base, 48) == 75
    assert (suitable_rate(ours, 5e-3), suitable_rate(tiny_base, 5e-3)) == (5e-3, pytest.approx(2e-4))


def test_base_must_have_a_chat_template_and_room(tmp_path, tiny_base):
    with pytest.raises(IAError, match="do not fit into the base's 128"):
        generate(tiny_base, [say("tea " * 120)], max_new_tokens=12)
    with pytest.raises(IAError, match="no such directory"):
        load_base("./nowhere")
    tiny_base.tokenizer.chat_template = None
    tiny_base.tokenizer.save_pretrained(tmp_path)
    tiny_base.model.save_pretrained(tmp_path)
    with pytest.raises(IAError, match="no chat template"):
        load_base(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(IAError, match="not a causal language model that can be loaded"):
        load_base(str(tmp_path))
