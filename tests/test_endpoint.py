"""The client of OpenAI-compatible servers, against a server that speaks HTTP."""

import gzip
import itertools
import socket
import threading
import time

import pytest

from ia_cli.errors import IAError
from ia_cli.servers.chat_models import Stop
from ia_cli.servers.endpoint import Endpoint
from tests.stub_server import completion, refusal, serving

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("IA_API_KEY", "sk-secret")


def ask(model: Endpoint, texts: list[str], **options) -> list:
    async def work(text):
        return await model.reply([{"role": "user", "content": text}], max_new_tokens=5, **options)

    return list(model.in_order(work, texts))


def said(body: dict) -> str:
    return body["messages"][-1]["content"]


def test_a_request_is_what_was_asked_and_the_key_is_in_its_header_only():
    with serving(said) as stub:
        model = Endpoint(stub.url, "org/name")
        assert ask(model, ["a"], temperature=0.5, seed=3, schema={"type": "object"}) == [(0, "a")]
        [sent] = stub.requests
        assert sent["path"] == "/v1/chat/completions" and sent["model"] == "org/name"
        assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (5, 0.5, 3)
        assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
        assert stub.headers[0]["authorization"] == "Bearer sk-secret" and "sk-secret" not in str(sent)
    assert "sk-secret" not in model.identity and model.url == stub.url + "/v1"


def test_replies_come_in_order_and_so_many_at_once():
    def slow(body):
        time.sleep(0.3 if said(body) == "0" else 0.02)
        return said(body)

    texts = [str(i) for i in range(30)]
    with serving(slow) as stub:
        assert ask(Endpoint(stub.url, "m", concurrency=4), texts) == list(enumerate(texts))
        assert 2 <= stub.most <= 4
        assert ask(Endpoint(stub.url, "m", concurrency=1), texts[1:4]) == list(enumerate(texts[1:4]))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_it_backs_off_and_tries_again(status):
    times = []

    def answer(body):
        times.append(time.monotonic())
        return refusal(status, **{"Retry-After": "1"}) if len(times) == 1 else "at last"

    with serving(answer) as stub:
        assert ask(Endpoint(stub.url, "m"), ["a"]) == [(0, "at last")]
    assert len(times) == 2 and times[1] - times[0] >= 0.95


FINAL = {"x-should-retry": "false"}  # what the client obeys: the tests need not wait for its back-off


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(401, "Incorrect key sk-secret", **FINAL), r"the key is refused.*\*\*\*.*set IA_API_KEY"),
        (refusal(403, **FINAL), "the key is refused"),
        (refusal(404, "no such model", **FINAL), "not found.*no such model.*check --server and --model"),
        (refusal(429, **FINAL), "the rate limit holds.*lower --concurrency"),
        ((200, {"Content-Type": "text/html"}, b"<h1>hello</h1>"), "no OpenAI-compatible server"),
        ((200, {}, b"{"), "no OpenAI-compatible server"),
        ((200, {}, {"choices": []}), "no OpenAI-compatible server"),
        ((200, {}, {"choices": [None]}), "no OpenAI-compatible server"),
        ((200, {}, completion(7)), "no OpenAI-compatible server"),
        ((200, {}, b'{"choices":' + b"[" * 200_000), "no OpenAI-compatible server"),
        (
            (307, {"Location": "http://127.0.0.1:1/v1"}, b""),
            "sends requests on, to http://127.0.0.1:1/v1; give that",
        ),
    ],
)
def test_what_goes_for_every_request_stops_the_run(answer, said):
    with serving(lambda body: answer) as stub, pytest.raises(Stop, match=said) as caught:
        ask(Endpoint(stub.url, "m", concurrency=2), list("abcdefghijkl"))
    assert "sk-secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert len(stub.requests) <= 2, "no further request is made"


