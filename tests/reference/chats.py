"""Random conversations as our chat forms write them, and as Jinja does.

The templates in templates/ say the published rules in another language than ours.  The published
files themselves, where one has them: SWARM_TEMPLATES names a folder with any of glm-4.5.jinja,
glm-4.jinja and intellect-3.jinja, which are compared as well.
"""

import json
import os

from jinja2.sandbox import ImmutableSandboxedEnvironment

from common import Wrong, seeded
from tokens import any_char

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'templates')
ATLAS = os.path.join(HERE, '..', '..', '..', 'models', 'atlas', 'chat_template.jinja')


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """As transformers has it, not as Jinja does."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters['tojson'] = tojson

TEXTS = [
    '',
    'Hi',
    '  pad  ',
    '\n\nx\n',
    '\n',
    'a</think>b',
    '<think>r</think>\nc',
    '<think>\n\nq\n</think>\n\nz\n\n',
    'x<think>y</think>z</think>w',
    '<think>open',
    'a<think>b<think>c</think>',
    '你好 🦙',
    '/nothink',
    'foo/nothink',
    'foo/nothink ',
    '\x1c s\x1d',
    '\u3000wide\xa0',
    '"q" \\ \t',
    '<|user|>',
    '</think>',
    '<think>',
    '\r\n',
    '\x85',
    '<|im_end|>',
    '{{ 7 * 7 }}',
    '{% raw %}',
    '</tool_call>',
    '\u2028',
    'e\u0301',
    '[gMASK]',
    "it's",
    '\x00',
]


def text(r):
    if r.random() < 0.1:
        return ''.join(any_char(r) for _ in range(r.randint(1, 9)))
    return r.choice(TEXTS) + (r.choice(TEXTS) if r.random() < 0.2 else '')


def value(r, depth=0):
    x = r.random()
    if x < 0.35:
        return text(r)
    if x < 0.5:
        return r.choice([0, -5, 10**12, 7, 2**70])
    if x < 0.6:
        return r.choice([1.5, 0.25, 1e-05, 1e20, -0.0, 3.0])
    if x < 0.75:
        return r.choice([True, False, None])
    if depth > 2:
        return 'deep'
    if x < 0.87:
        return [value(r, depth + 1) for _ in range(r.randint(0, 3))]
    return {
        r.choice(['a', 'b', 'k y', 'é', '"', 'type']) + str(i): value(r, depth + 1)
        for i in range(r.randint(0, 3))
    }


def call(r):
    f = {'name': r.choice(['get_weather', 'b', 'n m', 'é'])}
    if r.random() < 0.9:
        f['arguments'] = {k: value(r) for k in r.sample(['city', 'n', 'x y', 'é', 't'], r.randint(0, 4))}
    return r.choice([f, {'type': 'function', 'id': 'c', 'function': f}])


def parts(r):
    return [r.choice([{'type': 'text', 'text': text(r)}, text(r)]) for _ in range(r.randint(0, 3))]


def schema(r):
    p = {}
    for name in r.sample(['city', 'n', 'é'], r.randint(0, 3)):
        p[name] = {}
        if r.random() < 0.8:
            p[name]['type'] = r.choice(['string', 'integer', ['string', 'null']])
        if r.random() < 0.5:
            p[name]['description'] = text(r)
        if r.random() < 0.4:
            p[name][r.choice(['enum', 'default', 'minimum', 'nullable'])] = value(r, 2)
    out = {'type': 'object', 'properties': p}
    if r.random() < 0.5:
        out['required'] = list(p)
    if r.random() < 0.3:
        out['additionalProperties'] = r.random() < 0.5
    return out


def tool(r):
    f = {'name': r.choice(['get_weather', 'b', 'n m'])}
    if r.random() < 0.7:
        f['description'] = text(r)
    if r.random() < 0.8:
        f['parameters'] = schema(r)
    if r.random() < 0.2:
        f['strict'] = r.random() < 0.5
    return {'type': 'function', 'function': f} if r.random() < 0.8 else f


def conversation(r, form):
    """What the form knows; other roles and parts are refused by ours, and ignored by templates."""
    observation = 'observation' if form == 'glm-4' else 'tool'
    messages = []
    for _ in range(r.randint(1, 7)):
        role = r.choice(['user', 'user', 'assistant', 'assistant', observation, 'system'])
        m = {'role': role, 'content': text(r)}
        if form == 'glm-4.5' and role != 'tool' and r.random() < 0.15:
            m['content'] = parts(r)
        if form == 'glm-4.5' and role == 'tool' and r.random() < 0.15:
            m['content'] = [r.choice([{'output': text(r)}, text(r)]) for _ in range(r.randint(0, 3))]
        if role == 'assistant' and form == 'glm-4' and r.random() < 0.4:
            m['metadata'] = r.choice(['fn', '', 'get_weather'])
        if role == 'assistant' and form == 'intellect-3' and '</think>' in m['content']:
            m['content'] = 'answer'
        if role == 'assistant' and form != 'glm-4':
            if r.random() < 0.4:
                m['reasoning_content'] = text(r)
            if r.random() < 0.4:
                m['tool_calls'] = [call(r) for _ in range(r.randint(0, 3))]
        messages.append(m)
    out = {'messages': messages, 'add_generation_prompt': r.random() < 0.7}
    if form == 'glm-4.5' and r.random() < 0.6:
        out['enable_thinking'] = r.random() < 0.5
    if r.random() < 0.4:
        out['tools'] = [tool(r) for _ in range(r.randint(0, 3))]
    return out


def simple(r):
    """What the demonstration model's template knows: its texts are what it was taught."""
    out = {
        'messages': [
            {
                'role': r.choice(['user', 'assistant', 'system']),
                'content': r.choice(['Hi', 'x y', 'foo/nothink', '你好']),
            }
            for _ in range(r.randint(1, 7))
        ],
        'add_generation_prompt': r.random() < 0.7,
    }
    if r.random() < 0.6:
        out['enable_thinking'] = r.random() < 0.5
    return out


def templates():
    found = [
        (f, os.path.join(d, f + '.jinja'))
        for d in (HERE, os.environ.get('SWARM_TEMPLATES'))
        if d
        for f in ('glm-4.5', 'glm-4', 'intellect-3')
    ]
    return [(f, p, lambda r, f=f: conversation(r, f)) for f, p in found if os.path.exists(p)] + [
        ('glm-4.5', ATLAS, simple)
    ]


def one(tools, seed, dir_, seen, n=50):
    r = seeded('chats', seed)
    for form, path, draw in templates():
        with open(path, encoding='utf-8') as f:
            template = ENVIRONMENT.from_string(f.read())
        asked = [draw(r) for _ in range(n)]
        for c, got in zip(asked, tools.lines(asked, 'swarm-eval', 'chat', '--form', form)):
            want = template.render(**c)
            if want != got['rendered']:
                raise Wrong('%s: %s\n  they %r\n  we   %r' % (path, json.dumps(c), want, got['rendered']))
        seen[path] = seen.get(path, 0) + n


def summary(seen):
    return 'equal: ' + ', '.join('%d by %s' % (n, '/'.join(p.split('/')[-2:])) for p, n in seen.items())
