"""rules.py FILE: writes rules.jsonl, what jinja2 (3.1.6) makes of small templates in the
environment that transformers sets up for chat templates. Needs the jinja2 package."""
import sys
import json, jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.ext import Extension
from jinja2 import nodes
class Tracker(Extension):
    tags={"generation"}
    def parse(self,parser):
        lineno=next(parser.stream).lineno
        body=parser.parse_statements(["name:endgeneration"],drop_needle=True)
        return nodes.CallBlock(self.call_method("_s"),[],[],body).set_lineno(lineno)
    def _s(self,caller): return caller()
def raise_exception(m): raise jinja2.exceptions.TemplateError(m)
def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
def strftime_now(f):
    import datetime; return datetime.datetime.now().strftime(f)
env=ImmutableSandboxedEnvironment(trim_blocks=True,lstrip_blocks=True,extensions=[Tracker,"jinja2.ext.loopcontrols"])
env.filters["tojson"]=tojson
env.globals["raise_exception"]=raise_exception
env.globals["strftime_now"]=strftime_now
def run(source, ctx):
    try:
        t=env.from_string(source)
    except Exception as e:
        return ('syntax', str(e))
    try:
        return ('ok', t.render(**ctx))
    except Exception as e:
        return ('error', type(e).__name__+": "+str(e))

C={"s":"  Grüße, Welt!\n","n":None,"t":True,"f":False,"i":7,"neg":-7,"x":2.5,"one":1.0,"big":1e22,"small":1.5e-7,"max":9223372036854775807,
 "list":[1,"two",3.0,None,True,["a",{"b":"c'd"}]],"d":{"name":"N","items":[1,2],"get":"G","ключ":"значение","k\"q":"a\\b\n\t\u0001\u007f😀"},
 "nums":[3,1,2],"words":["alpha","beta","gamma"],"empty":"","none_list":[],"people":[{"n":"A","age":3,"ok":True},{"n":"B","age":5,"ok":False},{"n":"C","age":3}],
 "deep":{"a":{"b":{"c":[10,20]}}},"e":{}}
T=r'''
{{ s }}|{{ n }}|{{ t }}|{{ f }}|{{ i }}|{{ x }}|{{ one }}|{{ big }}|{{ small }}|{{ max }}
{{ 1.0 }} {{ 100000.0 }} {{ 1e15 }} {{ 1e16 }} {{ 1.5e300 }} {{ 0.0001 }} {{ 0.00001 }} {{ 123456789.125 }} {{ 0.1 + 0.2 }} {{ -0.0 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }} {{ 2.0 ** 70 }}
{{ list }}|{{ d }}|{{ deep }}|{{ e }}|{{ none_list }}|{{ () }}|{{ (1,) }}|{{ 1, 2 }}
{{ list | tojson }}|{{ d | tojson }}|{{ deep | tojson(indent=2) }}|{{ e | tojson }}|{{ none_list | tojson(indent=4) }}
{{ d | tojson(ensure_ascii=true) }}|{{ d|tojson(sort_keys=True) }}|{{ nums | tojson(separators=(',', ':')) }}|{{ list|tojson(indent='\t') }}
{{ [1.0, 1e22, 1.5e-7, 100000, 0.1, 2.5, -7, true, none, "ü\u2028/<>&'"] | tojson }}
{{ {1: 'a', none: 2, true: 3, 2.5: 4} | tojson }}
{{ undefined_name }}|{{ undefined_name is defined }}|{{ d.nothing }}|{{ d.nothing is undefined }}|{{ d['nothing'] }}|{{ words[9] }}|{{ words[-1] }}|{{ words[-9] is defined }}
{{ undefined_name.attribute }}
{{ d.nothing.more }}
{{ words[5].role }}
{{ 'a' + undefined_name }}
{{ undefined_name + 'a' }}
{{ undefined_name | length }}|{{ undefined_name | list }}|{{ undefined_name == undefined_two }}|{{ undefined_name == none }}|{{ not undefined_name }}|{{ undefined_name is iterable }}|{{ undefined_name is sequence }}|{{ undefined_name is mapping }}|{{ undefined_name is string }}
{{ undefined_name | tojson }}
{{ undefined_name < 1 }}
{{ undefined_name in words }}|{{ 'a' in undefined_name }}|{{ undefined_name in d }}
{{ undefined_name in 'abc' }}
{{ undefined_name[0] }}
{{ n.foo }}|{{ i.foo }}|{{ s.foo is defined }}
{{ n.foo.bar }}
{{ 'x' ~ undefined_name ~ n ~ 1 ~ 2.0 ~ [1] ~ t }}
{{ 'content: ' + n }}
{{ 1 + '1' }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 3 * 1.5 }} {{ 2 * 3 + 4 * 5 - 1 }} {{ (2 + 3) * 4 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ +3 }} {{ - 3 + 1 }} {{ true + 1 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 'ab' * 3 }}|{{ 3 * 'ab' }}|{{ [1] * 2 + [2] }}|{{ (1,2) + (3,) }}|{{ 'ab' * -1 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ 'B' < 'a' }} {{ [1,2] < [1,3] }} {{ (1,) == [1] }} {{ 'é' > 'z' }} {{ 1 != 2 != 1 }}
{{ 1 < 'a' }}
{{ n < 1 }}
{{ 'ell' in 'hello' }} {{ 'x' not in 'hello' }} {{ '' in '' }} {{ 1 in [1.0] }} {{ 'name' in d }} {{ 'b' in deep.a }} {{ 2 in (1,2) }} {{ not 1 in [2] }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ n in none_list }}|{{ 'a' in n }}
{{ t and 'yes' or 'no' }}|{{ f or n or 'last' }}|{{ f and 1 }}|{{ not t }}|{{ not none_list }}|{{ '' or 0 or [] or {} }}
{{ 'a' if t else 'b' }}|{{ 'a' if f else 'b' }}|{{ 'a' if f }}|{{ ('a' if f) is defined }}|{{ 1 if f else 2 if f else 3 }}
{{ nums[::-1] }} {{ nums[1:] }} {{ nums[:-1] }} {{ nums[-2:] }} {{ nums[::2] }} {{ nums[5:] }} {{ nums[2:0:-1] }} {{ nums[:] }} {{ nums[-100:100] }} {{ nums[100:-100:-1] }} {{ nums[none:2] }}
{{ 'Grüße😀'[::-1] }} {{ 'Grüße😀'[2] }} {{ 'Grüße😀'[-1] }} {{ 'Grüße😀'[1:4] }} {{ 'Grüße😀'[:-1] }} {{ 'Grüße😀'[::2] }} {{ 'Grüße😀' | length }} {{ (1,2,3)[1:] }} {{ 'abc'[5] is defined }}
{{ nums[::0] }}
{{ n[1:] }}
{{ d[1:] }}
{{ nums['a':] }}
{{ undefined_name[::-1] }}
{{ nums.0 }} {{ deep.a.b.c.1 }} {{ deep['a']['b'].c[0] }} {{ d['ключ'] }} {{ d['items'] }} {{ d['get'] }} {{ nums['x'] is defined }} {{ nums[1.5] is defined }} {{ d[1] is defined }} {{ nums[true] }}
{{ d.items is defined }} {{ d.items is string }} {{ d.items is mapping }} {{ d.items is iterable }} {{ d.get is callable }} {{ s.strip is defined }} {{ d['keys'] is defined }} {{ 'x' if d.items else 'y' }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{{ d.keys() | list }}|{{ deep.values() | list }}|{{ d.get('name') }}|{{ d.get('zzz') }}|{{ d.get('zzz', 5) }}|{{ d.items() | length }}|{{ d.keys() is sequence }}|{{ d.items() is iterable }}
{% for k, v in deep | items %}{{ k }}{{ v }}{% endfor %}|{% for k in d %}{{ k }},{% endfor %}|{{ undefined_name | items | list }}
{{ s | items | list }}
{% for k, v in s | items %}x{% endfor %}
{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip('\n!') }}|{{ s | trim }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy' | trim('xy') }}|{{ n | trim }}|{{ '\u3000a\u00a0\u2003' | trim }}|{{ 'äbä'.strip('ä') }}|{{ ''.strip() }}
{{ s.upper() }}|{{ s.lower() }}|{{ s | upper }}|{{ 'straße' | upper }}|{{ 'ÀÉ' | lower }}|{{ 'hELLO wORLD' | capitalize }}|{{ 'éa'.capitalize() }}
{{ 'a,b,,c'.split(',') }}|{{ 'a b  c '.split() }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ ''.split(',') }}|{{ ''.split() }}|{{ 'abc'.split('abc') }}|{{ ' a  b c '.split(none, 1) }}|{{ 'a--b--c'.rsplit('--') }}|{{ 'abc'.split('x') }}|{{ 'aXbXc'.split('X')[-1] }}|{{ 'a b c'.split(maxsplit=1) }}
{{ 'a'.split('') }}
{{ 'one\ntwo\r\nthree\x0bfour\n'.splitlines() }}|{{ 'a\n\nb'.splitlines(true) }}|{{ ''.splitlines() }}
{{ 'aaa'.replace('a','b') }}|{{ 'aaa'.replace('a','b',2) }}|{{ 'aaa' | replace('aa','b') }}|{{ 'abc'.replace('','-') }}|{{ 'ü'.replace('','-') }}|{{ 121 | replace(1, 3) }}|{{ 'abc'.replace('b','') }}|{{ ''.replace('','x') }}|{{ 'aaaa'|replace('a','b',1) }}
{{ 'hello'.startswith('he') }} {{ 'hello'.endswith('lo') }} {{ 'hello'.startswith(('x','h')) }} {{ 'hello'.endswith('') }} {{ ''.startswith('a') }} {{ 'hello'.find('l') }} {{ 'hello'.find('z') }} {{ 'Grüße'.find('ß') }} {{ 'banana'.count('an') }} {{ 'abc'.count('') }}
{{ ', '.join(words) }}|{{ words | join }}|{{ words | join(', ') }}|{{ nums | join('-') }}|{{ people | join('+', attribute='n') }}|{{ 'abc' | join('.') }}|{{ [none, 1.0, undefined_name] | join('/') }}
{{ ', '.join(nums) }}
{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.py'.removesuffix('.py') }}|{{ 'x'.removesuffix('') }}
{{ n.strip() }}
{{ d.strip() }}
{{ i.startswith('a') }}
{{ nums.items() }}
{{ undefined_name.strip() }}
{{ words | first }}|{{ words | last }}|{{ '' | first }}|{{ (none_list | last) is defined }}|{{ 'xyz' | last }}|{{ d | first }}|{{ nums | length }}|{{ d | count }}|{{ '' | length }}
{{ i | length }}
{{ n | length }}
{{ undefined_name | default('D') }}|{{ n | default('D') }}|{{ '' | default('D', true) }}|{{ '' | default('D') }}|{{ undefined_name | d }}|{{ n|default('x', boolean=true) }}|{{ d.zzz | default(d.name) }}
{{ 'abc' | list }}|{{ d | list }}|{{ 'abc' | reverse }}|{{ nums | reverse | list }}|{{ range(3) | list }}|{{ range(2, 8, 3) | list }}|{{ range(5, 0, -2) | list }}|{{ range(0) | list }}
{{ '42' | int }} {{ ' 42 ' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }} {{ '3.9' | int }} {{ '2.5' | float }} {{ 'x' | float }} {{ 2 | float }} {{ true | int }} {{ -3.9 | int }} {{ '1e3'|float }}
{{ people | map(attribute='n') | list }}|{{ people | selectattr('ok') | map(attribute='n') | join(',') }}|{{ people | selectattr('age', 'equalto', 3) | list | length }}|{{ people | rejectattr('ok', 'defined') | map(attribute='n') | list }}|{{ nums | select('odd') | list }}|{{ nums | reject('gt', 1) | list }}|{{ words | map('upper') | list }}|{{ people | map(attribute='ok', default='?') | list }}|{{ [0,1,'',2] | select | list }}
{{ people | selectattr('age', '==', 5) | map(attribute='n') | first }}|{{ (people | selectattr('n','in',['A','C']) | list)[-1].n }}
{% set g = words | map('upper') %}{% for a in g %}{{ a }}{% endfor %}{% for a in g %}{{ a }}{% endfor %}.{{ 'T' if g else 'F' }}
{{ i is number }} {{ x is number }} {{ t is number }} {{ s is number }} {{ i is integer }} {{ t is integer }} {{ x is float }} {{ t is boolean }} {{ i is boolean }} {{ t is true }} {{ 1 is true }} {{ f is false }} {{ n is none }} {{ n is defined }} {{ s is string }} {{ d is mapping }} {{ nums is mapping }} {{ nums is sequence }} {{ s is sequence }} {{ d is sequence }} {{ i is sequence }} {{ n is iterable }} {{ s is iterable }} {{ i is odd }} {{ i is even }} {{ i is divisibleby 7 }} {{ i is divisibleby(2) }} {{ i is eq 7 }} {{ i is ne(7) }} {{ i is lt 8 }} {{ i is ge 8 }} {{ 1 is in nums }} {{ i is not none }} {{ s is not string }} {{ i is not odd }}
{{ nums is not mapping and nums is iterable }} {{ s is string and s is defined }} {{ n is none or f }} {{ 'a' if n is none else 'b' }} {{ not n is none }} {{ s is defined == true }}
{{ 'a' is odd }}
{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}[{{ loop.previtem }},{{ loop.nextitem }}];{% endfor %}
{% for x in nums %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.foo is defined }}{{ loop['index'] }}{% for y in 'ab' %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
{% for x in nums %}{{ loop.previtem.role }}{% endfor %}
{% for x in none_list %}a{% else %}none{% endfor %}|{% for x in nums if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}|{% for x in nums if x > 9 %}x{% else %}no{% endfor %}|{% for x in undefined_name %}x{% else %}u{% endfor %}
{% for x in i %}{% endfor %}
{% for x in n %}{% endfor %}
{% for a, b in [(1,2),[3,4],'xy'] %}{{ a }}-{{ b }} {% endfor %}|{% for (a, b) in [(1,2)] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in nums %}{% endfor %}
{% for a, b in [(1,2,3)] %}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}!{% for a in 'ab' %}{% for b in 'cd' %}{% if b == 'd' %}{% break %}{% endif %}{{ a }}{{ b }}{% endfor %}{% endfor %}
{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}|{% if t %}{% set x = 9 %}{% endif %}{{ x }}|{% for i in [1,2] %}{% if i == 2 %}{% set q = 5 %}{% endif %}{{ q }};{% endfor %}{{ q is defined }}
{% for i in [1] %}{{ i }}{% endfor %}{{ i }}
{% set ns = namespace(a=1, b='x') %}{% for q in nums %}{% set ns.a = ns.a + q %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{% set ns.c = 3 %}{{ ns.c }}{{ ns['a'] }}{% set u = namespace() %}{{ u.x is defined }}
{% set d.name = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, %}{{ c }}{% set (p, q) = (3, 4) %}{{ p }}{{ q }}
{% set a, b = [1] %}
{% set z %}  block {{ i }} {% set inner = 2 %}{% endset %}[{{ z }}]{{ inner is defined }}{% set k %}{% endset %}[{{ k }}]{{ z is string }}
{% macro m(a, b='B', c=a) %}<{{ a }}|{{ b }}|{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=2, a=0) }}{{ m() }}{{ m('x') | length }}{{ m(1) is string }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m(a) %}{{ a }}{{ later }}{{ i }}{% endmacro %}{% set later = 'L' %}{{ m(1) }}
{% macro m(a) %}{{ a }}{{ later }}{{ i }}{% set a = 5 %}{{ a }}{% set leak = 1 %}{% endmacro %}{% set later = 'L' %}{{ m(1) }}{{ leak is defined }}{{ m is callable }}
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}{% macro g(l) %}{% for q in l %}{{ loop.index }}{% endfor %}{% endmacro %}{% for p in 'ab' %}{{ g(nums) }}{{ loop.index }}{% endfor %}
{% for x in 'ab' %}{% macro m() %}{{ x }}{{ loop is defined }}{% endmacro %}{{ m() }}{% endfor %}
{% generation %}  gen {{ i }}{% set gg = 1 %}{% endgeneration %}{{ gg is defined }}
{# comment #}a{#- x -#}  b {# c #}
{{ "a" "b" 'c' }}|{{ "\"q\" \\ \t \x41 \u00e9 \U0001F600 \101 \d \/" }}|{{ 'it''s' }}|{{ 'multi⏎line' }}|{{ '\n' | tojson }}|{{ 'a\⏎b' }}
{{ 1_000 }} {{ 1_0.5 }} {{ 0 }} {{ 1e3 }} {{ 1.5e-3 }} {{ 1E2 }} {{ [1,2,] }} {{ {'a': 1,} }} {{ {'a': {'b': 1}}.a.b }} {{ [] }}{{ {} }}
{{ (1, 2)[0] }}{{ [1,2][1] }}{{ 'abc'[0] }}{{ {'a': 5}['a'] }}{{ ('a' ~ 'b') | upper }}{{ 'a' ~ 'b' | upper }}{{ -3 | string }}{{ 1 + 2 | string | length }}
{{ ['a', "it's", 'say "x"', 'both \' and "', '\\', '\n\t\r', '\x07', 'é', '\u200b', '\xa0', '😀'] }}
{{ range is defined }} {{ strftime_now is defined }} {{ raise_exception is defined }} {{ nothing is defined }} {{ namespace is callable }} {{ dict(a=1, b='x') }} {{ dict(a=1).a }}
{{ raise_exception('stop: ' ~ i) }}
{{ raise_exception(n) }}
{{ t | string }} {{ n | string }} {{ 1.0 | string }} {{ list | string }} {{ undefined_name | string }} {{ 'x' | safe }} {{ ('<' ~ 'b' | safe) }}
{% if f %}a{% elif n %}b{% elif i == 7 %}c{% else %}d{% endif %}{% if f %}x{% endif %}{% if not f %}y{% endif %}{% if nums and d and s and not e %}z{% endif %}
{% if 1 == 1.0 and "a" != "b" or undefined_name.x.y %}ok{% endif %}
{% for x in d.zzz or [] %}a{% else %}b{% endfor %}{% for m in (people if t else []) %}{{ m.n }}{% endfor %}{% for m in people[:2] + people[2:] %}{{ m['n'] }}{% endfor %}
{{ people[0].age + people[1]['age'] * 2 }} {{ (people | length - 1) - 1 }} {{ people|length - 1 }} {{ people[people|length - 1].n }}
{{ max + 0 }}{{ max - 1 }}
{{ [[1,2],[3]] == [[1,2],[3]] }} {{ {'a':1,'b':2} == {'b':2,'a':1} }} {{ none == none }} {{ 'a' == 1 }} {{ [] == () }} {{ people[0] == people[0] }}
{{ ([1,2,3])|tojson|length }}{{ d.name|lower|upper|trim|length }}{{ "%s" }}
{{ 'abc'.foo is defined }}{{ nums.foo is defined }}{{ t.foo is defined }}{{ d.name.foo is defined }}
{% set loop_messages = people[1:] %}{%- for m in loop_messages -%} {{ m.n }} {%- endfor -%} end
'''
# templates whose layout matters
L=["a\n  {% if t %}\n  b\n  {% endif %}\nc\n","a\n  {%+ if t %}\n  b\n  {%+ endif +%}\nc\n","a  {%- if t -%}  b  {%- endif -%}  c","\n\n{{ i }}\n\n","{{ i }}\n","{{ i }}","\n","","x\r\n{% if t %}\r\ny\r\n{% endif %}\r\nz\rw",
"  {# c #}\n  x","a {# c #} b\n {# d #}\nc","{#- c -#}\n x","a\n\n  {#- c #}\n  b","{% if t %}\n\n\nx\n{% endif %}\n\n","  {{ i }}  \n  {{- i }}  \n","{{ i -}}  \n\n  x","a\t{% if t %}b{% endif %}\n\t{% if t %}c{% endif %}",
"{% set a = 1 %}\n{% set b = 2 %}\n{{ a }}{{ b }}\n","x {% set a = 1 -%}\n\n y","{%- set a = 1 %}\n\n y","{% set a = 1 +%}\n y","a\u3000{%- if t %}b{% endif %}","\u2003{% if t %}b{% endif %}","x\n\u2003{% if t %}b{% endif %}",
"{%if t%}x{%endif%}","{{i}}{{ i}}{{i }}","{%-if t-%} x {%-endif-%}","{{ '}}' }}{{ '%}' }}{{ {'a': {'b': 1}} }}{{ {'a':{}}}}","{ { i } } {x} { %","{{ i }}%}}}#}","{{\n i\n +\n 1 }}","{% for x in nums %}\n  {{ x }}\n{% endfor %}\n","{% for x in nums -%}\n  {{ x }}\n{%- endfor %}\n",
"{% for x in nums %}{{ x }}\n{% endfor %}  {% if t %} y{% endif %}","{# a #}  {% if t %} y{% endif %}","{# a #}\n  {% if t %} y{% endif %}","{% if t %}{% if t %}\n  {% endif %}{% endif %}z","{{ i }}  {% if t %}\n y{% endif %}","{#-#} x","{# {{ i }} {% if %} #}y","{{-i-}}","{{+i}}","a {%- raw_is_text %}"[:3]]
rules=[l.replace('⏎','\n') for l in T.strip('\n').split('\n')]
with open(sys.argv[1],'w') as f:
    f.write(json.dumps({"context":C},ensure_ascii=False)+"\n")
    for src in rules+L:
        kind,val=run(src,C)
        if kind=='syntax': print("SYNTAX",src,val); continue
        f.write(json.dumps({"source":src,("rendered" if kind=='ok' else 'error'):val},ensure_ascii=False)+"\n")