def test_an_error_that_is_sent_as_if_all_were_well_is_one_of_this_request():
    overloaded = (200, {}, {"error": {"message": "overloaded, sk-secret", "code": 503}})
    replies = {
        "b": overloaded,
        "c": (200, {}, {"choices": []}),
        "d": (200, {}, completion(None, "content_filter")),
    }
    with serving(lambda body: replies.get(said(body), said(body))) as stub:
        endpoint = Endpoint(stub.url, "m", concurrency=1)  # if "c" came first, it would be no such server
        found = ask(endpoint, ["a", "b", "c", "d", "e"])
    assert [result for _, result in found if isinstance(result, str)] == ["a", "e"]
    problems = [str(result) for _, result in found if isinstance(result, IAError)]
    for problem, text in zip(problems, ["overloaded, ***", "no completion", "filtered"], strict=True):
        assert text in problem


@pytest.mark.parametrize("complaint", ["The model `other` does not exist.", "Not Found"])
def test_a_model_that_is_missing_stops_only_what_asks_for_it(complaint):
    def answer(body):
        return refusal(404, complaint) if body["model"] == "other" else said(body)

    with serving(answer) as stub:
        model = Endpoint(stub.url, "m", concurrency=1)

        async def work(name):
            return await model.reply([{"role": "user", "content": "hi"}], max_new_tokens=5, model=name)

        (_, first), (_, missing), (_, last) = model.in_order(work, ["m", "other", "third"])
        assert (first, last) == ("hi", "hi") and not isinstance(missing, Stop)
        assert "not found" in str(missing) and "/models lists what it has" in str(missing)
        stub.answer = lambda body: refusal(404, complaint)
        with pytest.raises(Stop, match="check --server and --model"):  # its own is not there any more
            ask(model, ["a"])


def test_a_server_that_is_away_stops_the_run(monkeypatch):
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(Stop, match=f"{url}/v1: cannot be reached.*is the server running"):
        ask(Endpoint(url, "m"), ["a"])


def test_what_was_answered_before_a_stop_is_kept():
    barrier = threading.Barrier(4, timeout=20)

    def answer(body):
        barrier.wait()  # all four are there at once
        return refusal(401, **FINAL) if said(body) == "b" else said(body)

    found = []
    with serving(answer) as stub, pytest.raises(Stop):
        model = Endpoint(stub.url, "m", concurrency=4)

        async def work(text):
            return await model.reply([{"role": "user", "content": text}], max_new_tokens=5)

        for result in model.in_order(work, "abcdefgh"):
            found.append(result)
    assert found == [(0, "a"), (2, "c"), (3, "d")]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((200, {}, completion("half a", "length")), "cut short at 5 tokens.*raise --max-new-tokens"),
        (refusal(400, "prompt too long"), "no answer to this request.*prompt too long"),
        (refusal(500, **FINAL), "no answer to this request.*500"),
    ],
)
def test_what_goes_for_one_request_is_its_result(answer, complaint):
    with serving(lambda body: answer if said(body) == "b" else said(body)) as stub:
        (_, a), (_, b), (_, c) = ask(Endpoint(stub.url, "m"), ["a", "b", "c"])
    assert (a, c) == ("a", "c") and isinstance(b, IAError) and not isinstance(b, Stop)
    with pytest.raises(IAError, match=complaint):
        raise b


def test_a_reply_that_takes_too_long_is_its_result(monkeypatch):
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)

    def slow(body):
        time.sleep(1.5 if said(body) == "b" else 0)
        return said(body)

    with serving(slow) as stub:
        (_, a), (_, b) = ask(Endpoint(stub.url, "m", timeout=0.8), ["a", "b"])
    assert a == "a" and "no reply within 0.8 s; raise --timeout" in str(b)


def test_a_reply_that_comes_while_another_is_worked_on_is_not_late(monkeypatch):
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)

    def answer(body):
        time.sleep(0.4 if said(body) in "bc" else 0)
        return said(body)

    found = []
    with serving(answer) as stub:
        model = Endpoint(stub.url, "m", timeout=1, concurrency=2)

        async def work(text):
            return await model.reply([{"role": "user", "content": text}], max_new_tokens=5)

        for index, result in model.in_order(work, "abcd"):
            found.append(result)
            if index == 0:
                time.sleep(1.5)  # longer than a request may take
        assert found == list("abcd") and len(stub.requests) == 4


