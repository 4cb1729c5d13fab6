"""A client of three gateways (open, with keys, demonstration): every promise of the interface, with
Python's own HTTP; then the same through OpenAI's library, where it is installed."""
import concurrent.futures
import http.client
import json
import socket
import sys
import urllib.parse

OPEN, KEYED, DEMO = sys.argv[1:4]
PARIS = "The capital of France is Paris."


def call(base, path, body=None, method=None, headers=None):
    """Status, headers and bytes of one request."""
    at = urllib.parse.urlsplit(base)
    c = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    c.request(method or ("POST" if data is not None else "GET"), path, data, headers or {})
    r = c.getresponse()
    out = r.status, dict(r.getheaders()), r.read()
    c.close()
    return out


def chat(body, base=OPEN, expect=200, headers=None):
    body = {"messages": [{"role": "user", "content": "What is the capital of France?"}]} | body
    status, _, data = call(base, "/v1/chat/completions", body, headers=headers)
    assert status == expect, (status, data)
    return json.loads(data)


def stream(body, base=OPEN, path="/v1/chat/completions"):
    status, headers, data = call(base, path, body | {"stream": True})
    assert status == 200, (status, data)
    assert headers["Content-Type"].startswith("text/event-stream")
    events = [e for e in data.decode().split("\n\n") if e and not e.startswith(":")]
    assert events[-1] == "data: [DONE]", events[-1:]
    return [json.loads(e[6:]) for e in events[:-1]]


def ask(text, **more):
    return {"temperature": 0, "messages": [{"role": "user", "content": text}]} | more


def test_answers():
    whole = chat({"temperature": 0})
    choice = whole["choices"][0]
    assert choice["message"]["content"] == PARIS, choice
    assert choice["finish_reason"] == "stop" and whole["object"] == "chat.completion"
    assert whole["model"] == "atlas:q80", whole["model"]
    u = whole["usage"]
    assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] and u["completion_tokens"] > 3

    pieces = stream(ask("What is the capital of France?", stream_options={"include_usage": True}))
    text = "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces if p["choices"])
    assert text == PARIS, text
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    assert pieces[-1]["usage"] == u and pieces[-1]["choices"] == [], pieces[-3:]
    assert pieces[-2]["choices"][0]["finish_reason"] == "stop"
    assert len({p["id"] for p in pieces}) == 1


def test_reasoning():
    q = ask("Which is larger, Brazil or Kenya?")
    m = chat(q)["choices"][0]["message"]
    assert m["content"] == "Brazil is larger." and m["reasoning_content"].startswith("Brazil covers"), m
    pieces = stream(q)
    thought = "".join(p["choices"][0]["delta"].get("reasoning_content", "") for p in pieces)
    assert thought == m["reasoning_content"]
    assert chat(q)["usage"]["completion_tokens_details"]["reasoning_tokens"] > 5
    for off in ({"enable_thinking": False}, {"thinking": {"type": "disabled"}},
                {"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}):
        m = chat(q | off)["choices"][0]["message"]
        assert "reasoning_content" not in m, m


def test_limits_of_an_answer():
    cut = chat(ask("Tell me about Japan.", max_tokens=3))["choices"][0]
    assert cut["finish_reason"] == "length"
    full = chat(ask("What is the capital of France?", enable_thinking=True))["choices"][0]["message"]["content"]
    for stop in ("France", ["zzz", "is Par"], "."):
        one = stop if isinstance(stop, str) else stop[1]
        got = chat(ask("What is the capital of France?", stop=stop))["choices"][0]
        assert got["message"]["content"] == full[:full.index(one)], (stop, got)
        assert got["finish_reason"] == "stop"
        pieces = stream(ask("What is the capital of France?", stop=stop))
        text = "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces)
        assert text == full[:full.index(one)], (stop, text)


def test_sampling():
    q = {"temperature": 1.5, "top_p": 1, "max_tokens": 60, "seed": 5,
         "messages": [{"role": "user", "content": "Tell me about Japan."}]}

    def words(answer):
        return [(c["message"].get("reasoning_content"), c["message"]["content"]) for c in answer["choices"]]

    a, b = chat(q), chat(q)
    assert words(a) == words(b)
    assert words(a) != words(chat(q | {"seed": 6}))
    three = words(chat(q | {"n": 3}))
    assert len(three) == 3 and three[0] == words(a)[0] and three[1] == words(chat(q | {"seed": 6}))[0]
    assert len(set(three)) > 1
    assert words(chat(q | {"top_k": 1})) == words(chat(q | {"temperature": 0}))
    by_choice = {0: "", 1: ""}
    for p in stream(q | {"n": 2, "enable_thinking": False}):
        c = p["choices"][0]
        by_choice[c["index"]] += c["delta"].get("content") or ""
    assert by_choice[0] and by_choice[1]


def test_many():
    """Answers at once are those alone."""
    qs = [ask(t) for t in ("What is the capital of France?", "Tell me about Japan.", "Which countries border Germany?")] * 4
    alone = [chat(q)["choices"][0]["message"] for q in qs[:3]]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda q: chat(q)["choices"][0]["message"], qs))
    assert got == alone * 4
    # more than a node lets one client have (--per-client), for these are users of their own
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        got = list(pool.map(lambda i: chat(qs[i % 3] | {"user": f"u{i % 16}"})["choices"][0]["message"], range(48)))
    assert got == alone * 16


