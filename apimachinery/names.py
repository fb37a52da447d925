"""Names and formats that API fields must have (apimachinery pkg/util/validation).

Every ``is_*`` function returns upstream's messages, an empty list when the value is fine.
``prefix=True`` checks a ``generateName``: a trailing dash is allowed because a random suffix
follows (api/validation's maskTrailingDash).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from pilothouse.apimachinery.ipaddresses import (
    is_valid_cidr as is_valid_cidr,
)
from pilothouse.apimachinery.ipaddresses import (
    is_valid_cidr_for_legacy_field as is_valid_cidr_for_legacy_field,
)
from pilothouse.apimachinery.ipaddresses import (
    is_valid_interface_address as is_valid_interface_address,
)
from pilothouse.apimachinery.ipaddresses import (
    is_valid_ip as is_valid_ip,
)
from pilothouse.apimachinery.ipaddresses import (
    is_valid_ip_for_legacy_field as is_valid_ip_for_legacy_field,
)

if TYPE_CHECKING:
    import random

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + "(\\." + _LABEL + ")*"
_SUBDOMAIN_UNDERSCORE = _LABEL_UNDERSCORE + "(\\." + _LABEL_UNDERSCORE + ")*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_WILDCARD = "\\*\\." + _SUBDOMAIN
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = "(" + _KEY + ")?"
_C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
_ENV_VAR = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"
_HTTP_PATH = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+"
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = "(" + _SYSCTL_SEGMENT + "[\\./])*" + _SYSCTL_SEGMENT

_RE_LABEL = re.compile(_LABEL)
_RE_SUBDOMAIN = re.compile(_SUBDOMAIN)
_RE_SUBDOMAIN_CASELESS = re.compile(_SUBDOMAIN, re.IGNORECASE | re.ASCII)
_RE_SUBDOMAIN_UNDERSCORE = re.compile(_SUBDOMAIN_UNDERSCORE)
_RE_DNS1035 = re.compile(_DNS1035)
_RE_WILDCARD = re.compile(_WILDCARD)
_RE_KEY = re.compile(_KEY)
_RE_VALUE = re.compile(_VALUE)
_RE_C_IDENTIFIER = re.compile(_C_IDENTIFIER)
_RE_ENV_VAR = re.compile(_ENV_VAR)
_RE_CONFIG_KEY = re.compile(_CONFIG_KEY)
_RE_HEADER = re.compile(_HEADER)
_RE_PERCENT = re.compile(_PERCENT)
_RE_HTTP_PATH = re.compile(_HTTP_PATH)
_RE_SYSCTL = re.compile(_SYSCTL)
_RE_DECIMAL = re.compile("0|-?[1-9][0-9]*")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_SUBDOMAIN_CASELESS_TEXT = (
    "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character"
)
_SUBDOMAIN_UNDERSCORE_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', "
    "'-' or '.', and must start and end with an alphanumeric character"
)
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character"
)
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
    "which must consist of lower case alphanumeric characters, '-' or '.' and end with an "
    "alphanumeric character"
)
_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character"
)
_VALUE_TEXT = "a valid label must be an empty string or consist of" + _KEY_TEXT[15:]
_C_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of "
    "alphanumeric characters or '_'"
)
_ENV_VAR_TEXT = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', "
    "or '.', and must not start with a digit"
)
_RELAXED_ENV_VAR_TEXT = (
    "a valid environment variable name must consist only of printable ASCII characters other "
    "than '='"
)
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_HEADER_TEXT = "a valid HTTP header must consist of alphanumeric characters or '-'"
_PERCENT_TEXT = "a valid percent string must be a numeric string followed by an ending '%'"
_DECIMAL_TEXT = "must be a valid decimal integer in canonical form"

RANDOM_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MAX_GENERATED_NAME_LENGTH = 58


def generate_name(base: str, random: random.Random) -> str:
    """``base``, cut to 58 bytes, and five random characters (SimpleNameGenerator)."""
    if len(base) > MAX_GENERATED_NAME_LENGTH:
        base = base[:MAX_GENERATED_NAME_LENGTH]
    return base + random_string(5, random)


def random_string(length: int, random: random.Random) -> str:
    """utilrand.String: no vowels, nothing that looks alike."""
    return "".join(random.choices(RANDOM_ALPHABET, k=length))


def max_len_error(length: int) -> str:
    return f"must be no more than {length} characters"


def max_bytes_error(length: int) -> str:
    """api/validate/content's MaxLenError, which label keys and values use."""
    return f"must be no more than {length} bytes"