def test_a_reply_that_comes_drop_by_drop_takes_too_long(monkeypatch):
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)

    def drops():
        while True:
            time.sleep(0.1)
            yield b" "

    with serving(lambda body: (200, {}, drops())) as stub:
        [(_, late)] = ask(Endpoint(stub.url, "m", timeout=0.5), ["a"])
    assert "no reply within 0.5 s; raise --timeout" in str(late)


def without_text(reason: str, **message) -> tuple:
    whole = completion(None, reason)
    whole["choices"][0]["message"] |= message
    return 200, {}, whole


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (without_text("length", reasoning_content="Let me think"), "without text .*length.*raise --max-new"),
        (without_text("stop", reasoning_content="Let me think"), "a reply without text"),
        (without_text("stop", refusal="No."), "a reply without text"),
        (without_text("length", content="", reasoning="Let me think"), "a reply without text"),
        (without_text("tool_calls", tool_calls=[{}]), "a reply without text"),
        ((200, {}, {"choices": [{"finish_reason": "stop"}]}), "this is no OpenAI-compatible server"),
        (
            (200, {}, {"choices": [{"text": "I sing", "finish_reason": "stop"}]}),
            "this is no OpenAI-compatible server",
        ),
        ((200, {}, {"choices": [{"message": "I sing", "finish_reason": "stop"}]}), "this is no OpenAI-comp"),
        ((302, {}, b""), "no answer to this request.*302"),
        (
            (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 99)),
            "v1: its reply is compressed, which was not asked for; turn compression off",
        ),
    ],
)
def test_what_is_no_reply_is_an_error(monkeypatch, answer, complaint):
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)
    with serving(lambda body: answer) as stub, pytest.raises(IAError, match=complaint):
        [(_, found)] = ask(Endpoint(stub.url, "m"), ["a"])
        raise found


def test_a_reply_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr("ia_cli.servers.endpoint.RETRIES", 0)
    monkeypatch.setattr("ia_cli.servers.bounded_http.LARGEST_REPLY", 1 << 20)
    flood = itertools.repeat(b" " * 65536)
    with serving(lambda body: (200, {}, iter(flood)) if said(body) == "a" else said(body)) as stub:
        (_, long), (_, b) = ask(Endpoint(stub.url, "m"), ["a", "b"])
    assert "its reply is longer than 1 MiB; lower --max-new-tokens" in str(long) and b == "b"


def test_a_measurement_may_end_at_its_length():
    with serving(lambda body: (200, {}, completion("half a", "length"))) as stub:
        model = Endpoint(stub.url, "m")
        assert ask(model, ["a"], as_asked=True) == [(0, "half a")] and model.cut_short == 1


def picky(*refused: str):
    """A server that refuses parameters, one at a time, as OpenAI's does."""

    def answer(body):
        for name in refused:
            if name in body:
                return refusal(400, f"Unsupported parameter: '{name}' is not supported with this model.")
        return "fine"

    return answer


def test_parameters_that_a_server_does_not_take_are_given_up_once():
    with serving(picky("max_tokens", "seed", "temperature", "response_format")) as stub:
        model = Endpoint(stub.url, "m", concurrency=1)
        assert ask(model, ["a"] * 3, seed=1, schema={}) == [(i, "fine") for i in range(3)]
        assert len(stub.requests) == 4 + 3
        assert set(stub.requests[-1]) == {"path", "model", "messages", "max_completion_tokens"}


def test_what_is_refused_by_another_name_is_given_up_too():
    """As by vLLM with Mistral's tokenizer, and by Groq."""

    def answer(body):
        if "chat_template_kwargs" in body:
            return refusal(400, "chat_template is not supported for Mistral tokenizers.")
        if "response_format" in body:
            return refusal(400, "This model does not support response format `json_schema`.")
        return "fine"

    with serving(answer) as stub:
        assert ask(Endpoint(stub.url, "m"), ["a"], as_asked=True, schema={}) == [(0, "fine")]


def test_a_value_that_is_refused_is_no_parameter_that_is():
    """One request's reply would not fit; others still say how long theirs may be."""

    def answer(body):
        if body["messages"][0]["content"] == "long":
            named = next(x for x in ("max_tokens", "max_completion_tokens") if x in body)
            return refusal(400, f"'{named}' is too large")
        return "fine" if "max_tokens" in body else "no end"

    with serving(answer) as stub:
        [(_, error), (_, reply)] = ask(Endpoint(stub.url, "m", concurrency=1), ["long", "short"])
    assert "too large" in str(error) and reply == "fine"


def test_requests_that_are_refused_at_once_are_all_asked_again():
    barrier = threading.Barrier(4, timeout=20)

    def answer(body):
        if "top_k" not in body:
            return "seed" if "seed" in body else "none"
        barrier.wait()
        return (
            422,
            {},
            {"detail": "Unexpected fields in the request: {'top_k', 'min_p'}"},
        )  # as FastAPI says it

    with serving(answer) as stub:
        model = Endpoint(stub.url, "m", concurrency=4)
        assert ask(model, list("abcd"), seed=1, as_asked=True) == [(i, "seed") for i in range(4)]
        assert [name in stub.requests[-1] for name in ("top_p", "min_p", "top_k")] == [True, False, False]


def test_an_error_holds_what_the_server_says_in_whatever_form():
    for content in ({"detail": "no such field: x"}, {"error": "no such field: x"}, b"no such field: x"):
        with serving(lambda body, content=content: (422, {}, content)) as stub:
            [(_, result)] = ask(Endpoint(stub.url, "m"), ["a"])
        assert "422 - " in str(result) and "no such field: x" in str(result)


def test_but_not_the_temperature_of_a_measurement():
    with serving(picky("temperature")) as stub:
        [(_, result)] = ask(Endpoint(stub.url, "m"), ["a"], as_asked=True)
    assert "'temperature' is not supported" in str(result)


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/api/paas", "https://host/api/paas"),
    ],
)
def test_v1_is_added_to_a_bare_host(server, url):
    assert Endpoint(server, "m").url == url


@pytest.mark.parametrize(
    ("server", "complaint"),
    [
        ("localhost:8000", "no http or https URL"),
        ("file:///etc/passwd", "no http or https URL"),
        ("http://", "no http or https URL"),
        ("http://host:port", "no http or https URL"),
        ("http://host/\n", "no http or https URL"),
        ("https://me:sk-secret@host/v1", "must not carry a password"),
        ("https://host/v1?key=sk-secret", "must not carry a password"),
    ],
)
def test_what_is_no_server(server, complaint):
    with pytest.raises(IAError, match=complaint) as caught:
        Endpoint(server, "m")
    assert "sk-secret" not in str(caught.value)


def test_a_key_is_sent_without_its_line_break_and_never_told(monkeypatch):
    monkeypatch.setenv("IA_API_KEY", "sk-secret\r\n")
    with serving(said) as stub:
        ask(Endpoint(stub.url, "m"), ["a"])
        assert stub.headers[0]["authorization"] == "Bearer sk-secret"
    for key in ("sk-secret\rx", "sk-s\u00e9cret"):
        monkeypatch.setenv("IA_API_KEY", key)
        with pytest.raises(IAError, match="the key in the environment has line breaks") as caught:
            Endpoint("http://127.0.0.1:1", "m")
        assert "sk-s" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "garbage://x"])
def test_a_proxy_that_cannot_be_used_is_said(monkeypatch, proxy):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Stop, match=r"the proxy cannot be used: .*; correct HTTP_PROXY"):
        ask(Endpoint("http://127.0.0.1:1", "m"), ["a"])


def test_a_name_that_cannot_be_sent_is_refused():
    with pytest.raises(IAError, match="no such model"):
        Endpoint("http://127.0.0.1:1", "\udcff")


def test_a_server_without_a_key_gets_none(monkeypatch):
    monkeypatch.delenv("IA_API_KEY")
    with serving(said) as stub:
        ask(Endpoint(stub.url, "m"), ["a"])
        assert stub.headers[0]["authorization"] == "Bearer none"
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        ask(Endpoint(stub.url, "m"), ["a"])
        assert stub.headers[1]["authorization"] == "Bearer sk-other"