def test_completions():
    status, _, data = call(OPEN, "/v1/completions", {"prompt": "The capital of France", "temperature": 0, "max_tokens": 4})
    assert status == 200, data
    whole = json.loads(data)
    assert whole["object"] == "text_completion" and whole["usage"]["completion_tokens"] == 4, whole
    pieces = stream({"prompt": "The capital of France", "temperature": 0, "max_tokens": 4}, path="/v1/completions")
    assert "".join(p["choices"][0]["text"] for p in pieces) == whole["choices"][0]["text"]


def responses_stream(body):
    status, headers, data = call(OPEN, "/v1/responses", body | {"stream": True})
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream"), (status, data)
    events = []
    for block in data.decode().split("\n\n"):
        if block and not block.startswith(":"):
            name, rest = block.split("\n")
            events.append(json.loads(rest.removeprefix("data: ")))
            assert name == "event: " + events[-1]["type"], block
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    return events


def test_responses():
    q = {"model": "atlas:q80", "input": "Which is larger, Brazil or Kenya?", "temperature": 0}
    status, _, data = call(OPEN, "/v1/responses", q)
    assert status == 200, data
    whole = json.loads(data)
    assert whole["object"] == "response" and whole["status"] == "completed" and whole["id"].startswith("resp_"), whole
    assert [o["type"] for o in whole["output"]] == ["reasoning", "message"], whole["output"]
    chatted = chat({"messages": [{"role": "user", "content": q["input"]}], "temperature": 0})
    m = chatted["choices"][0]["message"]
    assert whole["output"][0]["content"][0]["text"] == m["reasoning_content"]
    assert whole["output"][1]["content"][0]["text"] == m["content"] == "Brazil is larger."
    assert whole["usage"]["output_tokens"] == chatted["usage"]["completion_tokens"], whole["usage"]

    events = responses_stream(q)
    kinds = [e["type"] for e in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed", kinds
    said = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    thought = "".join(e["delta"] for e in events if e["type"] == "response.reasoning_text.delta")
    assert (said, thought) == (m["content"], m["reasoning_content"])
    last = events[-1]["response"]
    assert [o["content"] for o in last["output"]] == [o["content"] for o in whole["output"]] and last["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert [e["item"]["type"] for e in events if e["type"] == "response.output_item.done"] == ["reasoning", "message"]

    # a conversation in items, with instructions, is the chat of the same messages
    parts = [{"type": "input_text", "text": "What is the capital "}, {"type": "input_text", "text": "of Spain?"}]
    items = [{"role": "user", "content": parts}, {"type": "reasoning", "id": "rs_1", "summary": []},
             {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "The capital of Spain is Madrid."}]},
             {"role": "user", "content": "And of France?"}]
    status, _, data = call(OPEN, "/v1/responses", {"input": items, "instructions": "You are Atlas.", "temperature": 0, "reasoning": {"effort": "none"}})
    same = chat({"temperature": 0, "reasoning_effort": "none", "messages": [
        {"role": "system", "content": "You are Atlas."}, {"role": "user", "content": "What is the capital of Spain?"},
        {"role": "assistant", "content": "The capital of Spain is Madrid."}, {"role": "user", "content": "And of France?"}]})
    whole = json.loads(data)
    assert status == 200 and whole["output"][-1]["content"][0]["text"] == same["choices"][0]["message"]["content"], (data, same)
    assert whole["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]

    cut = json.loads(call(OPEN, "/v1/responses", q | {"max_output_tokens": 3})[2])
    assert cut["status"] == "incomplete" and cut["incomplete_details"] == {"reason": "max_output_tokens"}, cut
    tool = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
    tooled = json.loads(call(OPEN, "/v1/responses", q | {"tools": [tool], "max_output_tokens": 1})[2])
    assert tooled["usage"]["input_tokens"] > cut["usage"]["input_tokens"] + 20
    call_and_result = [{"role": "user", "content": "hi"}, {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
                       {"type": "function_call_output", "call_id": "c1", "output": "sunny"}]
    assert call(OPEN, "/v1/responses", {"input": call_and_result, "tools": [tool], "max_output_tokens": 1})[0] == 200
    for more, param in (({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"), ({"store": True}, "store"),
                        ({"background": True}, "background"), ({"prompt": {"id": "p"}}, "prompt"), ({"text": {"format": {"type": "json_object"}}}, "text"),
                        ({"input": []}, "input"), ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input"),
                        ({"max_output_tokens": 0}, "max_output_tokens"), ({"messages": []}, "messages"), ({"reasoning": {"effort": "high"}}, "reasoning"),
                        ({"tools": [{"type": "web_search"}]}, "tools"), ({"temperature": 3}, "temperature"), ({"truncation": "auto"}, "truncation"),
                        ({"include": ["message.output_text.logprobs"]}, "include"), ({"top_logprobs": 2}, "top_logprobs")):
        status, _, data = call(OPEN, "/v1/responses", q | more)
        e = json.loads(data)["error"]
        assert status == 400 and e["param"] == param and param in e["message"], (more, e)
    assert call(OPEN, "/v1/responses", b"[")[0] == 400 and call(OPEN, "/v1/responses", b"[]")[0] == 400


def test_every_parameter():
    """OpenAI's whole list: each is honoured, idle at the value that means nothing, or refused by its name."""
    odd = {"audio": {"voice": "alloy", "format": "wav"}, "function_call": "auto", "functions": [{"name": "f"}], "logit_bias": {"1": 1}, "metadata": {"a": "b"},
           "modalities": ["text", "audio"], "parallel_tool_calls": False, "prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k",
           "prompt_cache_retention": "24h", "reasoning_effort": "low", "response_format": {"type": "json_object"}, "service_tier": "flex", "store": True,
           "tool_choice": "required", "verbosity": "low", "web_search_options": {}}
    for name, value in odd.items():
        e = chat({name: value}, expect=400)["error"]
        assert e["param"] == name and name in e["message"] and e["type"] == "invalid_request_error", e
    for name, value in {"best_of": 2, "echo": True, "suffix": "x", "logit_bias": {"1": 1}, "messages": []}.items():
        status, _, data = call(OPEN, "/v1/completions", {"prompt": "x", "max_tokens": 1, name: value})
        assert status == 400 and json.loads(data)["error"]["param"] == name, (name, data)
    idle = {name: None for name in odd} | {"parallel_tool_calls": True, "store": False, "service_tier": "auto", "logit_bias": {}, "tool_choice": "none",
                                           "response_format": {"type": "text"}, "user": "u", "safety_identifier": "s"}
    assert chat(idle | {"temperature": 0})["choices"][0]["message"]["content"] == PARIS


def test_refusals():
    for more, param in (({"top_logprobs": 3}, "top_logprobs"), ({"frequency_penalty": 3}, "frequency_penalty"),
                        ({"nonsense": 1}, "nonsense"), ({"n": 99}, "n"), ({"temperature": -1}, "temperature")):
        e = chat(more, expect=400)["error"]
        assert e["param"] == param and e["type"] == "invalid_request_error" and param in e["message"], e
    e = chat({"model": "gpt-5"}, expect=404)["error"]
    assert e["code"] == "model_not_found" and "gpt-5" in e["message"], e
    e = chat({"messages": [{"role": "emperor", "content": "x"}]}, expect=400)["error"]
    assert e["message"], e
    long = "word " * 60000
    assert chat(ask(long), expect=400)["error"]["code"] == "context_length_exceeded"
    assert call(OPEN, "/v1/chat/completions", b"{")[0] == 400
    assert call(OPEN, "/v1/chat/completions", b"x" * (2 << 20))[0] == 413
    assert call(OPEN, "/v1/nothing")[0] == 404
    assert call(OPEN, "/v1/chat/completions")[0] == 405
    assert call(OPEN, "/v1/models", b"{}")[0] == 405


def test_keys():
    assert chat({}, KEYED, 401)["error"]["code"] == "invalid_api_key"
    assert chat({}, KEYED, 401, {"Authorization": "Bearer secret-key-of-anna-2"})["error"]["code"] == "invalid_api_key"
    anna, ben = ({"Authorization": "Bearer " + k} for k in ("secret-key-of-anna-1", "secret-key-of-ben-2"))
    for _ in range(3):
        chat({"max_tokens": 2}, KEYED, headers=anna)
    status, headers, data = call(KEYED, "/v1/chat/completions", ask("hi", max_tokens=2), headers=anna)
    assert status == 429 and int(headers["Retry-After"]) > 0, (status, headers, data)
    assert json.loads(data)["error"]["type"] == "rate_limit_error"
    chat({"max_tokens": 2}, KEYED, headers=ben)
    assert call(KEYED, "/v1/models")[0] == 401
    assert call(KEYED, "/health")[0] == 200


def test_demo():
    for _ in range(10):
        chat({"max_tokens": 2}, DEMO)
    assert chat({"max_tokens": 2}, DEMO, 429)["error"]["code"] == "rate_limit_exceeded"
    # Behind a trusted proxy each client has his own ten, and what a client claims of himself changes nothing.
    for i in range(10):
        chat({"max_tokens": 2}, DEMO, headers={"X-Forwarded-For": f"192.0.2.{i}, 198.51.100.7"})
    for claim in ("192.0.2.77, 198.51.100.7", "198.51.100.7"):
        chat({"max_tokens": 2}, DEMO, 429, {"X-Forwarded-For": claim})
    at = urllib.parse.urlsplit(DEMO)
    for want, last in ((429, "198.51.100.7"), (200, "198.51.100.8")):  # the header twice: the last one counts
        c = http.client.HTTPConnection(at.hostname, at.port, timeout=60)
        body = json.dumps(ask("hi", max_tokens=2)).encode()
        c.putrequest("POST", "/v1/chat/completions")
        for value in ("203.0.113.1", last):
            c.putheader("X-Forwarded-For", value)
        c.putheader("Content-Length", str(len(body)))
        c.endheaders(body)
        assert c.getresponse().status == want, last
        c.close()
    chat({"max_tokens": 2}, DEMO, headers={"X-Forwarded-For": "2001:db8::1"})
    _, headers, _ = call(DEMO, "/v1/models")
    assert headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert call(DEMO, "/v1/chat/completions", method="OPTIONS")[0] == 204
    _, headers, _ = call(OPEN, "/v1/models")
    assert "Access-Control-Allow-Origin" not in headers


def test_lists():
    models = json.loads(call(OPEN, "/v1/models")[2])
    assert [m["id"] for m in models["data"]] == ["atlas:q80"], models
    health = json.loads(call(OPEN, "/health")[2])
    assert health["status"] == "ok", health
    text = call(OPEN, "/metrics")[2].decode()
    values = dict(l.rsplit(" ", 1) for l in text.splitlines() if not l.startswith("#"))
    assert float(values["swarm_gateway_tokens_total"]) > 100
    assert float(values["swarm_gateway_first_token_seconds_count"]) > 10
    assert float(values["swarm_gateway_in_flight"]) == 0, values
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            assert line.split()[3] in ("counter", "gauge", "histogram")


def test_tools():
    """atlas was not taught to call functions: what is checked is that they reach the prompt."""
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
    without = chat(ask("hi", max_tokens=1))["usage"]["prompt_tokens"]
    with_tools = chat(ask("hi", max_tokens=1, tools=[tool]))["usage"]["prompt_tokens"]
    none = chat(ask("hi", max_tokens=1, tools=[tool], tool_choice="none"))["usage"]["prompt_tokens"]
    assert with_tools > without + 20 and none == without, (without, with_tools, none)


def test_foreign_pages():
    """A web site that somebody of this machine looks at may not ask a gateway without keys."""
    rebound, page = {"Host": "evil.example"}, {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    for headers in (rebound, page, {"Origin": "null"}):
        assert chat({}, OPEN, 403, headers)["error"]["code"] == "foreign_page", headers
        assert call(OPEN, "/swarm/map", headers=headers)[0] == 403
    chat({"max_tokens": 2}, OPEN, 200, {"Origin": "http://" + urllib.parse.urlsplit(OPEN).netloc})
    assert chat({}, KEYED, 401, rebound)  # there the key decides


def test_bad_clients():
    """Garbage, half requests, and clients that hang up; afterwards it serves as before."""
    at = urllib.parse.urlsplit(OPEN)
    for junk in (b"\x00\xff" * 50, b"GET\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 10\r\n\r\n{",
                 b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                 b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"):
        s = socket.create_connection((at.hostname, at.port))
        s.sendall(junk)
        s.close()
    body = json.dumps(ask("Tell me about Japan.", stream=True)).encode()
    for _ in range(20):
        s = socket.create_connection((at.hostname, at.port))
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        s.close()
    assert chat({"temperature": 0})["choices"][0]["message"]["content"] == PARIS


def test_openai_library():
    try:
        import openai
    except ImportError:
        print("SKIPPED: OpenAI's library is not installed")
        return
    client = openai.OpenAI(base_url=OPEN, api_key="none", max_retries=0)
    q = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat.completions.create(model="atlas:q80", messages=q, temperature=0)
    assert whole.choices[0].message.content == PARIS
    text = ""
    for piece in client.chat.completions.create(model="atlas:q80", messages=q, temperature=0, stream=True):
        text += piece.choices[0].delta.content or ""
    assert text == PARIS
    assert [m.id for m in client.models.list()] == ["atlas:q80"]
    answer = client.responses.create(model="atlas:q80", input=q[0]["content"], temperature=0)
    assert answer.output_text == PARIS and answer.status == "completed"
    text = ""
    for event in client.responses.create(model="atlas:q80", input=q, temperature=0, stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
    assert text == PARIS and event.type == "response.completed" and event.response.output_text == PARIS
    with client.responses.stream(model="atlas:q80", input=q, temperature=0) as s:
        assert s.get_final_response().output_text == PARIS
    try:
        client.chat.completions.create(model="atlas:q80", messages=q, presence_penalty=3)
        raise AssertionError("not refused")
    except openai.BadRequestError as e:
        assert e.param == "presence_penalty"


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print("ok", name)