def regex_error(message: str, pattern: str, *examples: str) -> str:
    if examples:
        shown = " or ".join(f"'{example}', " for example in examples)
        return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"
    return f"{message} (regex used for validation is '{pattern}')"


def empty_error() -> str:
    return "must be non-empty"


def inclusive_range_error(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def mask_trailing_dash(name: str) -> str:
    """A generateName with its last dash replaced, so that the name rules apply to it."""
    return name[:-2] + "a" if len(name) > 1 and name.endswith("-") else name


def _longer(value: str, limit: int) -> bool:
    """Go counts bytes."""
    return len(value) > limit or (not value.isascii() and len(value.encode()) > limit)


def is_dns1123_label(value: str, *, prefix: bool = False) -> list[str]:
    if prefix:
        value = mask_trailing_dash(value)
    matched = _RE_LABEL.fullmatch(value) is not None
    if matched and len(value) <= 63:
        return []
    errors = [max_len_error(63)] if _longer(value, 63) else []
    if not matched:
        if _RE_SUBDOMAIN.fullmatch(value):
            errors.append("must not contain dots")
        else:
            errors.append(regex_error(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return errors


def is_dns1123_subdomain(value: str, *, prefix: bool = False) -> list[str]:
    if prefix:
        value = mask_trailing_dash(value)
    matched = _RE_SUBDOMAIN.fullmatch(value) is not None
    if matched and len(value) <= 253:
        return []
    errors = [max_len_error(253)] if _longer(value, 253) else []
    if not matched:
        errors.append(regex_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return errors


def is_dns1123_subdomain_caseless(value: str, *, prefix: bool = False) -> list[str]:
    if prefix:
        value = mask_trailing_dash(value)
    errors = [max_bytes_error(253)] if _longer(value, 253) else []
    if not _RE_SUBDOMAIN_CASELESS.fullmatch(value):
        errors.append(regex_error(_SUBDOMAIN_CASELESS_TEXT, _SUBDOMAIN, "Example.com"))
    return errors


def is_dns1123_subdomain_with_underscore(value: str, *, prefix: bool = False) -> list[str]:
    if prefix:
        value = mask_trailing_dash(value)
    errors = [max_len_error(253)] if _longer(value, 253) else []
    if not _RE_SUBDOMAIN_UNDERSCORE.fullmatch(value):
        text = regex_error(_SUBDOMAIN_UNDERSCORE_TEXT, _SUBDOMAIN_UNDERSCORE, "example.com")
        errors.append(text)
    return errors


def is_dns1035_label(value: str, *, prefix: bool = False) -> list[str]:
    if prefix:
        value = mask_trailing_dash(value)
    errors = [max_len_error(63)] if _longer(value, 63) else []
    if not _RE_DNS1035.fullmatch(value):
        errors.append(regex_error(_DNS1035_TEXT, _DNS1035, "my-name", "abc-123"))
    return errors


def is_wildcard_dns1123_subdomain(value: str, *, prefix: bool = False) -> list[str]:
    errors = [max_len_error(253)] if _longer(value, 253) else []
    if not _RE_WILDCARD.fullmatch(value):
        errors.append(regex_error(_WILDCARD_TEXT, _WILDCARD, "*.example.com"))
    return errors


def is_path_segment_name(value: str, *, prefix: bool = False) -> list[str]:
    """Safe as one segment of a URL path (path.IsValidPathSegmentName); may be empty."""
    if not prefix and value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{illegal}'" for illegal in "/%" if illegal in value]


def is_qualified_name(value: str, *, prefix: bool = False) -> list[str]:
    """A label key: ``name`` or ``dns.prefix/name``."""
    return list(_qualified_name_errors(value))


is_label_key = is_qualified_name


@lru_cache(maxsize=4096)
def _qualified_name_errors(value: str) -> tuple[str, ...]:
    parts = value.split("/")
    explained = regex_error(_KEY_TEXT, _KEY, "MyName", "my.name", "123-abc")
    errors: list[str] = []
    if len(parts) > 2:
        return (
            f"a valid label key {explained} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    name = parts[-1]
    if len(parts) == 2:
        if not parts[0]:
            errors.append("prefix part " + empty_error())
        else:
            if _longer(parts[0], 253):
                errors.append("prefix part " + max_bytes_error(253))
            if not _RE_SUBDOMAIN.fullmatch(parts[0]):
                text = regex_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com")
                errors.append("prefix part " + text)
    if not name:
        errors.append("name part " + empty_error())
    elif _longer(name, 63):
        errors.append("name part " + max_bytes_error(63))
    if not _RE_KEY.fullmatch(name):
        errors.append("name part " + explained)
    return tuple(errors)


def is_prefixed_label_key(value: str, *, prefix: bool = False) -> list[str]:
    """A label key with a domain: ``example.com/key``."""
    errors = is_qualified_name(value)
    if not errors and "/" not in value:
        return ["must include a prefix (e.g. 'example.com/key')"]
    return errors


def is_valid_label_value(value: str, *, prefix: bool = False) -> list[str]:
    matched = _RE_VALUE.fullmatch(value) is not None
    if matched and len(value) <= 63:
        return []
    errors = [max_bytes_error(63)] if _longer(value, 63) else []
    if not matched:
        errors.append(regex_error(_VALUE_TEXT, _VALUE, "MyValue", "my_value", "12345"))
    return errors


def is_c_identifier(value: str, *, prefix: bool = False) -> list[str]:
    if _RE_C_IDENTIFIER.fullmatch(value):
        return []
    return [regex_error(_C_IDENTIFIER_TEXT, _C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def is_decimal_integer(value: str, *, prefix: bool = False) -> list[str]:
    if not value:
        return [empty_error()]
    return [] if _RE_DECIMAL.fullmatch(value) else [_DECIMAL_TEXT]


def _change_dir_errors(value: str) -> list[str]:
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def is_env_var_name(value: str, *, prefix: bool = False) -> list[str]:
    errors: list[str] = []
    if not _RE_ENV_VAR.fullmatch(value):
        examples = ("my.env-name", "MY_ENV.NAME", "MyEnvName1")
        errors.append(regex_error(_ENV_VAR_TEXT, _ENV_VAR, *examples))
    return errors + _change_dir_errors(value)


def is_relaxed_env_var_name(value: str, *, prefix: bool = False) -> list[str]:
    """The rule since v1.30: printable ASCII without ``=``."""
    if not value:
        return ["environment variable name " + empty_error()]
    fine = all(" " <= c <= "~" and c != "=" for c in value)
    return [] if fine else [_RELAXED_ENV_VAR_TEXT]


def is_config_map_key(value: str, *, prefix: bool = False) -> list[str]:
    errors = [max_len_error(253)] if _longer(value, 253) else []
    if not _RE_CONFIG_KEY.fullmatch(value):
        examples = ("key.name", "KEY_NAME", "key-name")
        errors.append(regex_error(_CONFIG_KEY_TEXT, _CONFIG_KEY, *examples))
    return errors + _change_dir_errors(value)


def is_sysctl_name(value: str, *, prefix: bool = False) -> list[str]:
    """A sysctl in dotted or slashed form (core validation's IsValidSysctlName)."""
    if not _longer(value, 253) and _RE_SYSCTL.fullmatch(value):
        return []
    return [f"must have at most 253 characters and match regex ^{_SYSCTL}$"]


def is_http_header_name(value: str, *, prefix: bool = False) -> list[str]:
    if _RE_HEADER.fullmatch(value):
        return []
    return [regex_error(_HEADER_TEXT, _HEADER, "X-Header-Name")]


def is_http_path(value: str, *, prefix: bool = False) -> list[str]:
    """The part after the domain of a domain-prefixed path."""
    return [] if _RE_HTTP_PATH.fullmatch(value) else [regex_error("Invalid path", _HTTP_PATH)]


def is_valid_percent(value: str, *, prefix: bool = False) -> list[str]:
    if _RE_PERCENT.fullmatch(value):
        return []
    return [regex_error(_PERCENT_TEXT, _PERCENT, "1%", "93%")]


def is_in_range(value: int, low: int, high: int) -> list[str]:
    return [] if low <= value <= high else [inclusive_range_error(low, high)]


def is_valid_port_num(value: int, *, prefix: bool = False) -> list[str]:
    return is_in_range(value, 1, 65535)


def is_valid_user_id(value: int) -> list[str]:
    return is_in_range(value, 0, 0x7FFFFFFF)


is_valid_group_id = is_valid_user_id


def is_valid_port_name(value: str, *, prefix: bool = False) -> list[str]:
    errors = [max_len_error(15)] if _longer(value, 15) else []
    if not re.fullmatch("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors
