"""String formats of CRD schemas (kube-openapi strfmt): names → checks.

``known_format`` says which formats count for a type; others are ignored, with a warning when
the CRD is written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit

from pilothouse.apiserver.apiextensions.go_regexp import compile_go

_UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?%s-?%s-?[0-9a-f]{12}$"
_HEX4 = "[0-9a-f]{4}"
_PATTERNS = {
    "uuid": _UUID % (_HEX4, _HEX4),
    "uuid3": _UUID % ("3[0-9a-f]{3}", _HEX4),
    "uuid4": _UUID % ("4[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
    "uuid5": _UUID % ("5[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
    "hexcolor": r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$",
    "rgbcolor": r"^rgb\(\s*({0})\s*,\s*({0})\s*,\s*({0})\s*\)$".format(
        r"0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5]"
    ),
    "byte": r"^(?:[A-Za-z0-9+\/]{4})*"
    r"(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$",
    "bsonobjectid": r"^[0-9a-fA-F]{24}$",
}
_CREDIT_CARD = (
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$"
)
_SHORT_NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOSTNAME = (
    r"^([{0}]((-?[{0}]{{0,62}})?)|([{0}](([\-{0}]{{0,61}}[{0}])?)(\.)){{1,}}([{1}]){{2,63}})$"
)
_ASCII_HOSTNAME = _HOSTNAME.format("a-zA-Z0-9$+<=>^`|~", "a-zA-Z")
_ANY_HOSTNAME = _HOSTNAME.format(r"a-zA-Z0-9\p{S}\p{L}", r"a-zA-Z\p{L}")
"""Building the classes of all letters and symbols takes a while: only for who needs them."""
_TIME = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"
_GO_DURATION = re.compile(r"[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_LOOSE_DURATION = re.compile(r"(\d+)\s*([A-Za-zµ]+)", re.ASCII)
_UNITS = (
    ("ns", "nano"),
    ("us", "µs", "micro"),
    ("ms", "milli"),
    ("s", "sec"),
    ("m", "min"),
    ("h", "hr", "hour"),
    ("d", "day"),
    ("w", "wk", "week"),
)
_BY_TYPE = {"integer": ("int32", "int64"), "number": ("float", "double")}


def normalized(name: str) -> str:
    return name.replace("-", "")


def known_format(name: str, type_: str) -> bool:
    """Whether ``name`` means something for values of ``type_`` ("" for any)."""
    if type_ in ("", "string"):
        return normalized(name) in FORMATS
    return name in _BY_TYPE.get(type_, ())


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: compile_go(pattern).search(text) is not None


def _is_uri(text: str) -> bool:
    """url.ParseRequestURI."""
    if not text or any(ord(c) < 0x20 or ord(c) == 0x7F for c in text) or " " in text:
        return False
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return False
    if text == "*" or text.startswith("/"):
        return True
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return False
    try:
        parts = urlsplit(text)
        if parts.port is not None and parts.port < 0:
            return False
    except ValueError:
        return False
    return parts.path.startswith("/") or bool(parts.netloc) or "//" in text or not parts.path


def _is_email(text: str) -> bool:
    address = re.fullmatch(r'(?:[^<>@"]*|"[^"]*"\s*)<([^<>]+)>', text)
    plain = address[1] if address else text
    local, _, domain = plain.strip().rpartition("@")
    if not local or not domain or len(local) > 256:
        return False
    atom = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
    quoted = r'"(?:[^"\\\r\n]|\\.)*"'
    return bool(
        re.fullmatch(rf"(?:{atom}(?:\.{atom})*|{quoted})", local)
        and re.fullmatch(rf"(?:{atom}(?:\.{atom})*|\[[^\[\]\s]+\])", domain)
    )


@lru_cache(maxsize=1024)
def _is_hostname(text: str) -> bool:
    pattern = _ASCII_HOSTNAME if text.isascii() else _ANY_HOSTNAME
    if compile_go(pattern).search(text) is None or len(text.encode()) > 255:
        return False
    return all(len(part.encode()) <= 63 for part in text.split("."))


def _sloppy(text: str) -> str:
    """Leading zeros of IPv4 numbers are allowed and ignored."""
    return re.sub(r"(?<![0-9A-Fa-f:])0+(?=[0-9])", "", text) if "." in text else text


def _parses(function: Callable[[str], object], text: str) -> bool:
    try:
        function(text)
    except ValueError:
        return False
    return True


def _is_ipv4(text: str) -> bool:
    return "." in text and "%" not in text and _parses(ipaddress.ip_address, _sloppy(text))


def _is_ipv6(text: str) -> bool:
    return ":" in text and "%" not in text and _parses(ipaddress.ip_address, text)


def _is_cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or "%" in address:
        return False
    try:
        parsed = ipaddress.ip_address(_sloppy(address))
    except ValueError:
        return False
    return int(length) <= parsed.max_prefixlen


def _is_mac(text: str) -> bool:
    for separator, size in ((":", 2), ("-", 2), (".", 4)):
        parts = text.split(separator)
        if len(parts) * size // 2 in (6, 8, 20) and all(
            re.fullmatch(rf"[0-9A-Fa-f]{{{size}}}", part) for part in parts
        ):
            return True
    return False


def _is_isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"(?:[0-9]{9}X|[0-9]{10})", digits):
        return False
    total = sum((i + 1) * int(d) for i, d in enumerate(digits[:9]))
    return (total + 10 * (10 if digits[9] == "X" else int(digits[9]))) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"[0-9]{13}", digits):
        return False
    total = sum((1, 3)[i % 2] * int(d) for i, d in enumerate(digits[:12]))
    return int(digits[12]) == (10 - total % 10) % 10


def _is_credit_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if compile_go(_CREDIT_CARD).search(digits) is None:
        return False
    total = 0
    for index, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if index % 2 else 1)
        total += number % 10 + 1 if number >= 10 else number
    return total % 10 == 0


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    if text.startswith("0000"):
        text = "0004" + text[4:]
    return _parses(lambda value: datetime.strptime(value, "%Y-%m-%d"), text)


def _is_date_time(text: str) -> bool:
    parts = text.lower().split("t")
    if len(text) < 4 or len(parts) < 2 or not _is_date(parts[0]):
        return False
    match = compile_go(_TIME).search(parts[1])
    return match is not None and match[1] <= "23" and match[2] <= "59" and match[3] <= "59"


def _is_duration(text: str) -> bool:
    if _GO_DURATION.fullmatch(text):
        return True
    for _, unit in _LOOSE_DURATION.findall(text):
        unit = unit.lower()
        for variants in _UNITS:
            if unit in variants or unit.startswith(variants[-1]):
                return True
    return False


def _is_short_name(text: str) -> bool:
    return len(text) <= 63 and re.fullmatch(_SHORT_NAME, text) is not None


def _is_long_name(text: str) -> bool:
    long_name = rf"{_SHORT_NAME}(\.{_SHORT_NAME})*"
    return len(text) <= 253 and re.fullmatch(long_name, text) is not None


FORMATS: dict[str, Callable[[str], bool]] = {
    **{name: _matches(pattern) for name, pattern in _PATTERNS.items()},
    "uri": _is_uri,
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "cidr": _is_cidr,
    "mac": _is_mac,
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_credit_card,
    "ssn": lambda text: (
        len(text) == 11 and re.fullmatch(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}", text) is not None
    ),
    "password": lambda text: True,
    "date": _is_date,
    "duration": _is_duration,
    "datetime": _is_date_time,
    "k8sshortname": _is_short_name,
    "k8slongname": _is_long_name,
}
